//! The endpoints that connections may go to, as they are kept: a hundred thousand of them, at six bytes each.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

/// Addresses in order; cheap to clone. Nearly always of one family, and then without the room for the other one.
#[derive(Clone)]
pub struct EndpointList(List);

#[derive(Clone)]
enum List {
    V4(Arc<[SocketAddrV4]>),
    V6(Arc<[SocketAddrV6]>),
    Mixed(Arc<[SocketAddr]>),
}

impl EndpointList {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            List::V4(list) => list.len(),
            List::V6(list) => list.len(),
            List::Mixed(list) => list.len(),
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at this place.
    pub(crate) fn get(&self, index: usize) -> Option<SocketAddr> {
        match &self.0 {
            List::V4(list) => list.get(index).copied().map(SocketAddr::V4),
            List::V6(list) => list.get(index).copied().map(SocketAddr::V6),
            List::Mixed(list) => list.get(index).copied(),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, endpoint: &SocketAddr) -> bool {
        match (&self.0, endpoint) {
            (List::V4(list), SocketAddr::V4(endpoint)) => list.contains(endpoint),
            (List::V6(list), SocketAddr::V6(endpoint)) => list.contains(endpoint),
            (List::Mixed(list), endpoint) => list.contains(endpoint),
            (List::V4(_), SocketAddr::V6(_)) | (List::V6(_), SocketAddr::V4(_)) => false,
        }
    }

    /// All of them, each by itself.
    pub fn to_vec(&self) -> Vec<SocketAddr> {
        self.iter().collect()
    }
}

impl Default for EndpointList {
    fn default() -> Self {
        Self(List::V4(Arc::default()))
    }
}

impl From<&[SocketAddr]> for EndpointList {
    fn from(endpoints: &[SocketAddr]) -> Self {
        let v4 = |endpoint: &SocketAddr| match endpoint {
            SocketAddr::V4(endpoint) => Some(*endpoint),
            SocketAddr::V6(_) => None,
        };
        let v6 = |endpoint: &SocketAddr| match endpoint {
            SocketAddr::V6(endpoint) => Some(*endpoint),
            SocketAddr::V4(_) => None,
        };
        Self(if endpoints.iter().all(SocketAddr::is_ipv4) {
            List::V4(endpoints.iter().filter_map(v4).collect())
        } else if endpoints.iter().all(SocketAddr::is_ipv6) {
            List::V6(endpoints.iter().filter_map(v6).collect())
        } else {
            List::Mixed(endpoints.into())
        })
    }
}

impl FromIterator<SocketAddr> for EndpointList {
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(endpoints: I) -> Self {
        endpoints.into_iter().collect::<Vec<_>>()[..].into()
    }
}

impl PartialEq for EndpointList {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for EndpointList {}

impl PartialEq<[SocketAddr]> for EndpointList {
    fn eq(&self, other: &[SocketAddr]) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter().copied())
    }
}

impl fmt::Debug for EndpointList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_it_was_made_of() {
        let list = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let other = "[fd00::9]:53".parse().unwrap();
        for addresses in [
            list(&[]),
            list(&["10.0.0.1:80", "10.0.0.2:8080"]),
            list(&["[fd00::1]:80", "[fd00::1]:81"]),
            list(&["10.0.0.1:80", "[fd00::1]:80"]),
        ] {
            let kept = EndpointList::from(&addresses[..]);
            assert_eq!(kept.to_vec(), addresses);
            assert!(kept == addresses[..]);
            assert_eq!(kept, EndpointList::from_iter(addresses.iter().copied()));
            assert_eq!(kept.len(), addresses.len());
            assert_eq!(kept.is_empty(), addresses.is_empty());
            assert_eq!(kept.get(addresses.len()), None);
            assert!(addresses.iter().all(|address| kept.contains(address)));
            assert!(!kept.contains(&other));
            assert_ne!(kept, EndpointList::from_iter([other]));
        }
    }

    #[test]
    fn an_address_takes_the_room_of_its_family() {
        assert_eq!(size_of::<SocketAddrV4>(), 6);
        assert!(size_of::<EndpointList>() <= 24);
    }
}
