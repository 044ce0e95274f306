//! What nftables has on this host, as far as we ask, without nft. (iptables-nft's rules are there, too; iptables-legacy's are
//! not.)

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc;

use super::netlink::codec::{Message, attributes, messages, outcome, text_of};
use super::netlink::datagram::receive;
use super::netlink::uapi::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NEW_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_NEWCHAIN as u16;
const GET_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_GETCHAIN as u16;
const NEW_RULE: u16 = SUBSYSTEM | libc::NFT_MSG_NEWRULE as u16;
const GET_RULE: u16 = SUBSYSTEM | libc::NFT_MSG_GETRULE as u16;

/// `struct nfgenmsg`: {family, version, resource}
const NFGENMSG: usize = 4;

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// `NFPROTO_*`
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) name: String,
    /// `NF_INET_*`, where it is called by the kernel.
    pub(super) hook: Option<u32>,
    /// What no rule decides is dropped.
    pub(super) drops: bool,
}

/// All chains.
pub(super) fn chains() -> io::Result<Vec<Chain>> {
    dump(GET_CHAIN, |message| {
        (message.kind == NEW_CHAIN).then(|| chain(message.payload))?
    })
}

/// The families and tables of all rules that hold this text anywhere: the name of a link, say.
pub(super) fn tables_naming(text: &str) -> io::Result<Vec<(u8, String)>> {
    dump(GET_RULE, |message| {
        (message.kind == NEW_RULE).then(|| naming(message.payload, text))?
    })
}

fn dump<T>(query: u16, read: impl Fn(&Message<'_>) -> Option<T>) -> io::Result<Vec<T>> {
    // nlmsghdr {length, type, flags, sequence, port}, nfgenmsg {any family, version 0, resource 0}
    let mut bytes = Vec::new();
    bytes.extend(20u32.to_ne_bytes());
    bytes.extend(query.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend([0; 12]);
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.send(&bytes, 0)?;
    let (mut found, mut datagram) = (Vec::new(), Vec::new());
    loop {
        receive(&socket, &mut datagram)?;
        for message in messages(&datagram) {
            match message.kind {
                NLMSG_ERROR | NLMSG_DONE => return outcome(&message).map(|()| found),
                _ => found.extend(read(&message)),
            }
        }
    }
}

fn chain(payload: &[u8]) -> Option<Chain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const HOOK_NUMBER: u16 = 1;
    const DROP: u32 = 0;
    let (mut table, mut name, mut hook, mut drops) = (None, None, None, false);
    for (kind, value) in attributes(payload.get(NFGENMSG..)?) {
        match kind {
            TABLE => table = Some(text_of(value)),
            NAME => name = Some(text_of(value)),
            HOOK => {
                let mut inside = attributes(value);
                let number = inside.find(|(kind, _)| *kind == HOOK_NUMBER);
                hook = number.and_then(|(_, value)| big_endian(value));
            }
            POLICY => drops = big_endian(value) == Some(DROP),
            _ => {}
        }
    }
    Some(Chain {
        family: *payload.first()?,
        table: table?,
        name: name?,
        hook,
        drops,
    })
}

fn naming(payload: &[u8], text: &str) -> Option<(u8, String)> {
    const TABLE: u16 = 1;
    let family = *payload.first()?;
    let rest = payload.get(NFGENMSG..)?;
    let mut windows = rest.windows(text.len());
    if !windows.any(|window| window == text.as_bytes()) {
        return None;
    }
    let (_, table) = attributes(rest).find(|(kind, _)| *kind == TABLE)?;
    Some((family, text_of(table)))
}

fn big_endian(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn chains_and_what_rules_name() {
        let hook = attribute(1, &2u32.to_be_bytes());
        let message = [
            vec![2, 0, 0, 0],
            attribute(1, b"filter\0"),
            attribute(3, b"FORWARD\0"),
            attribute(4 | 0x8000, &hook),
            attribute(5, &0u32.to_be_bytes()),
        ]
        .concat();
        let forward = Chain {
            family: 2,
            table: "filter".to_owned(),
            name: "FORWARD".to_owned(),
            hook: Some(2),
            drops: true,
        };
        assert_eq!(chain(&message), Some(forward.clone()));
        // No chain that the kernel calls has neither hook nor policy.
        let plain = Chain {
            hook: None,
            drops: false,
            ..forward
        };
        assert_eq!(chain(&message[..message.len() - 20]), Some(plain));
        // Cut off, or with a length of nothing.
        assert_eq!(chain(&message[..24]), None);
        assert_eq!(chain(&[0; 60]), None);

        let rule = [
            vec![2, 0, 0, 0],
            attribute(1, b"filter\0"),
            attribute(4, &attribute(1, b"vethportico\0")),
        ]
        .concat();
        let filter = Some((2, "filter".to_owned()));
        assert_eq!(naming(&rule, "vethportico"), filter);
        assert_eq!(naming(&rule, "vethother"), None);
        assert_eq!(naming(&[], "vethportico"), None);
    }
}
