//! Lines of the Prometheus text format.

use std::fmt::{self, Write as _};

use super::metrics::{AnswerCounts, Reading};
use crate::types::IpFamily;

/// What a family of series is.
#[derive(Clone, Copy)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        })
    }
}

/// Lines of the format.
#[derive(Default)]
pub(super) struct Exposition(pub(super) String);

impl Exposition {
    pub(super) fn family(&mut self, name: &str, kind: MetricType, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.row(name, "", labels.iter().copied(), value);
    }

    pub(super) fn row<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        let _ = write!(self.0, "{name}{suffix}");
        let mut separator = '{';
        for (label, value) in labels {
            let _ = write!(self.0, "{separator}{label}=\"");
            self.escape(value);
            self.0.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn escape(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
    }

    pub(super) fn one(&mut self, name: &str, kind: MetricType, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    pub(super) fn answers(&mut self, name: &str, help: &str, answers: &AnswerCounts) {
        self.family(name, MetricType::Counter, help);
        self.sample(name, &[("code", "200")], answers.good.get() as f64);
        self.sample(name, &[("code", "503")], answers.bad.get() as f64);
    }

    pub(super) fn histogram(&mut self, name: &str, family: IpFamily, reading: &Reading) {
        let family = ("ip_family", family.as_str());
        let mut bucket = |bound: &str, count: u64| {
            let labels = [family, ("le", bound)].into_iter();
            self.row(name, "_bucket", labels, count as f64);
        };
        for (bound, count) in &reading.buckets {
            bucket(&bound.to_string(), *count);
        }
        bucket("+Inf", reading.count);
        self.row(name, "_sum", [family].into_iter(), reading.sum);
        self.row(name, "_count", [family].into_iter(), reading.count as f64);
    }
}
