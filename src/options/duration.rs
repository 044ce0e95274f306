//! Durations as Go writes them: `30s`, `1m0s`, `2h22m`, `1.5h`.

use std::fmt;
use std::time::Duration;

/// A Go `time.Duration`: signed nanoseconds, so that a negative one can be refused by name and not by accident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoDuration(i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),  // micro sign
    ("\u{3bc}s", 1_000), // Greek mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    pub(super) const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    pub(super) const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Go's `time.ParseDuration`: numbers, each with a unit; only zero may go without one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total = 0i64;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (digits, tail) = rest.split_at(number);
            let unit = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(scaled(digits, *nanos)?)?;
            rest = tail;
        }
        Some(Self(if negative { -total } else { total }))
    }

    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// A negative duration is none at all.
    pub(super) fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// `digits` (with at most one dot) times `unit`, exactly: "1.5" hours is 90 minutes.
fn scaled(digits: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut nanos = match whole {
        "" => 0,
        whole => whole.parse::<i64>().ok()?.checked_mul(unit)?,
    };
    // Eighteen digits are more than nanoseconds can tell apart, and keep the products within 128 bits.
    let (mut part, mut scale) = (0i128, 1i128);
    for digit in fraction.chars().take(18) {
        part = part * 10 + i128::from(digit.to_digit(10)?);
        scale *= 10;
    }
    nanos = nanos.checked_add(i64::try_from(part * i128::from(unit) / scale).ok()?)?;
    Some(nanos)
}

impl fmt::Display for GoDuration {
    /// Go's `Duration.String()`: `1m30s`, `15m0s`, `250ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (unit, name) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "\u{b5}s"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{name}", decimal(nanos, unit));
        }
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
    }
}

/// `nanos` in `unit`s, without trailing zeros.
fn decimal(nanos: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_as_go_does() {
        let table = [
            ("30s", 30_000_000_000, "30s"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1m0s", 60_000_000_000, "1m0s"),
            ("15m", 900_000_000_000, "15m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("2h22m", 8_520_000_000_000, "2h22m0s"),
            ("250ms", 250_000_000, "250ms"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1.001s", 1_001_000_000, "1.001s"),
            ("-5s", -5_000_000_000, "-5s"),
            ("+5s", 5_000_000_000, "5s"),
            ("10us", 10_000, "10\u{b5}s"),
            ("10\u{b5}s", 10_000, "10\u{b5}s"),
            ("1ns", 1, "1ns"),
            ("24h0m0s", 86_400_000_000_000, "24h0m0s"),
            (
                "0.3333333333333333333h",
                1_200_000_000_000 - 1,
                "19m59.999999999s",
            ),
        ];
        for (text, nanos, printed) in table {
            let parsed = GoDuration::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parsed, GoDuration(nanos), "{text}");
            assert_eq!(parsed.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for bad in [
            "",
            "30",
            "s",
            ".s",
            "1.2.3s",
            "1d",
            "-",
            "1s ",
            " 1s",
            "9999999999h",
            "1h-5m",
            "3000000h",
        ] {
            assert_eq!(GoDuration::parse(bad), None, "{bad:?}");
        }
    }
}
