//! One test for each rule of the protocol, named after client-go's where it has one. A script is a conversation: what the
//! machine asks, and how that ends.

use super::*;

/// A machine with its clock; randomness is 0, so that waits are the shortest.
struct Talk {
    machine: Machine,
    now: Instant,
}

impl Talk {
    fn new() -> Self {
        Self {
            machine: Machine::default(),
            now: Instant::now(),
        }
    }

    /// A machine that watches from version 100, on a server without watch-list.
    fn watching() -> Self {
        let mut talk = Self::listing();
        talk.says("limit=500 rv=0", page("100", ""), REPLACE);
        talk
    }

    /// A machine that is about to list for the first time, on a server without watch-list.
    fn listing() -> Self {
        let mut talk = Self::new();
        talk.says("stream rv=", refused(Failure::Unsupported), AT_ONCE);
        talk
    }

    #[track_caller]
    fn says(&mut self, ask: &str, outcome: Outcome, expect: &str) -> Contact {
        assert_eq!(describe(&self.machine.request()), ask);
        let decision = self.machine.step(outcome, self.now, 0.0);
        self.now += decision.wait;
        let wait = match decision.wait {
            Duration::ZERO => String::new(),
            wait => format!("wait {wait:?}"),
        };
        let store = match decision.store {
            Store::Keep => "",
            Store::Replace => "replace",
            Store::Clear => "clear",
        };
        assert_eq!([wait.as_str(), store].join(" ").trim(), expect, "{ask}");
        decision.contact
    }

    #[track_caller]
    fn asks(&self, ask: &str) {
        assert_eq!(describe(&self.machine.request()), ask);
    }
}

const AT_ONCE: &str = "";
const REPLACE: &str = "replace";
const BACKOFF: &str = "wait 800ms";

fn describe(request: &Request) -> String {
    match request {
        Request::WatchList { version } => format!("stream rv={version}"),
        Request::Watch { version } => format!("watch rv={version}"),
        Request::Page {
            version,
            limit,
            continue_token,
        } => {
            let mut words = Vec::new();
            words.extend(limit.then(|| format!("limit={PAGE}")));
            words.extend(version.as_ref().map(|version| format!("rv={version}")));
            words
                .extend((!continue_token.is_empty()).then(|| format!("continue={continue_token}")));
            match words.is_empty() {
                true => "everything".to_string(),
                false => words.join(" "),
            }
        }
    }
}

fn page(version: &str, continue_token: &str) -> Outcome {
    Outcome::Page(ListMeta {
        resource_version: version.to_string(),
        continue_token: continue_token.to_string(),
    })
}

