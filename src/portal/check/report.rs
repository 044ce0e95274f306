//! From findings to lines. Pure.

use std::fmt;

use super::findings::{Findings, Trial};
use super::line::{Line, Verdict, missing, note, ok};
use crate::portal::forward;
use crate::types::PortalKind;

/// The answer of `portico check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One for each thing looked at.
    pub(crate) lines: Vec<Line>,
    /// The portal that would be used; of the kind asked for even if it would not work.
    pub kind: PortalKind,
    /// Whether it would work.
    pub usable: bool,
}

impl Check {
    /// Nothing is missing.
    pub(crate) fn complete(&self) -> bool {
        let mut lines = self.lines.iter();
        self.usable && lines.all(|line| line.verdict != Verdict::Missing)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Turns findings into lines.
pub(crate) fn report(wanted: PortalKind, found: &Findings) -> Check {
    let kind = match wanted {
        PortalKind::Auto if found.netns.works() => PortalKind::Netns,
        PortalKind::Auto if found.host.works() => PortalKind::Host,
        PortalKind::Auto => PortalKind::None,
        named => named,
    };
    let (mut lines, mut usable) = (Vec::new(), true);
    if matches!(wanted, PortalKind::Auto | PortalKind::Netns) {
        lines.push(trial("netns", &found.netns));
        usable &= kind != PortalKind::Netns || found.netns.works();
    }
    if kind != PortalKind::Netns && wanted != PortalKind::None {
        lines.push(trial("host", &found.host));
        usable &= kind != PortalKind::Host || found.host.works();
    }
    let trial = match kind {
        PortalKind::Netns => Some(&found.netns),
        PortalKind::Host => Some(&found.host),
        PortalKind::None | PortalKind::Auto => None,
    };
    lines.extend(trial.map(abilities).into_iter().flatten());
    lines.push(low_ports(found.low_ports.as_deref()));
    lines.extend(found.open_files.map(open_files));
    if kind == PortalKind::Netns {
        lines.extend(forwarding(found.forwarding));
        lines.extend(firewall(found.dropping_chains.as_deref()));
        lines.extend(found.rp_filter.map(rp_filter));
    }
    lines.extend(found.foreign.lines());
    if found.running {
        lines.push(note(
            "another portico runs on this host: a second one would not start".to_owned(),
        ));
    } else if found.leftovers {
        lines.push(note(
            "an earlier portico left its link, routes or rules: the next start removes them, and so does portico \
             --cleanup"
                .to_owned(),
        ));
    }
    lines.push(verdict(kind, usable));
    Check {
        lines,
        kind,
        usable,
    }
}

fn trial(name: &str, trial: &Trial) -> Line {
    match trial {
        Trial::Carried { microseconds, .. } => ok(format!(
            "portal {name}: a throw-away one carried a TCP connection, in {microseconds} us"
        )),
        Trial::Failed(error) => missing(format!("portal {name}: {error}")),
        Trial::Silent(error) => missing(format!(
            "portal {name}: a throw-away one opened, but carried no TCP connection: {error}"
        )),
        Trial::NotTried(why) => note(format!("portal {name}: not tried, as {why}")),
    }
}

/// What the portal that would be used can and cannot do.
fn abilities(trial: &Trial) -> Vec<Line> {
    let Trial::Carried { by_port, v6, .. } = trial else {
        return Vec::new();
    };
    let by_port = match by_port {
        true => ok("policy routing by port: external and load-balancer IPs are captured on their service ports \
                    alone"
            .to_owned()),
        false => missing(
            "policy routing by port: the kernel lacks CONFIG_IP_MULTIPLE_TABLES or is older than 4.17; external and \
             load-balancer IPs are captured whole, or not at all if they are more than that"
                .to_owned(),
        ),
    };
    let v6 = match v6 {
        true => ok("IPv6: carried a connection too".to_owned()),
        false => {
            note("IPv6: does not work on this host, so IPv6 virtual IPs are not served".to_owned())
        }
    };
    vec![by_port, v6]
}

fn low_ports(error: Option<&str>) -> Line {
    match error {
        None => ok("ports below 1024 can be listened on".to_owned()),
        Some(error) => missing(format!(
            "ports below 1024 cannot be listened on ({error}): grant CAP_NET_BIND_SERVICE or lower \
             net.ipv4.ip_unprivileged_port_start"
        )),
    }
}

fn open_files((_, hard): (u64, u64)) -> Line {
    /// A listener each, and two sockets and two pipes for each connection.
    const COMFORTABLE: u64 = 65536;
    let text = format!("open files: {hard} at most (the soft limit is raised to that)");
    match hard >= COMFORTABLE {
        true => ok(text),
        false => note(format!(
            "{text}; every service port takes one, every connection two to six: for more set LimitNOFILE"
        )),
    }
}

fn forwarding(families: [Option<bool>; 2]) -> Vec<Line> {
    let settings = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
    let mut lines = Vec::new();
    for (setting, forwards) in settings.into_iter().zip(families) {
        lines.push(match forwards {
            Some(true) => ok(format!("{setting} is on")),
            Some(false) => note(format!(
                "{setting} is off: virtual IPs work from this host alone, not from pods and other machines; set it to 1"
            )),
            None => note(format!("{setting} cannot be seen; pods reach virtual IPs only if it is 1")),
        });
    }
    lines
}

fn firewall(dropping_chains: Option<&[String]>) -> Vec<Line> {
    match dropping_chains {
        None => vec![note(
            "packets from pods to virtual IPs pass the FORWARD hook, and the firewall's rules cannot be seen: one that \
             drops there must let vethportico pass"
                .to_owned(),
        )],
        Some([]) => vec![ok(
            "no chain of nftables drops forwarded packets by its policy; a rule that drops some must let vethportico pass"
                .to_owned(),
        )],
        Some(chains) => chains
            .iter()
            .map(|chain| note(forward::advice(chain)))
            .collect(),
    }
}

fn rp_filter(all: u8) -> Line {
    match all {
        0 => ok("net.ipv4.conf.all.rp_filter is 0".to_owned()),
        other => note(format!(
            "net.ipv4.conf.all.rp_filter is {other}, also for our link: at externalIPs and load balancer IPs, UDP ports \
             without endpoints are silent instead of refused; 0 leaves the choice to each link"
        )),
    }
}

fn verdict(kind: PortalKind, usable: bool) -> Line {
    match (kind, usable) {
        (PortalKind::None, _) => note(
            "the portal none would be used: only node ports, and virtual IPs that are addresses of this host, are \
             served"
                .to_owned(),
        ),
        (kind, true) => ok(format!("the portal {kind} would be used")),
        (kind, false) => missing(format!("the portal {kind} would not work")),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
