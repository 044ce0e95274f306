//! Requests in the kernel's form. Pure.

use std::net::IpAddr;

use super::codec::Writer;
use super::message::{
    Action, LinkSettings, Mac, OwnedVeth, Request, Route, Rule, RuleVerdict, StandingRule, Via,
};
use super::uapi::*;
use crate::portal::marks::PROTOCOL;
use crate::types::{IpFamily, Protocol};

const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;

impl Request {
    /// Appends the message, with `flags` beside those of its kind.
    pub fn write(&self, writer: &mut Writer, sequence: u32, flags: u16) {
        let id = |kind, own| (kind, NLM_F_REQUEST | own | flags, sequence);
        match &self.0 {
            Action::AddVeth(veth) => add_veth(writer, id(RTM_NEWLINK, ADD), veth),
            Action::DeleteLink(index) => {
                writer.message(id(RTM_DELLINK, 0), &link(*index).to_bytes(), |_| {});
            }
            Action::LinkUp(index) => {
                let header = IfInfo {
                    flags: IFF_UP,
                    change: IFF_UP,
                    ..link(*index)
                };
                writer.message(id(RTM_SETLINK, 0), &header.to_bytes(), |_| {});
            }
            Action::LinkSettings(index, settings) => {
                writer.message(id(RTM_SETLINK, 0), &link(*index).to_bytes(), |w| {
                    link_settings(w, settings);
                });
            }
            Action::LinkWithoutAddresses(index) => {
                writer.message(id(RTM_SETLINK, 0), &link(*index).to_bytes(), |w| {
                    w.nested(IFLA_AF_SPEC, |w| {
                        w.nested(AF_INET6.into(), |w| {
                            w.u8_attribute(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                        });
                    });
                });
            }
            Action::AddAddress(link, ip) => add_address(writer, id(RTM_NEWADDR, SET), *link, *ip),
            Action::SetNeighbour(link, ip, mac) => {
                set_neighbour(writer, id(RTM_NEWNEIGH, SET), (*link, *ip, *mac));
            }
            Action::AddRoute(new) => route(writer, id(RTM_NEWROUTE, ADD), new),
            Action::ReplaceRoute(new) => route(writer, id(RTM_NEWROUTE, SET), new),
            Action::DeleteRoute(old) => {
                // Its source may have been another when it was made.
                let old = Route {
                    source: None,
                    ..*old
                };
                route(writer, id(RTM_DELROUTE, 0), &old);
            }
            Action::AddRule(new) => rule(writer, id(RTM_NEWRULE, ADD), new),
            Action::DeleteRule(old) => rule(writer, id(RTM_DELRULE, 0), old),
            Action::AddStandingRule(new) => standing_rule(writer, id(RTM_NEWRULE, ADD), new),
            Action::DeleteStandingRule(old) => standing_rule(writer, id(RTM_DELRULE, 0), old),
        }
    }
}

/// Kind, flags and sequence number of a message.
type Id = (u16, u16, u32);

fn add_veth(writer: &mut Writer, id: Id, veth: &OwnedVeth) {
    let end = |w: &mut Writer, (name, mac): &(String, Mac)| {
        w.text_attribute(IFLA_IFNAME, name);
        w.bytes_attribute(IFLA_ADDRESS, mac);
        w.u32_attribute(IFLA_MTU, veth.mtu);
    };
    writer.message(id, &IfInfo::default().to_bytes(), |w| {
        end(w, &veth.near);
        w.nested(IFLA_LINKINFO, |w| {
            w.text_attribute(IFLA_INFO_KIND, "veth");
            w.nested(IFLA_INFO_DATA, |w| {
                w.nested(VETH_INFO_PEER, |w| {
                    w.fixed(&IfInfo::default().to_bytes());
                    end(w, &veth.far);
                    w.bytes_attribute(IFLA_NET_NS_FD, &veth.namespace.to_ne_bytes());
                });
            });
        });
    });
}

fn link_settings(writer: &mut Writer, settings: &LinkSettings) {
    let values = [
        (IPV4_DEVCONF_FORWARDING, settings.forwarding.map(u32::from)),
        (IPV4_DEVCONF_RP_FILTER, settings.rp_filter),
    ];
    writer.nested(IFLA_AF_SPEC, |w| {
        w.nested(AF_INET.into(), |w| {
            w.nested(IFLA_INET_CONF, |w| {
                for (kind, value) in values {
                    if let Some(value) = value {
                        w.u32_attribute(kind, value);
                    }
                }
            });
        });
    });
}

fn add_address(writer: &mut Writer, id: Id, link: u32, ip: IpAddr) {
    let header = IfAddr {
        family: family(ip),
        prefix_len: whole(ip),
        flags: IFA_F_NODAD,
        scope: RT_SCOPE_UNIVERSE,
        index: link,
    };
    writer.message(id, &header.to_bytes(), |w| {
        w.ip_attribute(IFA_LOCAL, ip);
        w.ip_attribute(IFA_ADDRESS, ip);
    });
}

fn set_neighbour(writer: &mut Writer, id: Id, (link, ip, mac): (u32, IpAddr, Mac)) {
    let header = Nd {
        family: family(ip),
        index: link,
        state: NUD_PERMANENT,
    };
    writer.message(id, &header.to_bytes(), |w| {
        w.ip_attribute(NDA_DST, ip);
        w.bytes_attribute(NDA_LLADDR, &mac);
    });
}

fn route(writer: &mut Writer, id: Id, route: &Route) {
    let (kind, scope, flags) = match route.via {
        Via::Gateway(..) => (RTN_UNICAST, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK),
        Via::Local(_) => (RTN_LOCAL, RT_SCOPE_HOST, 0),
        Via::Blackhole | Via::Other => (RTN_BLACKHOLE, RT_SCOPE_UNIVERSE, 0),
    };
    let header = Rt {
        family: family(route.net.addr()),
        dst_len: route.net.prefix_len(),
        table: u8::try_from(route.table).unwrap_or(0),
        protocol: PROTOCOL,
        scope,
        kind,
        flags,
    };
    writer.message(id, &header.to_bytes(), |w| {
        if route.net.prefix_len() > 0 {
            w.ip_attribute(RTA_DST, route.net.addr());
        }
        if let Via::Gateway(gateway, _) = route.via {
            w.ip_attribute(RTA_GATEWAY, gateway);
        }
        w.u32_attribute(RTA_TABLE, route.table);
        if let Via::Gateway(_, link) | Via::Local(link) = route.via {
            w.u32_attribute(RTA_OIF, link);
        }
        if let Some(source) = route.source {
            w.ip_attribute(RTA_PREFSRC, source);
        }
    });
}

fn rule(writer: &mut Writer, id: Id, rule: &Rule) {
    let (ip, port) = (rule.addr.ip(), rule.addr.port());
    let header = FibRule {
        family: family(ip),
        dst_len: whole(ip),
        table: 0,
        action: FR_ACT_TO_TBL,
    };
    let protocol = match rule.protocol {
        Protocol::Tcp => IPPROTO_TCP,
        Protocol::Udp => IPPROTO_UDP,
        Protocol::Sctp => IPPROTO_SCTP,
    };
    writer.message(id, &header.to_bytes(), |w| {
        w.ip_attribute(FRA_DST, ip);
        // First and last.
        let [low, high] = port.to_ne_bytes();
        w.bytes_attribute(FRA_DPORT_RANGE, &[low, high, low, high]);
        w.u8_attribute(FRA_IP_PROTO, protocol);
        w.u32_attribute(FRA_PRIORITY, rule.priority);
        w.u32_attribute(FRA_TABLE, rule.table);
        w.u8_attribute(FRA_PROTOCOL, PROTOCOL);
    });
}

fn standing_rule(writer: &mut Writer, id: Id, rule: &StandingRule) {
    let (action, operand) = match rule.verdict {
        RuleVerdict::Lookup(table) => (FR_ACT_TO_TBL, Some((FRA_TABLE, table))),
        RuleVerdict::Goto(priority) => (FR_ACT_GOTO, Some((FRA_GOTO, priority))),
        RuleVerdict::Nothing => (FR_ACT_NOP, None),
    };
    let header = FibRule {
        family: number(rule.family),
        dst_len: 0,
        table: 0,
        action,
    };
    writer.message(id, &header.to_bytes(), |w| {
        if let Some(link) = rule.from {
            w.text_attribute(FRA_IIFNAME, link);
        }
        if let Some((kind, value)) = operand {
            w.u32_attribute(kind, value);
        }
        w.u32_attribute(FRA_PRIORITY, rule.priority);
        if rule.ours {
            w.u8_attribute(FRA_PROTOCOL, PROTOCOL);
        }
    });
}

/// Asks for what a fixed header describes.
pub(super) fn query(writer: &mut Writer, kind: u16, sequence: u32, header: &[u8]) {
    writer.message((kind, NLM_F_REQUEST | NLM_F_DUMP, sequence), header, |_| {});
}

/// Asks for one link.
pub(super) fn query_link(writer: &mut Writer, sequence: u32, name: &str) {
    let header = IfInfo::default().to_bytes();
    writer.message((RTM_GETLINK, NLM_F_REQUEST, sequence), &header, |w| {
        w.text_attribute(IFLA_IFNAME, name);
    });
}

/// `AF_*`
pub(super) fn number(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => AF_INET,
        IpFamily::V6 => AF_INET6,
    }
}

fn link(index: u32) -> IfInfo {
    IfInfo {
        index,
        ..IfInfo::default()
    }
}

fn family(ip: IpAddr) -> u8 {
    number(IpFamily::of(ip))
}

/// The prefix that is the whole address.
fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
#[path = "write_tests.rs"]
pub(super) mod tests;
