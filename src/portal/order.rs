//! In which order tables are asked, once single ports are captured.
//!
//! ```text
//! host    90 one port of one address: our table    89 what comes from the portal skips those    91 where it goes on
//! portal  100 what the namespace itself sends: main, where it finds the way back    200 local, moved there from 0
//! ```
//!
//! Without the former, a reply to a client's port that is captured at the client's own address would come back to the
//! portal; without the latter, an external IP that is a client's own address would keep everything for that client inside.

use super::marks::LINK;
use super::netlink::{RuleVerdict, StandingRule, TABLE_LOCAL, TABLE_MAIN};
use crate::types::IpFamily;

/// Before main (32766) and the rules of CNI plugins for pods' traffic, which start at 100; after local (0).
pub(super) const PORTS: u32 = 90;

const BEFORE_PORTS: u32 = PORTS - 1;
const AFTER_PORTS: u32 = PORTS + 1;
const INSIDE_OWN: u32 = 100;
const INSIDE_LOCAL: u32 = 200;

/// Beside the rules for ports, on the host of a portal in a namespace of its own; the target of a jump before the jump.
pub(super) fn on_host(family: IpFamily) -> [StandingRule; 2] {
    let target = StandingRule {
        family,
        from: None,
        verdict: RuleVerdict::Nothing,
        priority: AFTER_PORTS,
        ours: true,
    };
    let jump = StandingRule {
        from: Some(LINK),
        verdict: RuleVerdict::Goto(AFTER_PORTS),
        priority: BEFORE_PORTS,
        ..target
    };
    [target, jump]
}

/// In the portal's namespace.
pub(super) fn inside(family: IpFamily) -> [StandingRule; 2] {
    let local = StandingRule {
        family,
        from: None,
        verdict: RuleVerdict::Lookup(TABLE_LOCAL),
        priority: INSIDE_LOCAL,
        ours: true,
    };
    let own = StandingRule {
        from: Some("lo"),
        verdict: RuleVerdict::Lookup(TABLE_MAIN),
        priority: INSIDE_OWN,
        ..local
    };
    [local, own]
}

/// The kernel's own, which is to go once those of [`inside`] are there.
pub(super) fn inside_before(family: IpFamily) -> StandingRule {
    StandingRule {
        family,
        from: None,
        verdict: RuleVerdict::Lookup(TABLE_LOCAL),
        priority: 0,
        ours: false,
    }
}
