//! What the process asks of the kernel for itself.

use std::net::UdpSocket;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::types::IpFamily;

/// Raises the soft open-file limit to the hard one: a connection costs two files. Returns what is in force.
pub(super) fn raise_open_file_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let [soft, hard] = [limits.current, limits.maximum].map(|limit| limit.unwrap_or(u64::MAX));
    if soft < hard {
        let raised = Rlimit {
            current: limits.maximum,
            ..limits
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::warn!("cannot raise the open-file limit from {soft} to {hard}: {error}");
            return soft;
        }
    }
    hard
}

/// `--oom-score-adj`, as kube-proxy: a failure is only logged (lowering the value needs CAP_SYS_RESOURCE).
pub(super) fn set_oom_score_adj(value: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        log::info!("cannot set oom_score_adj to {value}: {error}");
    }
}

/// The address families that there are proxiers for, as kube-proxy has it: both, but on a kernel without IPv6.
pub(super) fn address_families() -> Vec<IpFamily> {
    let knows = |family: &IpFamily| UdpSocket::bind((family.unspecified(), 0)).is_ok();
    let families = IpFamily::ALL.into_iter();
    families
        .filter(|family| *family == IpFamily::V4 || knows(family))
        .collect()
}

/// The machine's name, for the node name where `--hostname-override` gives none.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
