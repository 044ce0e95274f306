//! What the kernel knows about this process, read when somebody asks.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::process::{Resource, getrlimit};

/// Every field is None where the kernel would not say.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu: Option<Duration>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) most_files: Option<u64>,
    /// Of the network namespace that the process is in, as Prometheus' own client counts them.
    pub(super) received_bytes: Option<u64>,
    pub(super) sent_bytes: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let netstat = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
            let times = [usage.user_time(), usage.system_time()];
            let times = times.map(|time| {
                Duration::from_secs(time.tv_sec() as u64)
                    + Duration::from_micros(time.tv_usec() as u64)
            });
            times.into_iter().sum()
        });
        Self {
            cpu,
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            // One of them is the directory being read.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1) as u64),
            most_files: Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
            received_bytes: counter(&netstat, "IpExt:", "InOctets"),
            sent_bytes: counter(&netstat, "IpExt:", "OutOctets"),
        }
    }
}

/// A line of /proc/self/status such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

/// A counter of /proc/net/netstat, where a line of names goes before one of numbers.
fn counter(netstat: &str, section: &str, name: &str) -> Option<u64> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix(section));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    pairs.find(|(known, _)| *known == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        let process = Process::read();
        let resident = process.resident_bytes.unwrap();
        assert!(resident > 100_000 && resident < process.virtual_bytes.unwrap());
        assert!(process.open_files.unwrap() >= 3 && process.open_files < process.most_files);
        assert!(process.cpu.is_some());
    }

    #[test]
    fn netstat_has_names_above_numbers() {
        let netstat = "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets\nIpExt: 0 345\n";
        assert_eq!(counter(netstat, "IpExt:", "InOctets"), Some(345));
        assert_eq!(counter(netstat, "IpExt:", "OutOctets"), None);
        assert_eq!(counter("", "IpExt:", "InOctets"), None);
    }
}
