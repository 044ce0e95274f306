//! What each thread may do. Capabilities belong to threads and are inherited: a thread that needs fewer is started by one that
//! has given the rest up.

use std::io;
use std::thread;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// For the portal: a network namespace, links and routes in it, ports below 1024.
const PORTAL: CapabilitySet = CapabilitySet::SYS_ADMIN.union(ROUTES);
/// For what it goes on doing.
const ROUTES: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_BIND_SERVICE);
/// For those who read files that belong to others: manifests, tokens and certificates in a home directory.
const READERS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Routes and listeners.
    Kernel,
    /// Files that others write.
    Files,
    /// A server on a port below 1024.
    Server,
    /// Neither: bytes, and answers to questions.
    Nothing,
}

impl Duty {
    fn needs(self) -> CapabilitySet {
        match self {
            Self::Kernel => ROUTES,
            Self::Files => READERS,
            Self::Server => CapabilitySet::NET_BIND_SERVICE,
            Self::Nothing => CapabilitySet::empty(),
        }
    }
}

/// Gives up what no part of the program needs, for this thread and all that it starts, and for good: no program that one of
/// them might run gains anything either.
pub(super) fn limit_process() {
    let needed = PORTAL.union(READERS);
    let limit = || -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if needed.contains(one) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // The kernel has no more of them, or who started us has seen to it and left us no say.
                Err(Errno::INVAL | Errno::PERM) => break,
                Err(error) => return Err(error.into()),
            }
        }
        keep(needed)
    };
    report(limit());
}

/// Gives up what this thread does not need for its duty.
pub(super) fn limit_thread(duty: Duty) {
    let limit = || -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        keep(duty.needs())
    };
    report(limit());
}

/// Does something with what a duty needs alone, so that the threads that it starts have no more.
///
/// # Errors
/// When the kernel gives no thread for it.
pub(super) fn with_only<T: Send>(duty: Duty, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let starter = thread::Builder::new().name("starter".into());
        let starter = starter.spawn_scoped(scope, || {
            limit_thread(duty);
            work()
        })?;
        match starter.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Of those that this thread has; it gains none.
fn keep(needed: CapabilitySet) -> io::Result<()> {
    let has = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: has.effective & needed,
            permitted: has.permitted & needed,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// It is a precaution: a kernel that refuses it is no reason not to serve.
fn report(limited: io::Result<()>) {
    if let Err(error) = limited {
        log::warn!("cannot give up privileges that are not needed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_started_with_less_has_less() {
        let of = |duty| {
            with_only(duty, || rustix::thread::capabilities(None))
                .unwrap()
                .unwrap()
        };
        let before = rustix::thread::capabilities(None).unwrap();
        for duty in [Duty::Kernel, Duty::Files, Duty::Server, Duty::Nothing] {
            let found = of(duty);
            assert_eq!(found.permitted, before.permitted & duty.needs(), "{duty:?}");
            assert_eq!(found.effective, before.effective & duty.needs(), "{duty:?}");
        }
        let after = rustix::thread::capabilities(None).unwrap();
        assert_eq!(after, before, "this thread keeps its own");
    }
}
