//! The requests we make and the objects we read, as values. What they are in bytes, `write` and `read` know.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use ipnet::IpNet;

use crate::types::{IpFamily, Protocol};

/// The routing table that everyone looks into.
pub(crate) const TABLE_MAIN: u32 = 254;
/// The routing table of what is delivered here.
pub(crate) const TABLE_LOCAL: u32 = 255;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// One change to ask of the kernel.
#[derive(Clone, Debug)]
pub struct Request(pub(super) Action);

/// What a request says. Plain values, since thousands may wait for their turn.
#[derive(Clone, Debug)]
pub(super) enum Action {
    AddVeth(Box<OwnedVeth>),
    DeleteLink(u32),
    LinkUp(u32),
    LinkSettings(u32, LinkSettings),
    LinkWithoutAddresses(u32),
    AddAddress(u32, IpAddr),
    SetNeighbour(u32, IpAddr, Mac),
    AddRoute(Route),
    ReplaceRoute(Route),
    DeleteRoute(Route),
    AddRule(Rule),
    DeleteRule(Rule),
    AddStandingRule(StandingRule),
    DeleteStandingRule(StandingRule),
}

/// A [`Veth`] that can wait.
#[derive(Clone, Debug)]
pub(super) struct OwnedVeth {
    pub(crate) near: (String, Mac),
    pub(crate) far: (String, Mac),
    pub(crate) namespace: RawFd,
    pub(crate) mtu: u32,
}

/// A pair of virtual Ethernet links; the peer appears in another namespace.
pub(crate) struct Veth<'a> {
    /// Our end's name and address.
    pub(crate) near: (&'a str, Mac),
    /// The other end's.
    pub(crate) far: (&'a str, Mac),
    /// The namespace of the other end.
    pub(crate) namespace: BorrowedFd<'a>,
    /// For both.
    pub(crate) mtu: u32,
}

/// Settings of one link that need no /proc/sys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkSettings {
    /// `net.ipv4.conf.<link>.forwarding`
    pub(crate) forwarding: Option<bool>,
    /// `net.ipv4.conf.<link>.rp_filter`
    pub(crate) rp_filter: Option<u32>,
}

/// What we read of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Administratively up.
    pub(crate) up: bool,
    /// Up in every respect, carrier included: what is sent now is not lost.
    pub(crate) operational: bool,
    /// 0 if unknown.
    pub(crate) mtu: u32,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address itself, not the peer's.
    pub ip: IpAddr,
    /// The length of its subnet's prefix.
    pub(crate) prefix_len: u8,
    /// The link's number.
    pub link: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A neighbour on that link, which need not be in any subnet of ours.
    Gateway(IpAddr, u32),
    /// Delivered here; the link is lo.
    Local(u32),
    /// Dropped without a word.
    Blackhole,
    /// Anything else, when read from others' routes.
    Other,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Its destination.
    pub net: IpNet,
    /// The table that holds it.
    pub table: u32,
    /// Where it leads.
    pub via: Via,
    /// The preferred source address of what this host sends there.
    pub source: Option<IpAddr>,
}

/// A rule that sends one port of one address into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The destination address and port.
    pub(crate) addr: SocketAddr,
    /// The protocol the port belongs to.
    pub(crate) protocol: Protocol,
    /// Where to look for the route.
    pub(crate) table: u32,
    /// Rules are asked in ascending order.
    pub(crate) priority: u32,
}

/// A rule about every packet, or every one that comes from one link: part of an order in which tables are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandingRule {
    /// Of which packets.
    pub(crate) family: IpFamily,
    /// Where they come from; `lo` stands for what the namespace itself sends. None: from anywhere.
    pub(crate) from: Option<&'static str>,
    /// What is done about them.
    pub(crate) verdict: RuleVerdict,
    /// Rules are asked in ascending order.
    pub(crate) priority: u32,
    /// Whether it carries our mark; the kernel's own does not.
    pub(crate) ours: bool,
}

/// What a [`StandingRule`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleVerdict {
    /// Look into this table, and go on if it has no route.
    Lookup(u32),
    /// Go on at this priority.
    Goto(u32),
    /// Go on.
    Nothing,
}

impl Request {
    /// Makes a veth pair, both ends down.
    pub(crate) fn add_veth(veth: &Veth) -> Self {
        let owned = |(name, mac): (&str, Mac)| (name.to_owned(), mac);
        Self(Action::AddVeth(Box::new(OwnedVeth {
            near: owned(veth.near),
            far: owned(veth.far),
            namespace: veth.namespace.as_raw_fd(),
            mtu: veth.mtu,
        })))
    }

    /// Deletes a link, and with it everything that leads over it.
    pub(crate) fn delete_link_index(index: u32) -> Self {
        Self(Action::DeleteLink(index))
    }

    /// Brings a link up.
    pub fn link_up(index: u32) -> Self {
        Self(Action::LinkUp(index))
    }

    /// Changes IPv4 settings of a link.
    pub(crate) fn link_settings(index: u32, settings: LinkSettings) -> Self {
        Self(Action::LinkSettings(index, settings))
    }

    /// Keeps the kernel from giving the link an IPv6 address by itself.
    pub(crate) fn link_without_addresses(index: u32) -> Self {
        Self(Action::LinkWithoutAddresses(index))
    }

    /// Gives a link an address that is alone in its subnet, without asking whether anyone else has it.
    pub fn add_address(link: u32, ip: IpAddr) -> Self {
        Self(Action::AddAddress(link, ip))
    }

    /// Writes a neighbour's address down for good: it is never asked for.
    pub(crate) fn set_neighbour(link: u32, ip: IpAddr, mac: Mac) -> Self {
        Self(Action::SetNeighbour(link, ip, mac))
    }

    /// Adds a route; one of the same destination, table and metric, whoever's, makes it fail.
    pub fn add_route(route: &Route) -> Self {
        Self(Action::AddRoute(*route))
    }

    /// Adds a route or changes the one that is there.
    pub(crate) fn replace_route(route: &Route) -> Self {
        Self(Action::ReplaceRoute(*route))
    }

    /// Deletes a route of ours, whatever its source address was when it was made.
    pub fn delete_route(route: &Route) -> Self {
        Self(Action::DeleteRoute(*route))
    }

    /// Adds a rule.
    pub fn add_rule(rule: &Rule) -> Self {
        Self(Action::AddRule(*rule))
    }

    /// Deletes a rule.
    pub(crate) fn delete_rule(rule: &Rule) -> Self {
        Self(Action::DeleteRule(*rule))
    }

    /// Adds a standing rule.
    pub(crate) fn add_standing_rule(rule: &StandingRule) -> Self {
        Self(Action::AddStandingRule(*rule))
    }

    /// Deletes a standing rule.
    pub(crate) fn delete_standing_rule(rule: &StandingRule) -> Self {
        Self(Action::DeleteStandingRule(*rule))
    }
}
