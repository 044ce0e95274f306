//! Stage one: what stands on the command line, flag by flag, by the rules of Go's pflag. Nothing is judged yet.

use super::accepted::{RETIRED, Retired};
use super::nearest::nearest;
use super::setting::{Draft, Setting};
use super::table::settings;

/// A flag as the table knows it.
#[derive(Clone, Copy)]
pub(super) enum Known {
    Setting(&'static Setting),
    Retired(&'static Retired),
}

/// The command line, taken apart.
#[derive(Default)]
pub(super) struct CommandLine {
    /// Flags with their values, in the order given.
    pub(super) flags: Vec<(Known, String)>,
    /// What is no flag: the command and its arguments.
    pub(super) words: Vec<String>,
    /// What could not be taken apart.
    pub(super) errors: Vec<String>,
}

impl CommandLine {
    /// Whether a flag was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(known, _)| known.name() == name)
    }
}

impl Known {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Setting(setting) => setting.flag,
            Self::Retired(retired) => retired.name,
        }
    }

    /// The value of a flag that stands alone, if it may.
    fn alone(self) -> Option<&'static str> {
        match self {
            Self::Setting(setting) => (setting.slot)(&mut Draft::default()).alone(),
            Self::Retired(retired) => retired.boolean.then_some("true"),
        }
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        // pflag as kube-proxy sets it up takes --log_dir for --log-dir.
        let name = name.replace('_', "-");
        let setting = settings().find(|s| !s.flag.is_empty() && s.flag == name);
        let retired = || RETIRED.iter().find(|r| r.name == name);
        setting
            .map(Self::Setting)
            .or_else(|| retired().map(Self::Retired))
    }
}

/// Takes the arguments (without `argv[0]`) apart.
pub(super) fn lex(args: impl IntoIterator<Item = String>) -> CommandLine {
    let mut line = CommandLine::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            line.words.extend(args);
            break;
        }
        let (name, value) = match split(&arg) {
            Some(parts) => parts,
            None => {
                line.words.push(arg);
                continue;
            }
        };
        let Some(known) = Known::find(name) else {
            let flags = settings().map(|setting| setting.flag);
            let instead = match nearest(name, flags.filter(|flag| !flag.is_empty())) {
                Some(flag) => format!("did you mean --{flag}?"),
                None => "see portico --help".to_owned(),
            };
            line.errors.push(format!("unknown flag {arg}; {instead}"));
            continue;
        };
        let value = value.map(str::to_owned);
        let value = value.or_else(|| known.alone().map(str::to_owned));
        match value.or_else(|| args.next()) {
            Some(value) => line.flags.push((known, value)),
            None => line.errors.push(format!("{arg} needs a value")),
        }
    }
    line
}

/// The name and, after `=`, the value of a flag; None for a word. Of one dash only -h, -n and -v exist, as in pflag.
fn split(arg: &str) -> Option<(&str, Option<&str>)> {
    if let Some(long) = arg.strip_prefix("--") {
        return Some(match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        });
    }
    let short = arg.strip_prefix('-').filter(|rest| !rest.is_empty())?;
    let with_value = [('v', "v"), ('n', "namespace")];
    let found = with_value
        .into_iter()
        .find_map(|(letter, name)| Some((name, short.strip_prefix(letter)?)));
    match found {
        Some((name, "")) => Some((name, None)),
        Some((name, value)) => Some((name, Some(value.strip_prefix('=').unwrap_or(value)))),
        None if short == "h" => Some(("help", None)),
        None => Some((arg, None)), // no flag has a dash at its front: unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Vec<(&'static str, String)> {
        let line = lex(args.iter().map(|&a| a.to_owned()));
        assert_eq!(line.errors, Vec::<String>::new(), "{args:?}");
        line.flags
            .into_iter()
            .map(|(known, value)| (known.name(), value))
            .collect()
    }

    #[test]
    fn every_spelling_that_pflag_takes() {
        let table: [(&[&str], &str, &str); 16] = [
            (&["-n", "shop"], "namespace", "shop"),
            (&["-n=shop"], "namespace", "shop"),
            (&["--master=http://a=b"], "master", "http://a=b"),
            (&["--master", "http://a"], "master", "http://a"),
            (&["--master="], "master", ""),
            (&["--cleanup"], "cleanup", "true"),
            (&["--cleanup=false"], "cleanup", "false"),
            (&["-v", "2"], "v", "2"),
            (&["-v=2"], "v", "2"),
            (&["-v2"], "v", "2"),
            (&["--v=2"], "v", "2"),
            (&["--v", "2"], "v", "2"),
            (&["-h"], "help", "true"),
            (&["--version"], "version", "true"),
            (&["--version=raw"], "version", "raw"),
            (&["--log_dir=/var/log"], "log-dir", "/var/log"),
        ];
        for (args, name, value) in table {
            assert_eq!(flags(args), [(name, value.to_owned())], "{args:?}");
        }
    }

    #[test]
    fn words_stand_anywhere_and_after_two_dashes() {
        let args = ["explain", "--from", "10.0.0.1", "a/b", "--", "--to"];
        let line = lex(args.map(str::to_owned));
        assert_eq!(line.words, ["explain", "a/b", "--to"]);
        assert!(line.has("from") && !line.has("to"));
    }

    #[test]
    fn what_pflag_refuses() {
        for (arg, expected) in [
            ("--no-such", "unknown flag --no-such"),
            ("-master=x", "unknown flag -master=x"),
            ("-x", "unknown flag -x"),
            ("--", ""),
            ("--master", "--master needs a value"),
            ("-v", "-v needs a value"),
        ] {
            let errors = lex([arg.to_owned()]).errors;
            assert!(errors.join("\n").starts_with(expected), "{arg}: {errors:?}");
            assert_eq!(errors.is_empty(), expected.is_empty(), "{arg}");
        }
    }
}
