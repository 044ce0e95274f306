//! What else captures virtual IPs on this host, as far as it can be seen without nft, iptables or ipvsadm.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc;

use super::line::{Line, missing, note, ok};
use crate::portal::netlink::Netlink;
use crate::portal::netlink::codec::{attributes, messages, outcome, text_of};
use crate::portal::netlink::datagram::receive;
use crate::portal::netlink::uapi::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

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

/// Asks nftables for its chains.
fn kube_chains() -> io::Result<BTreeSet<String>> {
    const NFTABLES: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
    const GET_CHAIN: u16 = NFTABLES | libc::NFT_MSG_GETCHAIN as u16;
    const NEW_CHAIN: u16 = NFTABLES | libc::NFT_MSG_NEWCHAIN as u16;
    // nlmsghdr {length, type, flags, sequence, port}, nfgenmsg {any family, version 0, resource 0}
    let mut query = Vec::new();
    query.extend(20u32.to_ne_bytes());
    query.extend(GET_CHAIN.to_ne_bytes());
    query.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    query.extend([0; 12]);
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.send(&query, 0)?;
    let (mut chains, mut datagram) = (BTreeSet::new(), Vec::new());
    loop {
        receive(&socket, &mut datagram)?;
        for message in messages(&datagram) {
            match message.kind {
                NEW_CHAIN => chains.extend(kube_chain(message.payload)),
                NLMSG_ERROR | NLMSG_DONE => return outcome(&message).map(|()| chains),
                _ => {}
            }
        }
    }
}

/// The chain, if it is one of those by which kube-proxy takes packets. (Kubelet has KUBE- chains too, which do not.)
fn kube_chain(payload: &[u8]) -> Option<String> {
    const NFGENMSG: usize = 4;
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const TAKING: [&str; 4] = [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-PORTALS-CONTAINER",
        "KUBE-PORTALS-HOST",
    ];
    let (mut table, mut name) = (None, None);
    for (kind, value) in attributes(payload.get(NFGENMSG..)?) {
        match kind {
            TABLE => table = Some(text_of(value)),
            NAME => name = Some(text_of(value)),
            _ => {}
        }
    }
    let (table, name) = (table?, name?);
    let taking = table == "kube-proxy" || TAKING.contains(&name.as_str());
    taking.then(|| format!("{table}/{name}"))
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
        let message = |table: &str, chain: &str| {
            let mut message = vec![0; 4];
            for (kind, text) in [(1u16, table), (3, chain)] {
                let length = 4 + text.len() + 1;
                message.extend((length as u16).to_ne_bytes());
                message.extend(kind.to_ne_bytes());
                message.extend(text.as_bytes());
                message.resize(message.len() + 1, 0);
                message.resize(message.len().next_multiple_of(4), 0);
            }
            message
        };
        for (table, chain, expected) in [
            ("nat", "KUBE-SERVICES", true),
            ("kube-proxy", "services", true),
            ("nat", "KUBE-KUBELET-CANARY", false),
            ("nat", "PREROUTING", false),
        ] {
            let found = kube_chain(&message(table, chain));
            assert_eq!(found, expected.then(|| format!("{table}/{chain}")));
        }
        // Cut off, or with a length of nothing.
        assert_eq!(kube_chain(&message("nat", "KUBE-SERVICES")[..24]), None);
        assert_eq!(kube_chain(&[0; 60]), None);
    }
}
