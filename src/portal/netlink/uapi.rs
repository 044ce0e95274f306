//! The kernel's own names and layouts, of what we use: numbers, and the fixed headers that stand before attributes.
//! Everything is in the byte order of the machine, but for what is inside an address.

use nix::libc;

/// linux/if_link.h, linux/if_addr.h, linux/neighbour.h.
pub(crate) use libc::{
    IFA_ADDRESS, IFA_LOCAL, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_FD, IFLA_OPERSTATE, NDA_DST, NDA_LLADDR,
    NUD_PERMANENT,
};
pub(crate) use libc::{
    RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_TABLE,
    RTM_F_CLONED, RTN_BLACKHOLE, RTN_LOCAL, RTN_UNICAST, RTPROT_UNSPEC,
};
/// linux/rtnetlink.h: kinds of messages, groups, routes.
pub(crate) use libc::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE,
    RTM_GETRULE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTM_NEWRULE, RTM_SETLINK,
};
pub(crate) use libc::{
    RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, RTNLGRP_LINK,
};

/// linux/netlink.h: kinds of messages common to all protocols, as wide as they are on the wire.
pub(crate) const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
pub(crate) const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

/// linux/netlink.h: flags of requests.
pub(crate) const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub(crate) const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
pub(crate) const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
pub(crate) const NLM_F_REPLACE: u16 = libc::NLM_F_REPLACE as u16;
pub(crate) const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
pub(crate) const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;

/// linux/netlink.h: flags of answers.
pub(crate) const NLM_F_DUMP_INTR: u16 = libc::NLM_F_DUMP_INTR as u16;
pub(crate) const NLM_F_CAPPED: u16 = libc::NLM_F_CAPPED as u16;
pub(crate) const NLM_F_ACK_TLVS: u16 = libc::NLM_F_ACK_TLVS as u16;

/// linux/netlink.h: the bits of an attribute's type beside its kind.
pub(crate) const NLA_F_NESTED: u16 = libc::NLA_F_NESTED as u16;
pub(crate) const NLA_TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;

/// linux/if.h, linux/if_addr.h.
pub(crate) const IFF_UP: u32 = libc::IFF_UP as u32;
pub(crate) const IF_OPER_UP: u8 = libc::IF_OPER_UP as u8;
pub(crate) const IFA_F_NODAD: u8 = libc::IFA_F_NODAD as u8;

/// sys/socket.h: address families.
pub(crate) const AF_UNSPEC: u8 = libc::AF_UNSPEC as u8;
pub(crate) const AF_INET: u8 = libc::AF_INET as u8;
pub(crate) const AF_INET6: u8 = libc::AF_INET6 as u8;

/// netinet/in.h: protocols.
pub(crate) const IPPROTO_TCP: u8 = libc::IPPROTO_TCP as u8;
pub(crate) const IPPROTO_UDP: u8 = libc::IPPROTO_UDP as u8;
pub(crate) const IPPROTO_SCTP: u8 = libc::IPPROTO_SCTP as u8;

// What libc has no names for.

/// linux/netlink.h: `enum nlmsgerr_attrs`.
pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;

/// linux/rtnetlink.h: routes.
pub(crate) const RTNH_F_ONLINK: u32 = 0x4;

/// linux/fib_rules.h.
pub(crate) const FR_ACT_TO_TBL: u8 = 1;
pub(crate) const FR_ACT_GOTO: u8 = 2;
pub(crate) const FR_ACT_NOP: u8 = 3;
pub(crate) const FRA_DST: u16 = 1;
pub(crate) const FRA_IIFNAME: u16 = 3;
pub(crate) const FRA_GOTO: u16 = 4;
pub(crate) const FRA_PRIORITY: u16 = 6;
pub(crate) const FRA_TABLE: u16 = 15;
pub(crate) const FRA_PROTOCOL: u16 = 21;
pub(crate) const FRA_IP_PROTO: u16 = 22;
pub(crate) const FRA_DPORT_RANGE: u16 = 24;

/// linux/if_link.h, linux/veth.h.
pub(crate) const VETH_INFO_PEER: u16 = 1;
/// Inside it, `IPV4_DEVCONF_*` of linux/ip.h.
pub(crate) const IFLA_INET_CONF: u16 = 1;
pub(crate) const IPV4_DEVCONF_FORWARDING: u16 = 1;
pub(crate) const IPV4_DEVCONF_RP_FILTER: u16 = 8;
pub(crate) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(crate) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// `struct ifinfomsg` of linux/rtnetlink.h, for links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IfInfo {
    pub(crate) index: u32,
    pub(crate) flags: u32,
    /// Which of the flags are meant.
    pub(crate) change: u32,
}