fn refused(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

fn ended(events: bool, millis: u64, error: Option<Failure>) -> Outcome {
    Outcome::Ended {
        events,
        lasted: Duration::from_millis(millis),
        error,
    }
}

// Watch-list (client-go's TestWatchList).

#[test]
fn watch_list_goes_on_as_a_watch() {
    let mut talk = Talk::new();
    talk.asks("stream rv=");
    assert_eq!(talk.machine.initialized("7".to_string()), Contact::Same);
    talk.machine.observed("9", false);
    talk.says("watch rv=9", ended(true, 300_000, None), AT_ONCE);
    talk.asks("watch rv=9");
}

#[test]
fn watch_list_falls_back_to_list_where_it_is_not_supported_and_remembers_that() {
    let mut talk = Talk::watching();
    talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
    talk.asks("rv=100");
}

#[test]
fn watch_list_falls_back_to_list_on_other_errors_and_is_tried_again_next_time() {
    let mut talk = Talk::new();
    talk.says("stream rv=", refused(Failure::Other), AT_ONCE);
    talk.says("limit=500 rv=0", page("100", ""), REPLACE);
    talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
    talk.asks("stream rv=100");
    let mut talk = Talk::new();
    talk.says(
        "stream rv=",
        ended(true, 5000, Some(Failure::Other)),
        AT_ONCE,
    );
    talk.asks("limit=500 rv=0");
}

#[test]
fn watch_list_waits_while_nothing_listens_or_too_many_ask() {
    let mut talk = Talk::new();
    talk.says("stream rv=", refused(Failure::Refused), BACKOFF);
    talk.says("stream rv=", refused(Failure::Later), "wait 1.6s");
    talk.asks("stream rv=");
}

#[test]
fn watch_list_of_an_unavailable_version_is_retried_at_once_without_one() {
    for failure in [Failure::Expired, Failure::TooLarge] {
        for outcome in [refused(failure), ended(true, 10, Some(failure))] {
            let mut talk = Talk::new();
            talk.machine.initialized("7".to_string());
            talk.says(
                "watch rv=7",
                ended(true, 5000, Some(Failure::Expired)),
                BACKOFF,
            );
            talk.says("stream rv=7", outcome.clone(), AT_ONCE);
            talk.asks("stream rv=");
            talk.machine.initialized("9".to_string());
            talk.says("watch rv=9", refused(Failure::Other), "wait 1.6s");
            talk.asks("stream rv=9");
        }
    }
}

#[test]
fn watch_list_that_closes_before_the_bookmark_is_discarded_and_retried() {
    let mut talk = Talk::new();
    talk.says("stream rv=", ended(true, 5000, None), AT_ONCE);
    talk.asks("stream rv=");
    // With events, but at once: a server that does only this must not be asked in a loop.
    let mut talk = Talk::new();
    talk.says("stream rv=", ended(true, 10, None), BACKOFF);
    talk.asks("stream rv=");
}

#[test]
fn a_watch_list_that_closes_before_the_bookmark_twice_falls_back_to_list() {
    for (events, millis) in [(true, 5000), (false, 1000), (true, 10)] {
        let mut talk = Talk::new();
        talk.says("stream rv=", ended(false, 5000, None), AT_ONCE);
        talk.says("stream rv=", ended(events, millis, None), AT_ONCE);
        talk.says("limit=500 rv=0", page("100", ""), REPLACE);
        // Not remembered: whoever ended it may have been on the way to a better server.
        talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
        talk.asks("stream rv=100");
    }
}

#[test]
fn a_watch_list_that_does_not_say_when_it_is_complete_is_none_and_that_is_remembered() {
    let mut talk = Talk::new();
    assert_eq!(
        talk.says("stream rv=", Outcome::Unfinished, AT_ONCE),
        Contact::Same
    );
    talk.says("limit=500 rv=0", page("100", ""), REPLACE);
    talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
    talk.asks("rv=100");
}

#[test]
fn a_very_short_watch_list_falls_back_to_list() {
    let mut talk = Talk::new();
    talk.says("stream rv=", ended(false, 999, None), AT_ONCE);
    talk.asks("limit=500 rv=0");
}

// LIST.

#[test]
fn reflector_resync_with_resource_version() {
    let mut talk = Talk::watching();
    talk.machine.observed("130", false);
    talk.says("watch rv=130", refused(Failure::Other), BACKOFF);
    talk.says("rv=130", page("140", ""), REPLACE);
    talk.asks("watch rv=140");
}

#[test]
fn reflector_not_paginating_not_consistent_reads() {
    // What a cache answered whole is asked for without a limit: with one it would go to etcd.
    let mut talk = Talk::watching();
    talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
    talk.asks("rv=100");
}

#[test]
fn reflector_paginating_non_consistent_reads_if_watch_cache_disabled() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", page("100", "C2"), AT_ONCE);
    talk.says("limit=500 continue=C2", page("100", ""), REPLACE);
    talk.says("watch rv=100", refused(Failure::Other), BACKOFF);
    talk.asks("limit=500 rv=100");
}

#[test]
fn the_version_is_that_of_the_first_page() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", page("117", ""), REPLACE);
    talk.asks("watch rv=100");
}

