//! On which of this host's addresses node ports are served: `--nodeport-addresses`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::types::IpFamily;

/// The option's value. The default, nothing given, is every local address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortAddresses(Vec<Matching>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matching {
    /// The Node's primary address of each family.
    Primary,
    /// 127.0.0.0/8 and ::1.
    Localhost,
    /// Everything, in both families.
    All,
    Cidr(IpNet),
}

/// An entry that is none of the forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNodePortAddress(String);

impl fmt::Display for InvalidNodePortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.0;
        write!(
            f,
            "invalid node port address {entry:?}: give a CIDR (for one address IP/32 or IP/128), primary, localhost or all"
        )
    }
}

impl std::error::Error for InvalidNodePortAddress {}

/// The addresses of one family on which node ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortIps {
    /// Every address, also those that come later: one wildcard listener does.
    pub match_all: bool,
    /// The local addresses that match now.
    pub ips: Vec<IpAddr>,
}

impl NodePortAddresses {
    /// Parses the entries of the option or of the configuration file.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidNodePortAddress> {
        let parse = |entry: &S| {
            let entry = entry.as_ref().trim();
            match entry {
                "primary" => Ok(Matching::Primary),
                "localhost" => Ok(Matching::Localhost),
                "all" => Ok(Matching::All),
                cidr => IpNet::from_str(cidr)
                    .map(Matching::Cidr)
                    .map_err(|_| InvalidNodePortAddress(entry.to_owned())),
            }
        };
        Ok(Self(entries.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// True if nothing was given, so that a default may take its place.
    pub fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of this host's addresses match in one family. `primary` are the Node's primary addresses.
    ///
    /// A family without any entry is served everywhere: `10.0.0.0/8` alone says nothing about IPv6.
    pub fn resolve(&self, family: IpFamily, local: &[IpAddr], primary: &[IpAddr]) -> NodePortIps {
        let cidrs = self.cidrs(family, primary);
        let match_all = cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.prefix_len() == 0);
        let matches = |ip: &&IpAddr| {
            IpFamily::of(**ip) == family
                && (match_all || cidrs.iter().any(|cidr| cidr.contains(*ip)))
        };
        NodePortIps {
            match_all,
            ips: local.iter().filter(matches).copied().collect(),
        }
    }

    /// Whether IPv4 loopback addresses may be among those that match.
    pub fn contains_ipv4_loopback(&self) -> bool {
        let loopback = IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
        let cidrs = self.cidrs(IpFamily::V4, &[]);
        let primary_only = cidrs.is_empty() && self.0.contains(&Matching::Primary);
        !primary_only && cidrs.is_empty()
            || cidrs
                .iter()
                .any(|cidr| cidr.contains(&loopback) || loopback.contains(cidr))
    }

    fn cidrs(&self, family: IpFamily, primary: &[IpAddr]) -> Vec<IpNet> {
        let mut cidrs = Vec::new();
        for entry in &self.0 {
            match entry {
                // A loopback address stands for a Node whose address is not known.
                Matching::Primary => {
                    let known = primary.iter().filter(|ip| !ip.is_loopback());
                    cidrs.extend(known.copied().map(IpNet::from));
                }
                Matching::Localhost => cidrs.extend(loopback_nets()),
                Matching::All => {
                    cidrs.extend(IpFamily::ALL.map(|f| IpNet::new_assert(f.unspecified(), 0)))
                }
                Matching::Cidr(cidr) => cidrs.push(*cidr),
            }
        }
        cidrs.retain(|cidr| IpFamily::of(cidr.addr()) == family);
        cidrs
    }
}

/// Addresses that are this host's on every host.
pub(super) fn loopback_nets() -> [IpNet; 2] {
    [
        IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
    ]
}