impl IfInfo {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [i0, i1, i2, i3] = self.index.to_ne_bytes();
        let [f0, f1, f2, f3] = self.flags.to_ne_bytes();
        let [c0, c1, c2, c3] = self.change.to_ne_bytes();
        // Family, padding, the kind of hardware.
        [
            AF_UNSPEC, 0, 0, 0, i0, i1, i2, i3, f0, f1, f2, f3, c0, c1, c2, c3,
        ]
    }

    /// The header, and what follows it.
    pub(crate) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, c0, c1, c2, c3] = *header;
        let header = Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            change: u32::from_ne_bytes([c0, c1, c2, c3]),
        };
        Some((header, rest))
    }
}

/// `struct ifaddrmsg` of linux/if_addr.h, for addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IfAddr {
    pub(crate) family: u8,
    pub(crate) prefix_len: u8,
    pub(crate) flags: u8,
    pub(crate) scope: u8,
    pub(crate) index: u32,
}

impl IfAddr {
    pub(crate) const LEN: usize = 8;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [i0, i1, i2, i3] = self.index.to_ne_bytes();
        [
            self.family,
            self.prefix_len,
            self.flags,
            self.scope,
            i0,
            i1,
            i2,
            i3,
        ]
    }

    /// The header, and what follows it.
    pub(crate) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let [family, prefix_len, flags, scope, i0, i1, i2, i3] = *header;
        let index = u32::from_ne_bytes([i0, i1, i2, i3]);
        let header = Self {
            family,
            prefix_len,
            flags,
            scope,
            index,
        };
        Some((header, rest))
    }
}

/// `struct rtmsg` of linux/rtnetlink.h, for routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rt {
    pub(crate) family: u8,
    pub(crate) dst_len: u8,
    /// 0 for one above 255, which then only `RTA_TABLE` tells.
    pub(crate) table: u8,
    pub(crate) protocol: u8,
    pub(crate) scope: u8,
    /// `RTN_*`
    pub(crate) kind: u8,
    pub(crate) flags: u32,
}

impl Rt {
    pub(crate) const LEN: usize = 12;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [f0, f1, f2, f3] = self.flags.to_ne_bytes();
        // Between the destination and the table: the length of the source prefix, the TOS.
        [
            self.family,
            self.dst_len,
            0,
            0,
            self.table,
            self.protocol,
            self.scope,
            self.kind,
            f0,
            f1,
            f2,
            f3,
        ]
    }

    /// The header, and what follows it.
    pub(crate) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let [
            family,
            dst_len,
            _,
            _,
            table,
            protocol,
            scope,
            kind,
            f0,
            f1,
            f2,
            f3,
        ] = *header;
        let header = Self {
            family,
            dst_len,
            table,
            protocol,
            scope,
            kind,
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
        };
        Some((header, rest))
    }
}

/// `struct fib_rule_hdr` of linux/fib_rules.h, for rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FibRule {
    pub(crate) family: u8,
    pub(crate) dst_len: u8,
    pub(crate) table: u8,
    /// `FR_ACT_*`
    pub(crate) action: u8,
}

impl FibRule {
    pub(crate) const LEN: usize = 12;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        // The length of the source prefix, the TOS; two reserved bytes; flags.
        [
            self.family,
            self.dst_len,
            0,
            0,
            self.table,
            0,
            0,
            self.action,
            0,
            0,
            0,
            0,
        ]
    }

    /// The header, and what follows it.
    pub(crate) fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let [family, dst_len, _, _, table, _, _, action, ..] = *header;
        let header = Self {
            family,
            dst_len,
            table,
            action,
        };
        Some((header, rest))
    }
}

/// `struct ndmsg` of linux/neighbour.h, for neighbours. Never read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nd {
    pub(crate) family: u8,
    pub(crate) index: u32,
    /// `NUD_*`
    pub(crate) state: u16,
}

impl Nd {
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        let [i0, i1, i2, i3] = self.index.to_ne_bytes();
        let [s0, s1] = self.state.to_ne_bytes();
        // Padding; at the end flags and the kind of neighbour.
        [self.family, 0, 0, 0, i0, i1, i2, i3, s0, s1, 0, 0]
    }
}
