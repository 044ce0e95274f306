use super::super::foreign::Foreign;
use super::*;
use crate::portal::error::Error;

fn carried() -> Trial {
    Trial::Carried {
        microseconds: 120,
        by_port: true,
        v6: true,
    }
}

fn no_capability(capability: &'static str) -> Trial {
    Trial::Failed(Error::Capability {
        capability,
        to: "do it",
    })
}

fn found() -> Findings {
    Findings {
        netns: carried(),
        host: Trial::NotTried("it is not needed"),
        running: false,
        leftovers: false,
        low_ports: None,
        open_files: Some((1024, 1 << 20)),
        forwarding: [Some(true), Some(true)],
        dropping_chains: Some(Vec::new()),
        rp_filter: Some(0),
        foreign: Foreign {
            chains: Some(Default::default()),
            legacy_tables: Some(Vec::new()),
            ipvs: Some(0),
            kube_ipvs0: false,
        },
    }
}

fn says(check: &Check, verdict: Verdict, text: &str) -> bool {
    let mut lines = check.lines.iter();
    lines.any(|line| line.verdict == verdict && line.text.contains(text))
}

#[test]
fn the_first_portal_that_works_is_used() {
    use PortalKind::{Auto, Host, Netns, None};
    let sys = || no_capability("CAP_SYS_ADMIN");
    let net = || no_capability("CAP_NET_ADMIN");
    for (wanted, netns, host, kind, usable) in [
        (Auto, carried(), net(), Netns, true),
        (Auto, sys(), carried(), Host, true),
        (Auto, sys(), net(), None, true),
        (
            Auto,
            Trial::Silent("timed out".to_owned()),
            carried(),
            Host,
            true,
        ),
        (Netns, sys(), carried(), Netns, false),
        (Host, carried(), net(), Host, false),
        (Host, sys(), Trial::NotTried("another runs"), Host, true),
        (None, sys(), net(), None, true),
    ] {
        let findings = Findings {
            netns,
            host,
            ..found()
        };
        let check = report(wanted, &findings);
        assert_eq!((check.kind, check.usable), (kind, usable), "{check}");
        let last = check.lines.last().unwrap();
        assert!(
            last.text.starts_with(&format!("the portal {kind} would")),
            "{last}"
        );
    }
}

#[test]
fn what_is_missing_is_said_with_its_remedy() {
    let all_well = report(PortalKind::Auto, &found());
    assert!(all_well.complete(), "{all_well}");
    let missing = |check: &Check| {
        check
            .lines
            .iter()
            .filter(|l| l.verdict == Verdict::Missing)
            .count()
    };
    assert_eq!(missing(&all_well), 0, "{all_well}");
    assert!(says(
        &all_well,
        Verdict::Ok,
        "carried a TCP connection, in 120 us"
    ));

    let poor = Findings {
        netns: no_capability("CAP_SYS_ADMIN"),
        host: Trial::Carried {
            microseconds: 9,
            by_port: false,
            v6: false,
        },
        running: true,
        low_ports: Some("denied".to_owned()),
        open_files: Some((1024, 1024)),
        foreign: Foreign {
            chains: Some(["nat/KUBE-SERVICES".to_owned()].into()),
            legacy_tables: Some(vec!["nat".to_owned()]),
            ipvs: Some(2),
            kube_ipvs0: true,
        },
        ..found()
    };
    let check = report(PortalKind::Auto, &poor);
    assert!(check.usable && !check.complete(), "{check}");
    for (verdict, text) in [
        (Verdict::Missing, "needs CAP_SYS_ADMIN to do it: grant it"),
        (Verdict::Missing, "CONFIG_IP_MULTIPLE_TABLES"),
        (Verdict::Missing, "grant CAP_NET_BIND_SERVICE"),
        (
            Verdict::Missing,
            "1 chains of kube-proxy (nat/KUBE-SERVICES)",
        ),
        (Verdict::Missing, "kube-ipvs0 present"),
        (Verdict::Note, "LimitNOFILE"),
        (Verdict::Note, "iptables-legacy-save"),
        (Verdict::Note, "another portico runs"),
        (Verdict::Note, "IPv6: does not work"),
    ] {
        assert!(says(&check, verdict, text), "{text} in\n{check}");
    }
    // What pods need matters only where packets are forwarded to the portal.
    assert!(!check.to_string().contains("forward"));

    let blind = Findings {
        forwarding: [Some(false), None],
        dropping_chains: None,
        rp_filter: Some(1),
        leftovers: true,
        foreign: Foreign::default(),
        ..found()
    };
    let check = report(PortalKind::Netns, &blind);
    assert!(check.complete(), "notes are no failure: {check}");
    for text in [
        "net.ipv4.ip_forward is off",
        "net.ipv6.conf.all.forwarding cannot be seen",
        "nftables: cannot be seen",
        "iptables-legacy: its tables cannot be seen",
        "IPVS: its virtual services cannot be seen",
        "--cleanup",
        "net.ipv4.conf.all.rp_filter is 1",
        "the firewall's rules cannot be seen",
    ] {
        assert!(says(&check, Verdict::Note, text), "{text} in\n{check}");
    }
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named() {
    let strict = Findings {
        dropping_chains: Some(vec!["filter/FORWARD".to_owned()]),
        ..found()
    };
    let check = report(PortalKind::Auto, &strict);
    assert!(check.complete(), "{check}");
    assert!(
        says(&check, Verdict::Note, "nftables chain filter/FORWARD"),
        "{check}"
    );
    // Nothing is forwarded to the host portal.
    let check = report(PortalKind::Host, &strict);
    assert!(!check.to_string().contains("FORWARD"), "{check}");
}

#[test]
fn lines_print_in_columns() {
    let line = |verdict| Line {
        verdict,
        text: "text".to_owned(),
    };
    let printed = [Verdict::Ok, Verdict::Missing, Verdict::Note].map(|v| line(v).to_string());
    assert_eq!(printed, ["ok       text", "missing  text", "note     text"]);
}
