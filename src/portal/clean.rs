//! Removing what carries our marks.

use std::fmt;

use super::error::Error;
use super::fabric::first_error;
use super::marks::LINK;
use super::netlink::{Netlink, Request};
use super::order;
use crate::types::IpFamily;

/// Removes everything on the host that carries our marks: the link first, which takes most routes along.
pub(super) fn clean(host: &mut Netlink) -> Result<Report, Error> {
    let failed = |error| Error::net_admin("remove what an earlier run left", error);
    let mut report = Report::default();
    for family in IpFamily::ALL {
        let rules = host.our_rules(family).map_err(failed)?;
        report.rules += rules.len();
        first_error(host.batch(rules.iter().map(Request::delete_rule))).map_err(failed)?;
    }
    for family in IpFamily::ALL {
        // Each of those that are not there fails, and where there are no rules all do.
        let standing = order::on_host(family);
        let gone = host.batch(standing.iter().map(Request::delete_standing_rule));
        report.rules += gone.iter().filter(|result| result.is_ok()).count();
    }
    for family in IpFamily::ALL {
        report.routes += host.our_routes(family).map_err(failed)?.len();
    }
    if let Some(link) = host.link(LINK).map_err(failed)? {
        report.link = true;
        let gone = host.request(Request::delete_link_index(link.index));
        first_error(vec![gone]).map_err(failed)?;
    }
    for family in IpFamily::ALL {
        let routes = host.our_routes(family).map_err(failed)?;
        first_error(host.batch(routes.iter().map(Request::delete_route))).map_err(failed)?;
    }
    Ok(report)
}

/// What was removed from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether there was a link `vethportico`.
    pub(crate) link: bool,
    /// Routes with our mark.
    pub(crate) routes: usize,
    /// Rules with our mark.
    pub rules: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self {
                link: false,
                routes: 0,
                rules: 0,
            } => write!(f, "nothing of ours was there"),
            Self {
                link,
                routes,
                rules,
            } => {
                let link = if link { "the link vethportico, " } else { "" };
                write!(f, "removed {link}{routes} routes and {rules} rules")
            }
        }
    }
}
