//! The kernel's own names and layouts, of what we use: numbers, and the fixed headers that stand before attributes.
//! Everything is in the byte order of the machine, but for what is inside an address.

/// linux/netlink.h: kinds of messages common to all protocols.
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;

/// linux/netlink.h: flags of requests.
pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;

/// linux/netlink.h: flags of answers.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_CAPPED: u16 = 0x100;
pub const NLM_F_ACK_TLVS: u16 = 0x200;

/// linux/netlink.h: `enum nlmsgerr_attrs`.
pub const NLMSGERR_ATTR_MSG: u16 = 1;

/// linux/netlink.h: the bits of an attribute's type beside its kind.
pub const NLA_F_NESTED: u16 = 0x8000;
pub const NLA_TYPE_MASK: u16 = 0x3fff;

/// linux/rtnetlink.h: kinds of messages.
pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_SETLINK: u16 = 19;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
pub const RTM_GETADDR: u16 = 22;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWNEIGH: u16 = 28;
pub const RTM_NEWRULE: u16 = 32;
pub const RTM_DELRULE: u16 = 33;
pub const RTM_GETRULE: u16 = 34;

/// linux/rtnetlink.h: `enum rtnetlink_groups`.
pub const RTNLGRP_LINK: u32 = 1;
pub const RTNLGRP_IPV4_IFADDR: u32 = 5;
pub const RTNLGRP_IPV4_ROUTE: u32 = 7;
pub const RTNLGRP_IPV4_RULE: u32 = 8;
pub const RTNLGRP_IPV6_IFADDR: u32 = 9;
pub const RTNLGRP_IPV6_ROUTE: u32 = 11;
pub const RTNLGRP_IPV6_RULE: u32 = 19;

/// linux/rtnetlink.h: routes.
pub const RTN_UNICAST: u8 = 1;
pub const RTN_LOCAL: u8 = 2;
pub const RTN_BLACKHOLE: u8 = 6;
pub const RT_SCOPE_UNIVERSE: u8 = 0;
pub const RT_SCOPE_HOST: u8 = 254;
pub const RTPROT_UNSPEC: u8 = 0;
pub const RTNH_F_ONLINK: u32 = 0x4;
pub const RTM_F_CLONED: u32 = 0x200;
pub const RTA_DST: u16 = 1;
pub const RTA_OIF: u16 = 4;
pub const RTA_GATEWAY: u16 = 5;
pub const RTA_PREFSRC: u16 = 7;
pub const RTA_TABLE: u16 = 15;

/// linux/fib_rules.h.
pub const FR_ACT_TO_TBL: u8 = 1;
pub const FRA_DST: u16 = 1;
pub const FRA_PRIORITY: u16 = 6;
pub const FRA_TABLE: u16 = 15;
pub const FRA_PROTOCOL: u16 = 21;
pub const FRA_IP_PROTO: u16 = 22;
pub const FRA_DPORT_RANGE: u16 = 24;

/// linux/if.h, linux/if_link.h, linux/veth.h.
pub const IFF_UP: u32 = 0x1;
pub const IF_OPER_UP: u8 = 6;
pub const IFLA_ADDRESS: u16 = 1;
pub const IFLA_IFNAME: u16 = 3;
pub const IFLA_MTU: u16 = 4;
pub const IFLA_OPERSTATE: u16 = 16;
pub const IFLA_LINKINFO: u16 = 18;
pub const IFLA_AF_SPEC: u16 = 26;
pub const IFLA_NET_NS_FD: u16 = 28;
pub const IFLA_INFO_KIND: u16 = 1;
pub const IFLA_INFO_DATA: u16 = 2;
pub const VETH_INFO_PEER: u16 = 1;
/// Inside it, `IPV4_DEVCONF_*` of linux/ip.h.
pub const IFLA_INET_CONF: u16 = 1;
pub const IPV4_DEVCONF_FORWARDING: u16 = 1;
pub const IPV4_DEVCONF_RP_FILTER: u16 = 8;
pub const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// linux/if_addr.h.
pub const IFA_F_NODAD: u8 = 0x2;
pub const IFA_ADDRESS: u16 = 1;
pub const IFA_LOCAL: u16 = 2;

/// linux/neighbour.h.
pub const NUD_PERMANENT: u16 = 0x80;
pub const NDA_DST: u16 = 1;
pub const NDA_LLADDR: u16 = 2;

/// sys/socket.h: address families.
pub const AF_UNSPEC: u8 = 0;
pub const AF_INET: u8 = 2;
pub const AF_INET6: u8 = 10;

/// netinet/in.h: protocols.
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_SCTP: u8 = 132;

/// `struct ifinfomsg` of linux/rtnetlink.h, for links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfInfo {
    pub index: u32,
    pub flags: u32,
    /// Which of the flags are meant.
    pub change: u32,
}

impl IfInfo {
    pub const LEN: usize = 16;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let [i0, i1, i2, i3] = self.index.to_ne_bytes();
        let [f0, f1, f2, f3] = self.flags.to_ne_bytes();
        let [c0, c1, c2, c3] = self.change.to_ne_bytes();
        // Family, padding, the kind of hardware.
        [
            AF_UNSPEC, 0, 0, 0, i0, i1, i2, i3, f0, f1, f2, f3, c0, c1, c2, c3,
        ]
    }

    /// The header, and what follows it.
    pub fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
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
pub struct IfAddr {
    pub family: u8,
    pub prefix_len: u8,
    pub flags: u8,
    pub scope: u8,
    pub index: u32,
}

impl IfAddr {
    pub const LEN: usize = 8;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
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
    pub fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
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
    pub family: u8,
    pub dst_len: u8,
    /// 0 for one above 255, which then only `RTA_TABLE` tells.
    pub table: u8,
    pub protocol: u8,
    pub scope: u8,
    /// `RTN_*`
    pub kind: u8,
    pub flags: u32,
}

impl Rt {
    pub const LEN: usize = 12;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
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
    pub fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
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
pub struct FibRule {
    pub family: u8,
    pub dst_len: u8,
    pub table: u8,
    /// `FR_ACT_*`
    pub action: u8,
}

impl FibRule {
    pub const LEN: usize = 12;

    pub fn to_bytes(self) -> [u8; Self::LEN] {
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
    pub fn split(payload: &[u8]) -> Option<(Self, &[u8])> {
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
pub struct Nd {
    pub family: u8,
    pub index: u32,
    /// `NUD_*`
    pub state: u16,
}

impl Nd {
    pub fn to_bytes(self) -> [u8; 12] {
        let [i0, i1, i2, i3] = self.index.to_ne_bytes();
        let [s0, s1] = self.state.to_ne_bytes();
        // Padding; at the end flags and the kind of neighbour.
        [self.family, 0, 0, 0, i0, i1, i2, i3, s0, s1, 0, 0]
    }
}
