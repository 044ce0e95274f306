//! Logs go to standard error, one line each: what others say is part of many, and may hold anything.

use std::io;

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::types::one_line;

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
    let logger = OneLine(*WriteLogger::new(level, config.build(), io::stderr()));
    // A second call is a test's; the first logger stays.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// More than the program says by itself.
const LONGEST: usize = 4096;

/// Hands on what fits on one line.
struct OneLine<L>(L);

impl<L: Log> Log for OneLine<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let text = one_line(&text, LONGEST);
            let mut line = Record::builder();
            line.metadata(record.metadata().clone());
            self.0.log(&line.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::*;

    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Log for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Info
        }

        fn log(&self, record: &Record<'_>) {
            let line = format!("{} {}", record.target(), record.args());
            self.0.lock().unwrap().push(line);
        }

        fn flush(&self) {}
    }

    #[test]
    fn a_record_is_a_line() {
        let kept = Arc::default();
        let logger = OneLine(Kept(Arc::clone(&kept)));
        let log = |level, args: std::fmt::Arguments<'_>| {
            let mut record = Record::builder();
            logger.log(&record.level(level).target("portico").args(args).build());
        };
        log(
            Level::Warn,
            format_args!("{} says: {}", "it", "a\n\x1b[2Jb"),
        );
        log(Level::Debug, format_args!("not wanted"));
        log(Level::Info, format_args!("{}", "x".repeat(5000)));
        let kept = kept.lock().unwrap();
        let long = format!("portico {}... (5000 bytes)", "x".repeat(LONGEST));
        assert_eq!(*kept, ["portico it says: a\\n\\u{1b}[2Jb", &long]);
    }
}
