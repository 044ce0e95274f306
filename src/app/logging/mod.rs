//! Logs go to standard error, one line each: what others say is part of many, and may hold anything.

mod queue;
mod repetition;
mod style;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use super::capabilities::{self, Duty};
use crate::options::{LogFormat, Logging};
use crate::types::one_line;
use queue::Queue;
use repetition::{Cause, Repetition};
use style::Style;

/// More than the program says by itself.
const LONGEST: usize = 4096;
/// For what is in the queue at the end.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The process's queue and style, once it logs.
static RUNNING: OnceLock<(Arc<Queue>, Style)> = OnceLock::new();

/// From which `-v` on a record is said.
fn verbosity_of(metadata: &Metadata<'_>) -> u8 {
    match (metadata.level(), cause_of(metadata)) {
        (Level::Error | Level::Warn | Level::Info, _) => 0,
        (Level::Debug, Cause::Connection) => 2,
        (Level::Debug, Cause::State) => 4,
        (Level::Trace, _) => 6,
    }
}

/// What the data path says at debug is about one connection.
fn cause_of(metadata: &Metadata<'_>) -> Cause {
    let data_path = metadata.target().starts_with("portico::proxier");
    match data_path && metadata.level() >= Level::Debug {
        true => Cause::Connection,
        false => Cause::State,
    }
}

/// Starts logging.
///
/// # Errors
/// When the kernel gives no thread for it.
pub(super) fn init(logging: Logging) -> io::Result<()> {
    start(logging, LevelFilter::Trace)
}

/// The same for commands whose answer is on standard output: without `-v` only what is wrong is said.
///
/// # Errors
/// As [`init`].
pub(super) fn init_command(logging: Logging) -> io::Result<()> {
    let most = match logging.verbosity {
        0 => LevelFilter::Warn,
        1.. => LevelFilter::Trace,
    };
    start(logging, most)
}

fn start(logging: Logging, most: LevelFilter) -> io::Result<()> {
    let queue = capabilities::with_only(Duty::Nothing, || {
        Queue::start(|lost| {
            log::warn!("{lost} lines are missing here: standard error was not read");
        })
    })??;
    let style = Style {
        format: logging.format,
        journal: style::is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()),
    };
    let logger = Logger {
        verbosity: logging.verbosity,
        most,
        style,
        repetition: Mutex::default(),
        out: *WriteLogger::new(most, config(style), Lines::new(Arc::clone(&queue))),
    };
    // A second call is a test's; the first logger stays.
    if log::set_boxed_logger(Box::new(logger)).is_ok() && RUNNING.set((queue, style)).is_ok() {
        log::set_max_level(most);
        // A panic ends the process: its message must not wait for a reader either.
        std::panic::set_hook(Box::new(|panic| last_word(panic)));
    }
    Ok(())
}

/// The style has the level; the time comes first, where the reader has none of its own.
fn config(style: Style) -> simplelog::Config {
    let mut config = ConfigBuilder::new();
    config
        .set_max_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off);
    match style.journal || style.format == LogFormat::Json {
        true => config.set_time_level(LevelFilter::Off),
        false => config.set_time_format_rfc3339(),
    };
    config.build()
}

/// Says why the process ends. It must not be dropped, and must not wait for long.
pub(super) fn last_word(why: &dyn Display) {
    let Some((queue, style)) = RUNNING.get() else {
        return eprintln!("portico: {why}");
    };
    let why = why.to_string();
    let line = match style.format {
        LogFormat::Text => format!("portico: {why}"),
        LogFormat::Json => {
            let mut record = Record::builder();
            let record = record.level(Level::Error).file(Some(file!())).build();
            style.line(&record, 0, &why)
        }
    };
    queue.push_always(format!("{line}\n").as_bytes());
    flush();
}

/// Gives what is in the queue a moment to be written, before the process ends.
pub(super) fn flush() {
    if let Some((queue, _)) = RUNNING.get() {
        queue.flush(LAST_LINES);
    }
}

struct Logger<L> {
    verbosity: u8,
    /// Of a command without `-v`.
    most: LevelFilter,
    style: Style,
    repetition: Mutex<Repetition>,
    out: L,
}

impl<L: Log> Log for Logger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Of other crates only ours speaks: TLS and HTTP chatter would drown it.
        metadata.target().starts_with("portico")
            && metadata.level() <= self.most
            && verbosity_of(metadata) <= self.verbosity
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (text, now) = (record.args().to_string(), Instant::now());
        let mut repetition = self
            .repetition
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (level, silent) in repetition.summary(now) {
            let mut summary = Record::builder();
            summary.metadata(record.metadata().clone()).level(level);
            self.say(&summary.file(Some(file!())).build(), &silent);
        }
        if repetition.admit(&text, record.level(), cause_of(record.metadata()), now) {
            self.say(record, &text);
        }
    }

    fn flush(&self) {
        self.out.flush();
    }
}

impl<L: Log> Logger<L> {
    fn say(&self, record: &Record<'_>, text: &str) {
        let metadata = record.metadata();
        let text = one_line(text, LONGEST);
        let line = self.style.line(record, verbosity_of(metadata), &text);
        let mut whole = Record::builder();
        whole.metadata(metadata.clone());
        self.out.log(&whole.args(format_args!("{line}")).build());
    }
}

/// Gathers the pieces of a line for the queue.
struct Lines {
    queue: Arc<Queue>,
    line: Vec<u8>,
}

impl Lines {
    fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            line: Vec::new(),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        if self.line.ends_with(b"\n") {
            self.queue.push(&self.line);
            self.line.clear();
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    fn logger(verbosity: u8, most: LevelFilter) -> Logger<Kept> {
        let format = LogFormat::Text;
        Logger {
            verbosity,
            most,
            style: Style {
                format,
                journal: true,
            },
            repetition: Mutex::default(),
            out: Kept::default(),
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let logger = logger(0, LevelFilter::Trace);
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
        let kept = logger.out.0.lock().unwrap();
        let long = format!("<6>[INFO] {}... (5000 bytes)", "x".repeat(LONGEST));
        assert_eq!(*kept, ["<4>[WARN] it says: a\\n\\u{1b}[2Jb", &long]);
    }

    #[test]
    fn levels_are_what_the_man_page_says() {
        let (proxier, app) = ("portico::proxier::tcp::dial", "portico::app::events");
        for (target, level, least) in [
            (app, Level::Info, 0),
            (proxier, Level::Warn, 0),
            (proxier, Level::Debug, 2),
            (app, Level::Debug, 4),
        ] {
            let mut metadata = Metadata::builder();
            let metadata = metadata.target(target).level(level).build();
            for verbosity in 0..6 {
                let said = logger(verbosity, LevelFilter::Trace).enabled(&metadata);
                assert_eq!(said, verbosity >= least, "{target} {level} -v {verbosity}");
            }
            let said = logger(0, LevelFilter::Warn).enabled(&metadata);
            assert_eq!(said, level <= Level::Warn, "of a command: {target} {level}");
        }
        let mut metadata = Metadata::builder();
        let metadata = metadata.target("rustls").level(Level::Warn).build();
        assert!(!logger(9, LevelFilter::Trace).enabled(&metadata));
    }

    #[test]
    fn a_connections_failure_is_said_once_and_counted() {
        let logger = logger(2, LevelFilter::Trace);
        for _ in 0..1000 {
            let mut record = Record::builder();
            let record = record.level(Level::Debug).target("portico::proxier::tcp");
            logger.log(&record.args(format_args!("refused")).build());
        }
        assert_eq!(*logger.out.0.lock().unwrap(), ["<7>[DEBUG] refused"]);
    }
}
