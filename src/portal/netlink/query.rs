//! The objects we ask for.

use std::io;

use nix::libc::{EAFNOSUPPORT, ENODEV, EOPNOTSUPP};

use super::message::{Address, Link, Route, Rule, TABLE_MAIN};
use super::read;
use super::socket::Netlink;
use super::uapi::*;
use super::write::number;
use crate::portal::marks::PROTOCOL;
use crate::types::IpFamily;

impl Netlink {
    /// The link of that name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        match self.get_link(name) {
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(None),
            other => other,
        }
    }

    /// All links of the namespace.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        self.dump(RTM_GETLINK, &IfInfo::default().to_bytes(), read::link)
    }

    /// All addresses of the namespace, both families.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.dump(RTM_GETADDR, &IfAddr::default().to_bytes(), read::address)
    }

    /// The routes that carry our mark, in all tables.
    pub fn our_routes(&mut self, family: IpFamily) -> io::Result<Vec<Route>> {
        // Old kernels do not filter.
        self.routes(family, PROTOCOL, |header, _| header.protocol == PROTOCOL)
    }

    /// Everybody's unicast routes in the main table.
    pub(crate) fn main_routes(&mut self, family: IpFamily) -> io::Result<Vec<Route>> {
        self.routes(family, RTPROT_UNSPEC, |header, route| {
            header.kind == RTN_UNICAST && route.table == TABLE_MAIN
        })
    }

    fn routes(
        &mut self,
        family: IpFamily,
        protocol: u8,
        keep: impl Fn(&Rt, &Route) -> bool,
    ) -> io::Result<Vec<Route>> {
        let query = Rt {
            family: number(family),
            protocol,
            ..Rt::default()
        };
        let found = self.dump(RTM_GETROUTE, &query.to_bytes(), |message| {
            let (header, route) = read::route(message)?;
            keep(&header, &route).then_some(route)
        });
        missing_is_empty(found)
    }

    /// The rules that carry our mark.
    pub(crate) fn our_rules(&mut self, family: IpFamily) -> io::Result<Vec<Rule>> {
        let query = FibRule {
            family: number(family),
            ..FibRule::default()
        };
        missing_is_empty(self.dump(RTM_GETRULE, &query.to_bytes(), read::our_rule))
    }
}

/// A family that this kernel does not have, or has no rules for, has nothing to show.
fn missing_is_empty<T>(found: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match found {
        Err(e) if matches!(e.raw_os_error(), Some(EAFNOSUPPORT | EOPNOTSUPP)) => Ok(Vec::new()),
        other => other,
    }
}
