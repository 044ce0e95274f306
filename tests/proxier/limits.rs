//! What belongs to the whole process (open files, memory, wake-ups), each test in a process of its own.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use socket2::{Domain, Socket, Type};

use super::{LONG, Rig};
use crate::util::backend::{Backend, Manner, reset};
use crate::util::eventually;

const ALONE: &str = "PORTICO_TEST_BACKEND";

/// The first time, runs this test again in a process of its own that leaves the backend to us. There, says where it is.
fn alone() -> Option<SocketAddr> {
    if let Ok(backend) = std::env::var(ALONE) {
        return Some(backend.parse().unwrap());
    }
    let backend = Backend::start(Manner::Echo);
    let thread = std::thread::current();
    let test = thread.name().expect("libtest names a test's thread");
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, backend.addr.to_string())
        .status();
    assert!(status.unwrap().success());
    None
}

fn open_files() -> usize {
    // One is the directory's own.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1);
    kib.unwrap().parse().unwrap()
}

/// That this process has used; asking takes no file.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    Duration::from_micros(micros.iter().sum::<i64>() as u64)
}

/// How often each worker has run.
fn worker_activity() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap();
        let name = read("comm").trim().to_owned();
        if name.starts_with("worker-") {
            let times = read("schedstat");
            let times = times.split_whitespace().nth(2).unwrap();
            found.insert(name, times.parse().unwrap());
        }
    }
    assert_eq!(found.len(), 2);
    found
}

fn ask(addr: SocketAddr, text: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text);
    stream
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let Some(backend) = alone() else {
        return;
    };
    let rig = Rig::new();
    let served = rig.tcp(&[backend]);
    let many = |count: usize| {
        let threads = [(); 4].map(|()| {
            std::thread::spawn(move || {
                for i in 0..count / 4 {
                    let stream = ask(served.addr, b"hello");
                    if i % 3 == 0 {
                        reset(stream);
                    }
                }
            })
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        eventually(LONG, "all sessions have ended", || {
            (rig.proxier.active_connections() == 0).then_some(())
        });
    };
    many(2_000);
    let (files, memory) = (open_files(), resident_kib());
    many(10_000);
    eventually(LONG, "files are closed", || {
        (open_files() <= files).then_some(())
    });
    let grown = resident_kib().saturating_sub(memory);
    // On a busy machine more of them are open at once the second time; a leak of 100 bytes each would be a MiB.
    assert!(grown < 768, "grown by {grown} KiB");
}

#[test]
fn clients_wait_while_there_are_no_files() {
    let Some(backend) = alone() else {
        return;
    };
    let rig = Rig::new();
    let served = rig.tcp(&[backend]);
    drop(ask(served.addr, b"warm"));
    let clients: Vec<Socket> = (0..40)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect();
    // Room for five sessions.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = eventually(LONG, "files are closed", || {
        (rig.proxier.active_connections() == 0).then(open_files)
    });
    setrlimit(Resource::RLIMIT_NOFILE, (highest as u32 + 10).into(), hard).unwrap();
    let mut waiting: Vec<TcpStream> = clients
        .into_iter()
        .map(|client| {
            client.connect(&served.addr.into()).unwrap();
            client
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            client.into()
        })
        .collect();
    for client in &mut waiting {
        client.write_all(b"hello").unwrap();
    }
    // One was before. A client in each worker may have the last file and wait for the one of its endpoint.
    let connected = || served.counters.connected.get() - 1;
    eventually(LONG, "as many as there is room for", || {
        (connected() >= 3).then_some(())
    });
    // All others wait, and nobody spins meanwhile.
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    let busy = cpu_time() - before;
    assert!(busy < Duration::from_millis(100), "busy for {busy:?}");
    assert!(connected() <= 5);
    // Everyone's turn comes, as others leave.
    let deadline = Instant::now() + LONG;
    while !waiting.is_empty() {
        assert!(Instant::now() < deadline, "{} left", waiting.len());
        waiting.retain_mut(|client| match client.read(&mut [0; 5]) {
            Ok(n) => {
                assert_eq!(n, 5);
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                true
            }
        });
    }
    assert_eq!(served.counters.failed.get(), 0);
    assert_eq!(connected(), 40);
}

#[test]
fn every_client_that_is_accepted_reaches_its_endpoint() {
    let Some(backend) = alone() else {
        return;
    };
    let clients: Vec<Socket> = (0..60)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = open_files() + 50;
    setrlimit(Resource::RLIMIT_NOFILE, (limit as u32).into(), hard).unwrap();
    let rig = Rig::new();
    let served = rig.tcp(&[backend]);
    // Eight are left to whoever else needs some.
    let possible = (limit - open_files() - 8) / 2;
    assert!((10..30).contains(&possible), "{possible}");
    let waiting: Vec<TcpStream> = clients
        .into_iter()
        .map(|client| {
            client.connect(&served.addr.into()).unwrap();
            client.into()
        })
        .collect();
    let connected = || served.counters.connected.get() as usize;
    eventually(LONG, "all that there are files for", || {
        (connected() >= possible).then_some(())
    });
    // Both workers may take what is there for one.
    let active = served.counters.active.get() as usize;
    assert!((possible..=possible + 1).contains(&active), "{active}");
    let others: Result<Vec<_>, _> = (0..6).map(|_| std::fs::File::open("/dev/null")).collect();
    assert!(others.is_ok(), "{others:?}");
    drop(others);
    // The rest follows as they leave.
    drop(waiting);
    eventually(LONG, "everyone's turn has come", || {
        (connected() == 60 && rig.proxier.active_connections() == 0).then_some(())
    });
    assert_eq!(served.counters.failed.get(), 0);
}

#[test]
fn nothing_wakes_up_while_nothing_happens() {
    let Some(backend) = alone() else {
        return;
    };
    let rig = Rig::new();
    let served = rig.tcp(&[backend]);
    let streams: Vec<_> = (0..20).map(|_| ask(served.addr, b"hello")).collect();
    for _ in 0..20 {
        drop(ask(served.addr, b"hello"));
    }
    // Beyond the ladder's first steps: attempts that succeeded must not leave an alarm behind.
    let quiet = || {
        let before = worker_activity();
        std::thread::sleep(Duration::from_millis(600));
        (worker_activity() == before).then_some(())
    };
    eventually(LONG, "no worker wakes up", quiet);
    drop(streams);
}
