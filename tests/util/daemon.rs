//! The program under test, run in a network namespace.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;
use super::netns::Namespace;

/// Longer than anything here should take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A running `portico`. Dropping it kills it.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts it in a namespace, with a name for its node and without the servers that tests in one namespace would share.
    pub fn start(node: &Namespace, args: &[&str]) -> Self {
        Self::start_with(node, args, &[])
    }

    /// The same with these in its environment.
    pub fn start_with(node: &Namespace, args: &[&str], env: &[(&str, &OsStr)]) -> Self {
        let common = ["--hostname-override", "node-1", "--control-socket="];
        Self::spawn(
            node.command(env!("CARGO_BIN_EXE_portico"))
                .args(common)
                .args(args)
                .envs(env.iter().copied()),
        )
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("portico starts");
        let stderr = child.stderr.take().expect("it is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// Everything it has logged, for assertions and for their messages.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// How many lines of the log contain this.
    pub fn logged(&self, text: &str) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits until it has logged this.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        eventually(SOON, text, || (self.logged(text) > 0).then_some(()));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually(SOON, "portico ends", || {
            child.try_wait().expect("our own child")
        })
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- portico's log ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
