//! Round robin.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::routing::EndpointList;

/// Whose turn it is. Taking one's turn is one atomic increment.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    next: AtomicUsize,
    /// Where it begins: nodes that learn of new endpoints at the same time should not all begin with the same one.
    start: usize,
}

impl Rotation {
    /// Begins at `start` (modulo the number of endpoints).
    pub(super) fn starting_at(start: u32) -> Self {
        let start = start as usize;
        Self {
            next: AtomicUsize::new(start),
            start,
        }
    }

    /// Begins again.
    pub(super) fn restart(&self) {
        self.next.store(self.start, Ordering::Relaxed);
    }

    /// The next among the best there are: neither tried nor penalised; else only penalised; else any.
    pub(super) fn next(
        &self,
        endpoints: &EndpointList,
        tried: &[SocketAddr],
        is_penalised: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let untried = |endpoint: &SocketAddr| !tried.contains(endpoint);
        let good = |endpoint: &SocketAddr| untried(endpoint) && !is_penalised(endpoint);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let next = endpoints.get(turn.checked_rem(endpoints.len())?)?;
        if good(&next) {
            return Some(next);
        }
        // By turn among those left, not the neighbour of the one passed over: that one would get a double share.
        nth(endpoints, turn, good)
            .or_else(|| nth(endpoints, turn, untried))
            .or(Some(next))
    }
}

/// The one whose turn it is among those that qualify.
fn nth(
    endpoints: &EndpointList,
    turn: usize,
    qualifies: impl Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr> {
    let count = endpoints.iter().filter(&qualifies).count();
    let index = turn.checked_rem(count)?;
    endpoints.iter().filter(&qualifies).nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        let one = |n| SocketAddr::from(([10, 0, 0, n], 80));
        (1..=count).map(one).collect()
    }

    #[test]
    fn a_rotation_may_start_anywhere_and_restarts_there() {
        let of = EndpointList::from(&endpoints(3)[..]);
        let rotation = Rotation::starting_at(u32::MAX);
        let next = || rotation.next(&of, &[], |_| false).unwrap();
        let first = next();
        assert_ne!(next(), first);
        rotation.restart();
        assert_eq!(next(), first);
    }

    #[test]
    fn the_best_there_are_by_turn() {
        let all = endpoints(4);
        let of = EndpointList::from(&all[..]);
        let rotation = Rotation::default();
        let rows: [(&[usize], &[usize], &[usize]); 5] = [
            (&[], &[], &[0, 1, 2, 3]),
            (&[], &[0], &[1, 2, 3]),
            (&[1], &[0], &[2, 3]),
            // Penalised is better than tried.
            (&[0, 1], &[2, 3], &[2, 3]),
            (&[0, 1, 2, 3], &[], &[0, 1, 2, 3]),
        ];
        for (tried, penalised, expect) in rows {
            let at = |places: &[usize]| places.iter().map(|n| all[*n]).collect::<Vec<_>>();
            let (tried, penalised, expect) = (at(tried), at(penalised), at(expect));
            let mut counts = vec![0; expect.len()];
            for _ in 0..12 {
                let next = rotation.next(&of, &tried, |e| penalised.contains(e));
                let place = expect.iter().position(|e| Some(*e) == next);
                counts[place.unwrap()] += 1;
            }
            let share = 12 / expect.len();
            assert!(
                counts.iter().all(|count| *count == share),
                "{expect:?}: {counts:?}"
            );
        }
        assert_eq!(
            rotation.next(&EndpointList::default(), &[], |_| false),
            None
        );
    }
}
