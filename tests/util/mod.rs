//! Helpers shared by the subjects: waiting, seeds, and (each in its own file) the apiserver, backends and namespaces.

#![allow(dead_code)]

pub mod apiserver;
pub mod backend;
pub mod daemon;
pub mod left_out;
pub mod netns;
pub mod rng;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use left_out::left_out;

/// Polls until `check` gives a value; panics with `what` once `limit` has passed.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What kube-proxy 1.36 has, too: a gauge by the name of a counter.
const NAMED_UPSTREAM: &str = "kubeproxy_sync_proxy_rules_no_local_endpoints_total non-counter \
    metrics should not have \"_total\" suffix";

/// Prometheus' own checker of the text format, where it is installed.
#[track_caller]
pub fn promtool(text: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match command {
        Ok(promtool) => promtool,
        Err(error) => {
            return left_out(&format!(
                "promtool cannot run (Debian: prometheus): {error}"
            ));
        }
    };
    let mut stdin = promtool.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let problems: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty() && *line != NAMED_UPSTREAM)
        .collect();
    // 3: it can be read, and breaks a rule of style.
    let read = matches!(output.status.code(), Some(0 | 3));
    assert!(read && problems.is_empty(), "{said}");
}

/// A temporary directory, removed on drop.
pub struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "portico-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Writes a file in it, in place; returns its path.
    pub fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
