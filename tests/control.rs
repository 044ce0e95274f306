//! The control socket: questions, answers, and who may put a socket where.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portico::control::{ControlServer, Error, ask};
use serde_json::{Value, json};

use crate::util::Folder;
use crate::util::left_out::left_out;

fn echo(question: Value) -> Value {
    json!({ "asked": question })
}

fn socket(folder: &Folder) -> PathBuf {
    folder.path().join("run/portico/control.sock")
}

#[test]
fn questions_are_answered() {
    let folder = Folder::new();
    let path = socket(&folder);
    let server = ControlServer::start(&path, echo).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    for question in [
        json!({"explain": "shop/web\nand more"}),
        json!(null),
        json!("x".repeat(60_000)),
    ] {
        assert_eq!(ask(&path, &question).unwrap(), json!({ "asked": question }));
    }
    drop(server);
    assert!(!path.exists(), "the socket file stays behind");
    assert!(matches!(ask(&path, &json!(1)), Err(Error::NotRunning(_))));
}

#[test]
fn a_live_socket_is_respected_and_a_stale_one_replaced() {
    let folder = Folder::new();
    let path = socket(&folder);
    let first = ControlServer::start(&path, echo).unwrap();
    assert!(matches!(
        ControlServer::start(&path, echo),
        Err(Error::InUse(_))
    ));
    assert!(
        ask(&path, &json!(1)).is_ok(),
        "the first one is still there"
    );
    drop(first);
    // As after kill -9: the file is there, nobody listens.
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(ask(&path, &json!(1)), Err(Error::NotRunning(_))));
    let second = ControlServer::start(&path, echo).unwrap();
    assert!(ask(&path, &json!(1)).is_ok());
    // Another process took the path by force: its socket is not ours to remove.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(second);
    assert!(path.exists());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let folder = Folder::new();
    let path = folder.write("control.sock", "precious");
    assert!(matches!(
        ControlServer::start(&path, echo),
        Err(Error::Occupied(_))
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn clients_are_bounded() {
    let folder = Folder::new();
    let path = socket(&folder);
    let server = ControlServer::start(&path, echo).unwrap();
    let tell = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        // It may hang up before everything is written.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(tell(b"no json\n").contains("\"error\""));
    assert_eq!(tell(&[b'['; 100_000]), "", "too long");
    // Deeper than the parser goes.
    assert!(tell(&[&[b'['; 10_000][..], b"\n"].concat()).contains("\"error\""));
    // One that asks nothing holds the next one up for a while, not for ever.
    let _idle = UnixStream::connect(&path).unwrap();
    let begin = Instant::now();
    assert!(ask(&path, &json!(1)).is_ok());
    assert!(begin.elapsed() < Duration::from_secs(8));
    drop(server);
}

#[test]
fn symlinks_of_others_are_not_followed() {
    let folder = Folder::new();
    let (elsewhere, link) = (folder.path().join("elsewhere"), folder.path().join("run"));
    fs::create_dir(&elsewhere).unwrap();
    symlink("elsewhere", &link).unwrap();
    let path = link.join("deep/control.sock");
    // Our own are: /var/run is one.
    let server = ControlServer::start(&path, echo).unwrap();
    assert!(ask(&path, &json!(1)).is_ok());
    drop(server);
    assert!(!path.exists());
    if lchown(&link, Some(65534), Some(65534)).is_err() {
        return left_out("a symlink cannot be given away without root");
    }
    let error = ControlServer::start(&path, echo).unwrap_err();
    assert!(
        matches!(&error, Error::Symlink(found, 65534) if found.ends_with("run")),
        "{error}"
    );
    // One that leads in a circle ends, too.
    symlink("circle", folder.path().join("circle")).unwrap();
    let path = folder.path().join("circle/control.sock");
    assert!(matches!(
        ControlServer::start(&path, echo),
        Err(Error::Io { .. })
    ));
}

#[test]
fn a_directory_that_is_moved_away_takes_its_socket_along() {
    let folder = Folder::new();
    let path = folder.path().join("run/control.sock");
    let server = ControlServer::start(&path, echo).unwrap();
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("run"), &moved).unwrap();
    assert!(ask(&moved.join("control.sock"), &json!(1)).is_ok());
    drop(server);
    assert!(!moved.join("control.sock").exists());
}
