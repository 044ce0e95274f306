//! cases/nodeport-cases.json, and the keywords.

use std::net::IpAddr;

use portico::routing::NodePortAddresses;
use portico::types::IpFamily;
use serde_json::Value;

use super::world::*;

fn ips(list: &Value) -> Vec<IpAddr> {
    texts(list).into_iter().map(ip).collect()
}

fn set(mut ips: Vec<IpAddr>) -> Vec<IpAddr> {
    ips.sort_unstable();
    ips
}

#[test]
fn node_port_addresses_are_resolved_as_upstream_does() {
    for case in list(&cases("nodeport-cases.json")["cases"]) {
        let name = text(case, "name");
        let addresses = NodePortAddresses::parse(&texts(&case["nodeport_addresses"])).expect(name);
        for (family, key) in [(IpFamily::V4, "v4"), (IpFamily::V6, "v6")] {
            let result = addresses.resolve(family, &ips(&case["local_addresses"]), &[]);
            let expect = &case["expect"][key];
            assert_eq!(result.match_all, expect["match_all"], "{name} {key}");
            assert_eq!(set(result.ips), set(ips(&expect["ips"])), "{name} {key}");
        }
    }
}

#[test]
fn loopback_is_recognised_as_upstream_does() {
    for case in list(&cases("nodeport-cases.json")["loopback_cases"]) {
        let addresses =
            NodePortAddresses::parse(&texts(&case["nodeport_addresses"])).expect("good");
        assert_eq!(
            addresses.contains_ipv4_loopback(),
            case["contains_v4_loopback"],
            "{case}"
        );
    }
}

#[test]
fn keywords_stand_for_networks() {
    let local = ["10.0.0.5", "10.0.0.6", "127.0.0.1", "2001:db8::5", "::1"].map(ip);
    let primary = ["10.0.0.5", "2001:db8::5"].map(ip);
    let resolve = |entries: &[&str], family, primary: &[IpAddr]| {
        let addresses = NodePortAddresses::parse(entries).expect("good");
        let result = addresses.resolve(family, &local, primary);
        (
            result.match_all,
            result
                .ips
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    let table = [
        (vec!["primary"], (false, "10.0.0.5"), (false, "2001:db8::5")),
        (vec!["localhost"], (false, "127.0.0.1"), (false, "::1")),
        (
            vec!["localhost", "primary"],
            (false, "10.0.0.5 127.0.0.1"),
            (false, "2001:db8::5 ::1"),
        ),
        (
            vec!["all", "primary"],
            (true, "10.0.0.5 10.0.0.6 127.0.0.1"),
            (true, "2001:db8::5 ::1"),
        ),
        (
            vec!["10.0.0.6/32"],
            (false, "10.0.0.6"),
            (true, "2001:db8::5 ::1"),
        ),
        (vec!["192.0.2.0/24", "fd00::/8"], (false, ""), (false, "")),
    ];
    for (entries, v4, v6) in table {
        let [found4, found6] = IpFamily::ALL.map(|family| resolve(&entries, family, &primary));
        assert_eq!((found4.0, found4.1.as_str()), v4, "{entries:?}");
        assert_eq!((found6.0, found6.1.as_str()), v6, "{entries:?}");
    }
    // A family whose primary address is not known has no entry, which means all of it.
    assert!(resolve(&["primary"], IpFamily::V6, &primary[..1]).0);
    assert!(resolve(&["primary"], IpFamily::V4, &[ip("127.0.0.1")]).0);
    assert!(NodePortAddresses::default().is_unset());
    for bad in ["", "10.0.0.1", "Primary", "10.0.0.0/33", "eth0"] {
        let error = NodePortAddresses::parse(&[bad]).expect_err(bad).to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
}
