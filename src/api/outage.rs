//! What is said about contact with the apiserver: each sort of trouble once while it lasts, and what several kinds of
//! objects meet alike in one line. Pure: it says what to log, and logs nothing.

use std::collections::BTreeMap;

use super::error::{Error, Scope};

/// Sorts of trouble in one outage that are told apart; more than a server can think of.
const MOST: usize = 32;

/// A kind of object, and whether it can be done without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) kind: &'static str,
    pub(super) optional: bool,
}

/// What is known to be wrong.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The kinds that this outage has met, and whether each is still not followed.
    met: BTreeMap<&'static str, bool>,
    /// What has been said about those that cannot be done without: sorts of trouble.
    said: Vec<String>,
    /// The same of each that can.
    said_of_optional: BTreeMap<&'static str, Vec<String>>,
}

impl Outage {
    /// A kind is not followed. What to say about it; None if that has been said.
    pub(super) fn failed(&mut self, whose: Followed, error: &Error) -> Option<String> {
        let Followed { kind, optional } = whose;
        let own = optional && error.scope() == Scope::Kind;
        if !own {
            self.met.insert(kind, true);
        }
        let said = match own {
            true => self.said_of_optional.entry(kind).or_default(),
            false => &mut self.said,
        };
        let what = match error.scope() {
            Scope::Server => "the apiserver".to_owned(),
            Scope::Kind => format!("{kind}s"),
        };
        news(said, error.sort())
            .then(|| format!("cannot follow {what}, going on with what is known: {error}"))
    }

    /// The server is silent where it owes an answer. What to say about it.
    pub(super) fn silent(&mut self, kind: &'static str, server: &str) -> Option<String> {
        self.met.insert(kind, true);
        news(&mut self.said, "silence".to_owned()).then(|| {
            format!("cannot follow the apiserver, going on with what is known: {server} has not answered for 10 s; still waiting")
        })
    }

    /// A kind is followed. What to say about it, if anything.
    pub(super) fn regained(&mut self, kind: &'static str) -> Option<String> {
        let own = self.said_of_optional.remove(kind);
        let was_lost = self
            .met
            .get_mut(kind)
            .map(|lost| std::mem::replace(lost, false));
        if was_lost == Some(true) {
            // Those that still are not may say why again: it is not the same for all any more.
            self.said.clear();
            if self.met.values().any(|lost| *lost) {
                return None;
            }
            return Some(match std::mem::take(&mut self.met).len() {
                1 => format!("following {kind}s again"),
                _ => "following the apiserver again".to_owned(),
            });
        }
        own.map(|_| format!("following {kind}s again"))
    }
}

/// Notes a sort of trouble; true if it has not been noted yet.
fn news(said: &mut Vec<String>, sort: String) -> bool {
    let is_news = !said.contains(&sort) && said.len() < MOST;
    if is_news {
        said.push(sort);
    }
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Status;

    const SERVICES: Followed = Followed {
        kind: "Service",
        optional: false,
    };
    const SLICES: Followed = Followed {
        kind: "EndpointSlice",
        optional: false,
    };
    const CIDRS: Followed = Followed {
        kind: "ServiceCIDR",
        optional: true,
    };

    fn refused() -> Error {
        Error::Refused("http://h: connection refused".to_owned())
    }

    fn answer(code: u16) -> Error {
        let status = Status {
            code,
            reason: format!("Reason{code}"),
            message: "no".to_owned(),
            ..Status::default()
        };
        Error::refusal("http://h", code, status)
    }

    /// What is said about one failure or recovery after another.
    #[track_caller]
    fn check(outage: &mut Outage, row: (Followed, Option<Error>), expect: &str) {
        let said = match row {
            (whose, Some(error)) => outage.failed(whose, &error),
            (whose, None) => outage.regained(whose.kind),
        };
        assert_eq!(said.unwrap_or_default(), expect);
    }

    #[test]
    fn what_all_meet_alike_is_said_once() {
        let mut outage = Outage::default();
        let goes_on = "going on with what is known";
        let lost = format!("cannot follow the apiserver, {goes_on}: http://h: connection refused");
        for round in 0..2 {
            for whose in [SERVICES, SLICES, CIDRS] {
                let is_first = round == 0 && whose.kind == "Service";
                check(
                    &mut outage,
                    (whose, Some(refused())),
                    if is_first { &lost } else { "" },
                );
            }
        }
        // Another sort of trouble is news, once.
        let second = format!(
            "cannot follow the apiserver, {goes_on}: the apiserver http://h answered 500: no"
        );
        check(&mut outage, (SLICES, Some(answer(500))), &second);
        check(&mut outage, (SERVICES, Some(answer(500))), "");
        check(&mut outage, (SERVICES, Some(refused())), "");
        check(&mut outage, (SERVICES, None), "");
        check(&mut outage, (CIDRS, None), "");
        check(&mut outage, (SLICES, None), "following the apiserver again");
        check(&mut outage, (SLICES, None), "");
        // The next outage is another one.
        check(&mut outage, (SLICES, Some(refused())), &lost);
        check(
            &mut outage,
            (SLICES, None),
            "following EndpointSlices again",
        );
    }

    #[test]
    fn who_stays_behind_says_why() {
        let mut outage = Outage::default();
        for whose in [SERVICES, SLICES] {
            outage.failed(whose, &answer(403));
        }
        check(&mut outage, (SERVICES, None), "");
        let said = outage.failed(SLICES, &answer(403)).expect("news");
        assert!(said.starts_with("cannot follow EndpointSlices, "), "{said}");
        check(&mut outage, (SLICES, Some(answer(403))), "");
    }

    #[test]
    fn what_can_be_done_without_is_apart() {
        let mut outage = Outage::default();
        let said = outage.failed(CIDRS, &answer(403)).expect("news");
        assert!(said.starts_with("cannot follow ServiceCIDRs, "), "{said}");
        assert!(outage.failed(SERVICES, &refused()).is_some());
        check(&mut outage, (CIDRS, Some(refused())), "");
        check(&mut outage, (CIDRS, Some(answer(403))), "");
        check(&mut outage, (SERVICES, None), "");
        check(&mut outage, (CIDRS, None), "following the apiserver again");
    }

    #[test]
    fn sorts_of_trouble_are_bounded() {
        let mut outage = Outage::default();
        let codes = 500..600;
        let said = codes.filter_map(|code| outage.failed(SERVICES, &answer(code)));
        assert_eq!(said.count(), MOST);
    }
}