#[test]
fn reflector_expired_exact_resource_version() {
    for failure in [Failure::Expired, Failure::TooLarge] {
        let mut talk = Talk::watching();
        talk.says(
            "watch rv=100",
            ended(true, 5000, Some(Failure::Expired)),
            BACKOFF,
        );
        talk.says("rv=100", refused(failure), AT_ONCE);
        talk.says("limit=500", page("200", ""), REPLACE);
        talk.says("watch rv=200", refused(Failure::Other), "wait 1.6s");
        // The version is good again.
        talk.asks("rv=200");
    }
}

#[test]
fn an_expired_version_is_retried_once() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", refused(Failure::Expired), AT_ONCE);
    assert_eq!(
        talk.says("limit=500", refused(Failure::Expired), BACKOFF),
        Contact::Same
    );
    talk.says("limit=500", refused(Failure::Expired), "wait 1.6s");
}

#[test]
fn reflector_full_list_if_expired() {
    // A 410 on a later page leads to one whole list at the version that was asked for.
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", refused(Failure::Expired), AT_ONCE);
    talk.says("rv=0", page("120", ""), REPLACE);
    talk.asks("watch rv=120");
}

#[test]
fn a_second_expired_page_is_like_an_expired_version() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", refused(Failure::Expired), AT_ONCE);
    talk.says("rv=0", refused(Failure::Expired), AT_ONCE);
    talk.says("limit=500", page("300", ""), REPLACE);
}

#[test]
fn a_list_that_breaks_begins_anew() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", refused(Failure::Other), BACKOFF);
    talk.asks("limit=500 rv=0");
}

#[test]
fn a_page_is_asked_for_again_when_the_server_asks_for_patience() {
    let mut talk = Talk::listing();
    talk.says("limit=500 rv=0", page("100", "C1"), AT_ONCE);
    talk.says("limit=500 continue=C1", refused(Failure::Later), BACKOFF);
    talk.says("limit=500 continue=C1", page("100", ""), REPLACE);
    talk.asks("watch rv=100");
}

#[test]
fn a_list_waits_and_is_repeated_on_failure() {
    for failure in [Failure::Refused, Failure::Later, Failure::Other] {
        let mut talk = Talk::listing();
        talk.says("limit=500 rv=0", refused(failure), BACKOFF);
        talk.asks("limit=500 rv=0");
    }
}

// WATCH.

#[test]
fn no_relist_on_too_many_requests() {
    let mut talk = Talk::watching();
    talk.says("watch rv=100", refused(Failure::Later), BACKOFF);
    talk.says("watch rv=100", refused(Failure::Refused), "wait 1.6s");
    let error = ended(true, 10, Some(Failure::Later));
    talk.says("watch rv=100", error, "wait 3.2s");
    talk.asks("watch rv=100");
}

#[test]
fn retry_internal_error() {
    let mut talk = Talk::watching();
    talk.says(
        "watch rv=100",
        ended(true, 5000, Some(Failure::Other)),
        BACKOFF,
    );
    talk.asks("rv=100");
}

#[test]
fn an_expired_watch_relists_at_the_last_version() {
    for outcome in [
        refused(Failure::Expired),
        ended(false, 10, Some(Failure::Expired)),
    ] {
        let mut talk = Talk::watching();
        talk.machine.observed("150", false);
        talk.says("watch rv=150", outcome, BACKOFF);
        talk.asks("rv=150");
    }
}

#[test]
fn a_watch_that_ends_is_resumed_at_once() {
    let mut talk = Talk::watching();
    talk.machine.observed("150", false);
    talk.says("watch rv=150", ended(true, 300_000, None), AT_ONCE);
    talk.says("watch rv=150", ended(false, 180_000, None), AT_ONCE);
    talk.says("watch rv=150", ended(true, 10, None), AT_ONCE);
    // Twice in a row within a second.
    talk.says("watch rv=150", ended(true, 10, None), BACKOFF);
    talk.says("watch rv=150", ended(true, 2000, None), AT_ONCE);
    talk.says("watch rv=150", ended(true, 10, None), AT_ONCE);
}

