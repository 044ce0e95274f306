//! What else captures virtual IPs on this host, as far as it can be seen without nft, iptables or ipvsadm.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::line::{Line, missing, note, ok};
use crate::portal::netlink::Netlink;
use crate::portal::nft::{self, Chain};

/// The remains, or the presence, of a kube-proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Its nftables chains, `table/chain` (iptables-nft's too). None: cannot be seen.
    pub(crate) chains: Option<BTreeSet<String>>,
    /// The tables of legacy iptables; their rules cannot be seen. None: not even the tables.
    pub(crate) legacy_tables: Option<Vec<String>>,
    /// Virtual services of IPVS. None: cannot be seen.
    pub(crate) ipvs: Option<usize>,
    /// The link that kube-proxy's IPVS mode keeps clusterIPs on.
    pub(crate) kube_ipvs0: bool,
}

impl Foreign {
    /// Looks.
    pub(super) fn look(host: Option<&mut Netlink>) -> Self {
        // The thread's own namespace; /proc/net is that of the process.
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        let absent_is_empty = |result: io::Result<String>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let legacy = absent_is_empty(read("ip_tables_names"));
        let ipvs = absent_is_empty(read("ip_vs"));
        Self {
            chains: kube_chains().ok(),
            legacy_tables: legacy
                .map(|text| text.lines().map(str::to_owned).collect())
                .ok(),
            ipvs: ipvs.map(|text| virtual_services(&text)).ok(),
            kube_ipvs0: host.is_some_and(|host| matches!(host.link("kube-ipvs0"), Ok(Some(_)))),
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        const REMEDY: &str = "they take packets before any portal sees them: stop kube-proxy and run kube-proxy --cleanup";
        let mut lines = Vec::new();
        match &self.chains {
            Some(chains) if chains.is_empty() => {
                lines.push(ok("nftables: no chains of kube-proxy".to_owned()));
            }
            Some(chains) => {
                let names = chains
                    .iter()
                    .take(3)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ");
                lines.push(missing(format!(
                    "nftables: {} chains of kube-proxy ({names}): {REMEDY}",
                    chains.len()
                )));
            }
            None => lines.push(note(
                "nftables: cannot be seen (needs CAP_NET_ADMIN, or the kernel has none)".to_owned(),
            )),
        }
        match &self.legacy_tables {
            Some(tables) if !tables.iter().any(|table| table == "nat") => {}
            Some(_) => lines.push(note(
                "iptables-legacy has a nat table whose rules cannot be seen from here: no KUBE- chains may be in \
                 iptables-legacy-save -t nat"
                    .to_owned(),
            )),
            None => lines.push(note("iptables-legacy: its tables cannot be seen".to_owned())),
        }
        match (self.ipvs, self.kube_ipvs0) {
            (Some(0), false) => {}
            (Some(count), _) => lines.push(missing(format!(
                "IPVS: {count} virtual services, kube-ipvs0 {}: {REMEDY}",
                if self.kube_ipvs0 { "present" } else { "absent" }
            ))),
            (None, _) => lines.push(note("IPVS: its virtual services cannot be seen".to_owned())),
        }
        lines
    }
}

/// Lines of /proc/net/ip_vs such as `TCP  0A600001:01BB rr`.
fn virtual_services(text: &str) -> usize {
    let protocols = ["TCP", "UDP", "SCTP"];
    let first = |line: &&str| {
        line.split_whitespace()
            .next()
            .is_some_and(|w| protocols.contains(&w))
    };
    text.lines().filter(first).count()
}

/// The chains by which kube-proxy takes packets. (Kubelet has KUBE- chains too, which do not.)
fn kube_chains() -> io::Result<BTreeSet<String>> {
    let chains = nft::chains()?.into_iter().filter(takes_for_kube_proxy);
    Ok(chains.map(|c| format!("{}/{}", c.table, c.name)).collect())
}

fn takes_for_kube_proxy(chain: &Chain) -> bool {
    const TAKING: [&str; 4] = [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-PORTALS-CONTAINER",
        "KUBE-PORTALS-HOST",
    ];
    chain.table == "kube-proxy" || TAKING.contains(&chain.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_services_of_ipvs() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\n\
                    Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
                    TCP  0A600001:01BB rr  \n  \
                    -> AC120002:192B      Masq    1      0          0         \n\
                    UDP  0A60000A:0035 rr  \n";
        assert_eq!(virtual_services(text), 2);
        assert_eq!(virtual_services(""), 0);
    }

    #[test]
    fn chains_of_kube_proxy() {
        for (table, name, expected) in [
            ("nat", "KUBE-SERVICES", true),
            ("kube-proxy", "services", true),
            ("nat", "KUBE-KUBELET-CANARY", false),
            ("nat", "PREROUTING", false),
        ] {
            let chain = Chain {
                family: 2,
                table: table.to_owned(),
                name: name.to_owned(),
                hook: None,
                drops: false,
            };
            assert_eq!(takes_for_kube_proxy(&chain), expected, "{table}/{name}");
        }
    }
}
