//! Tests that cannot run here, for want of privileges or of a program.
//!
//! cargo shows nothing of what a passed test writes. So each such test leaves a note, and the last test target
//! (tests/left_out_main.rs) says at the end of `cargo test` how many there were and why. With CI=true nothing may be
//! wanting, and what is fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

/// A folder for each run of cargo, by its process id; in it a file for each test, which holds the reason.
const NOTES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/left-out");

/// Notes that the running test does not do what it is for, or not all of it. `why` begins with what is missing.
#[track_caller]
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().expect("libtest names a test's thread");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} is left out, which CI=true does not allow: {why}"
    );
    let notes = Path::new(NOTES).join(parent_id().to_string());
    fs::create_dir_all(&notes).expect("cargo's own folder can be written");
    fs::write(notes.join(test), why).expect("cargo's own folder can be written");
}

/// How many tests of this run of cargo left what out, by reason. Forgets them, and what runs that have ended left.
pub fn take() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for run in entries(Path::new(NOTES)) {
        let cargo = run.file_name().map(|name| Path::new("/proc").join(name));
        if run.ends_with(parent_id().to_string()) {
            for why in entries(&run)
                .iter()
                .filter_map(|note| fs::read_to_string(note).ok())
            {
                *found.entry(why).or_default() += 1;
            }
        } else if cargo.is_some_and(|cargo| cargo.exists()) {
            continue;
        }
        let _ = fs::remove_dir_all(run);
    }
    // Unless another run is under way.
    let _ = fs::remove_dir(NOTES);
    found
}

/// What a folder holds; one that is not there holds nothing.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).collect()
}
