//! How a line looks: for people, for the journal, or as component-base's JSON. Pure, but for the look at where standard error
//! leads.

use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use log::{Level, Record};
use serde_json::Value;

use crate::options::LogFormat;

/// What is put before and around a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) format: LogFormat,
    /// Lines go to the journal, which has a time of its own and wants a priority first.
    pub(super) journal: bool,
}

impl Style {
    /// What is written of a record, less its time.
    pub(super) fn line(self, record: &Record<'_>, verbosity: u8, message: &str) -> String {
        let priority = match self.journal {
            true => priority(record.level()),
            false => "",
        };
        match self.format {
            LogFormat::Text => format!("{priority}[{}] {message}", record.level()),
            LogFormat::Json => format!(
                "{priority}{}",
                json(record, verbosity, message, SystemTime::now())
            ),
        }
    }
}

/// How sd-daemon(3) has it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// The fields of Kubernetes' components: milliseconds, the place in the source, the message; `v` on what is no error. They tell
/// warnings by nothing; `severity` is in addition.
fn json(record: &Record<'_>, verbosity: u8, message: &str, now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_micros() as f64 / 1000.0;
    let caller = caller(record.file().unwrap_or_default());
    let (caller, line) = (caller, record.line().unwrap_or_default());
    let (caller, message) = (
        Value::from(format!("{caller}:{line}")),
        Value::from(message),
    );
    let rest = match record.level() {
        Level::Error => r#""severity":"error""#.to_owned(),
        Level::Warn => r#""v":0,"severity":"warning""#.to_owned(),
        Level::Info | Level::Debug | Level::Trace => format!(r#""v":{verbosity}"#),
    };
    format!(r#"{{"ts":{millis},"caller":{caller},"msg":{message},{rest}}}"#)
}

/// A file and its folder, as zap shortens it.
fn caller(file: &str) -> &str {
    let folder = file.rmatch_indices('/').nth(1);
    folder.map_or(file, |(at, _)| file.get(at + 1..).unwrap_or(file))
}

/// Whether standard error is the journal's: `JOURNAL_STREAM` names it by device and inode, as systemd.exec(5) has it. The
/// variable alone says nothing about a process whose standard error was led elsewhere.
pub(super) fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| (stderr.dev(), stderr.ino()) == (device, inode))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(format: LogFormat, journal: bool, level: Level) -> String {
        let mut record = Record::builder();
        record.level(level).file(Some("src/app/daemon.rs"));
        let record = record.line(Some(95)).build();
        Style { format, journal }.line(&record, 2, "it \"says\"")
    }

    #[test]
    fn lines_for_people_and_for_the_journal() {
        for (journal, level, expect) in [
            (false, Level::Warn, "[WARN] it \"says\""),
            (true, Level::Error, "<3>[ERROR] it \"says\""),
            (true, Level::Warn, "<4>[WARN] it \"says\""),
            (true, Level::Info, "<6>[INFO] it \"says\""),
            (true, Level::Debug, "<7>[DEBUG] it \"says\""),
        ] {
            assert_eq!(line(LogFormat::Text, journal, level), expect);
        }
    }

    #[test]
    fn json_has_the_fields_of_kubernetes() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(1_580_306_777_041_864);
        let start = r#"{"ts":1580306777041.864,"caller":"app/daemon.rs:95","msg":"it \"says\"","#;
        for (level, rest) in [
            (Level::Error, r#""severity":"error"}"#),
            (Level::Warn, r#""v":0,"severity":"warning"}"#),
            (Level::Info, r#""v":2}"#),
        ] {
            let mut record = Record::builder();
            record.level(level).file(Some("src/app/daemon.rs"));
            let found = json(&record.line(Some(95)).build(), 2, "it \"says\"", now);
            assert_eq!(found, format!("{start}{rest}"));
        }
        let found = line(LogFormat::Json, true, Level::Warn);
        assert!(found.starts_with("<4>{\"ts\":"), "{found}");
    }

    #[test]
    fn callers_are_short() {
        for (file, expect) in [
            ("src/app/logging/mod.rs", "logging/mod.rs"),
            ("app/daemon.rs", "app/daemon.rs"),
            ("main.rs", "main.rs"),
            ("", ""),
        ] {
            assert_eq!(caller(file), expect);
        }
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
            return;
        };
        let (device, inode) = (stderr.dev(), stderr.ino());
        for (stream, expect) in [
            (None, false),
            (Some(""), false),
            (Some("8:"), false),
            (Some(&*format!("{device}:{inode}")), true),
            (Some(&*format!("{device}:{}", inode + 1)), false),
        ] {
            assert_eq!(is_journal(stream), expect, "{stream:?}");
        }
    }
}
