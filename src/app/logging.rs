//! Logs go to standard error, one line each.

use std::io;

use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// What kube-proxy's `-v` means here. Its manifests carry `--v=2` everywhere, which there is "what an operator should see".
fn level(verbosity: u8) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::Info,
        4..=5 => LevelFilter::Debug,
        6.. => LevelFilter::Trace,
    }
}

/// Starts logging. Under journald (`JOURNAL_STREAM`) lines carry no timestamp: the journal has its own.
pub(super) fn init(verbosity: u8) {
    start(level(verbosity));
}

/// The same for commands whose answer is on standard output: without `-v` only what is wrong is said.
pub(super) fn init_command(verbosity: u8) {
    start(match verbosity {
        0 => LevelFilter::Warn,
        1.. => level(verbosity),
    });
}

fn start(level: LevelFilter) {
    let mut config = ConfigBuilder::new();
    config
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        // Of other crates only ours speaks: TLS and HTTP chatter would drown it.
        .add_filter_allow_str("portico");
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => config.set_time_level(LevelFilter::Off),
        None => config.set_time_format_rfc3339(),
    };
    // A second call is a test's; the first logger stays.
    let _ = WriteLogger::init(level, config.build(), io::stderr());
}