#[test]
fn a_very_short_watch_relists() {
    let mut talk = Talk::watching();
    talk.says("watch rv=100", ended(false, 999, None), BACKOFF);
    talk.asks("rv=100");
}

#[test]
fn reflector_resource_version_update() {
    let mut talk = Talk::watching();
    for (version, added) in [("101", true), ("102", false), ("103", false), ("104", true)] {
        talk.machine.observed(version, added);
        talk.asks(&format!("watch rv={version}"));
    }
    talk.machine.observed("", false);
    talk.asks("watch rv=104");
}

#[test]
fn from_version_zero_added_objects_do_not_count() {
    for start in ["", "0"] {
        let mut talk = Talk::listing();
        talk.says("limit=500 rv=0", page(start, ""), REPLACE);
        talk.machine.observed("205", true);
        talk.machine.observed("190", true);
        talk.asks(&format!("watch rv={start}"));
        talk.machine.observed("210", false);
        talk.machine.observed("211", true);
        talk.asks("watch rv=211");
    }
}

// What is optional, outages, backoff.

#[test]
fn what_is_absent_is_none_and_asked_for_rarely() {
    let mut talk = Talk::new();
    talk.says("stream rv=", refused(Failure::Absent), "wait 600s clear");
    talk.asks("stream rv=");
}

#[test]
fn what_was_there_is_not_absent() {
    let mut talk = Talk::watching();
    let contact = talk.says("watch rv=100", refused(Failure::Absent), BACKOFF);
    assert_eq!(contact, Contact::Lost);
    talk.says("rv=100", refused(Failure::Absent), "wait 1.6s");
    assert_eq!(
        talk.says("rv=100", page("200", ""), REPLACE),
        Contact::Regained
    );
}

#[test]
fn what_others_have_regained_is_asked_for_soon() {
    let mut talk = Talk::watching();
    talk.says("watch rv=100", refused(Failure::Refused), BACKOFF);
    talk.says("watch rv=100", refused(Failure::Refused), "wait 1.6s");
    talk.machine.woken();
    talk.says("watch rv=100", refused(Failure::Refused), BACKOFF);
}

#[test]
fn an_outage_has_one_beginning_and_one_end() {
    let mut talk = Talk::watching();
    let contact = talk.says("watch rv=100", refused(Failure::Refused), BACKOFF);
    assert_eq!(contact, Contact::Lost);
    let contact = talk.says("watch rv=100", refused(Failure::Other), "wait 1.6s");
    assert_eq!(contact, Contact::Missing);
    let contact = talk.says("rv=100", refused(Failure::Other), "wait 3.2s");
    assert_eq!(contact, Contact::Missing);
    let contact = talk.says("rv=100", page("200", ""), REPLACE);
    assert_eq!(contact, Contact::Regained);
    assert_eq!(talk.machine.observed("201", false), Contact::Same);
    // Ends and expiry are the protocol's own.
    let contact = talk.says(
        "watch rv=201",
        ended(true, 5000, Some(Failure::Expired)),
        "wait 6.4s",
    );
    assert_eq!(contact, Contact::Same);
}

#[test]
fn a_refused_watch_that_comes_back_is_contact_too() {
    let mut talk = Talk::new();
    let contact = talk.says("stream rv=", refused(Failure::Refused), BACKOFF);
    assert_eq!(contact, Contact::Lost);
    assert_eq!(talk.machine.initialized("5".to_string()), Contact::Regained);
    let contact = talk.says("watch rv=5", refused(Failure::Refused), "wait 1.6s");
    assert_eq!(contact, Contact::Lost);
    assert_eq!(talk.machine.observed("6", false), Contact::Regained);
}
