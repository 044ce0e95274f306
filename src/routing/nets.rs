//! Networks, coarse ones: whether an address of one sort may be near one of another.

use std::net::IpAddr;

/// Networks, and how many reasons there are for each.
#[derive(Debug, Default)]
pub(super) struct Nets(Vec<(Net, usize)>);

/// The first 16 bits of an IPv4 address, the first 48 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Net {
    V4([u8; 2]),
    V6([u16; 3]),
}

impl Net {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, _, _] = ip.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Self::V6([a, b, c])
            }
        }
    }
}

impl Nets {
    pub(super) fn add(&mut self, net: Net) {
        match self.0.iter_mut().find(|(known, _)| *known == net) {
            Some((_, count)) => *count += 1,
            None => self.0.push((net, 1)),
        }
    }

    pub(super) fn remove(&mut self, net: Net) {
        if let Some(at) = self.0.iter().position(|(known, _)| *known == net) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    pub(super) fn contains(&self, net: Net) -> bool {
        self.0.iter().any(|(known, _)| *known == net)
    }
}
