//! From argv to a [`Command`]: which command is meant, what file and flags say together, and what of that changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::accepted::Fate;
use super::args::{self, CommandLine, Known};
use super::command::{Command, Error, Explain, Options, Parsed};
use super::help::{self, Topic};
use super::nearest::nearest;
use super::resolve::{self, Origin};
use super::setting::{Draft, Effect, Own};
use super::slot::parse_bool;
use super::table::settings;
use super::{file, gates, query};
use crate::routing::{ExplainRequest, OutputFormat};

/// The words that may stand for a command.
const COMMANDS: [&str; 4] = ["check", "explain", "help", "version"];

/// Parses the arguments (without the program's own name); `read` gives the text of the configuration file.
pub fn parse(
    args: impl IntoIterator<Item = String>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Parsed, Error> {
    let mut line = args::lex(args);
    if let Some(version) = asked_in_words(&mut line) {
        return Ok(print(version));
    }
    let topic = topic(&mut line);
    if line.has("help") {
        return Ok(print(topic.help()));
    }
    if line.errors.is_empty() {
        misplaced(&mut line, topic);
    }
    let (draft, origin, warnings) = draft(&mut line, read)?;
    if !line.errors.is_empty() {
        return Err(Error::Usage(line.errors));
    }
    let command = command(draft, topic, &line.words, &origin)?;
    Ok(Parsed { command, warnings })
}

fn print(text: String) -> Parsed {
    Parsed {
        command: Command::Print(text),
        warnings: Vec::new(),
    }
}

/// `portico help` and `portico version`, as other programs have them: the one counts as --help, the text of the other is
/// returned.
fn asked_in_words(line: &mut CommandLine) -> Option<String> {
    match line.words.first().map(String::as_str) {
        Some("help") => {
            line.words.remove(0);
            line.flags
                .extend(Known::find("help").map(|help| (help, "true".to_owned())));
            None
        }
        Some("version") if line.words.len() == 1 => Some(help::version(false)),
        Some(_) | None => None,
    }
}

/// Takes the command off the words; what is left are its arguments.
fn topic(line: &mut CommandLine) -> Topic {
    let topic = match line.words.first().map(String::as_str) {
        None => return Topic::Run,
        Some("check") => Topic::Check,
        Some("explain") => Topic::Explain,
        Some(other) => {
            let error = format!("unknown command {other:?}; {}", instead_of(other));
            line.errors.push(error);
            return Topic::Run;
        }
    };
    line.words.remove(0);
    if let (Topic::Check, Some(word)) = (topic, line.words.first()) {
        line.errors
            .push(format!("check takes no argument {word:?}"));
    }
    topic
}

/// What whoever wrote that word may have meant.
fn instead_of(word: &str) -> String {
    let is_file = word.contains('/')
        || [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| word.ends_with(end));
    if is_file {
        return format!("did you mean --manifests {word}?");
    }
    if let Some(flag) = Known::find(word) {
        return format!("did you mean --{}?", flag.name());
    }
    match nearest(word, COMMANDS.into_iter()) {
        Some(command) => format!("did you mean portico {command}?"),
        None => "see portico --help".to_owned(),
    }
}

/// Flags of another command.
fn misplaced(line: &mut CommandLine, topic: Topic) {
    for (known, _) in &line.flags {
        let setting = match known {
            Known::Setting(setting) if !topic.takes(setting) => setting,
            Known::Setting(_) | Known::Retired(_) => continue,
        };
        let whom = match topic {
            Topic::Explain => "explain does not take",
            Topic::Run | Topic::Check => "only explain takes",
        };
        line.errors.push(format!("{whom} --{}", setting.flag));
    }
}

/// Everything said, file first, flags over it.
fn draft(
    line: &mut CommandLine,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<(Draft, Origin, Vec<String>), Error> {
    let mut draft = Draft::default();
    let mut warnings = Vec::new();
    let file = line
        .flags
        .iter()
        .rev()
        .find(|(known, _)| known.name() == "config");
    let file = file
        .map(|(_, value)| PathBuf::from(value))
        .filter(|path| !path.as_os_str().is_empty());
    // --cleanup must work when nothing else does any more.
    let file = file.filter(|_| !line.has("cleanup"));
    if let Some(path) = &file {
        let wrong = |problems| Error::Config {
            file: path.clone(),
            problems,
        };
        let text = read(path).map_err(|error| wrong(vec![error.to_string()]))?;
        let found = file::apply(&text, &mut draft).map_err(wrong)?;
        warnings.extend(
            found
                .into_iter()
                .map(|w| format!("{}: {w}", path.display())),
        );
    }
    let origin = Origin {
        healthz_given: file.is_none() && line.has("healthz-bind-address"),
        metrics_given: file.is_none() && line.has("metrics-bind-address"),
        config_file: file,
    };
    flags(
        line,
        &mut draft,
        origin.config_file.is_some(),
        &mut warnings,
    );
    without_effect(&mut draft, origin.config_file.is_some(), &mut warnings);
    Ok((draft, origin, warnings))
}

/// Puts the flags over the draft.
fn flags(
    line: &mut CommandLine,
    draft: &mut Draft,
    beside_config: bool,
    warnings: &mut Vec<String>,
) {
    let mut dropped: Vec<String> = Vec::new();
    for (i, (known, value)) in line.flags.iter().enumerate() {
        let name = known.name();
        match known {
            Known::Setting(setting) if beside_config && !setting.beside_config => {
                dropped.push(format!("--{name}"));
            }
            Known::Setting(setting) => {
                let before = line.flags.get(..i).unwrap_or_default();
                let first = !before.iter().any(|(known, _)| known.name() == name);
                if let Err(reason) = (setting.slot)(draft).set_text(value, first) {
                    line.errors.push(format!("--{name}: {value:?}: {reason}"));
                }
            }
            Known::Retired(retired) if retired.boolean && parse_bool(value).is_none() => {
                let error = format!("--{name}: {value:?}: expected true or false");
                line.errors.push(error);
            }
            Known::Retired(retired) => match retired.fate {
                Fate::Silent => {}
                Fate::Ignored { unless, .. } if value == unless => {}
                Fate::Ignored { reason, .. } => {
                    warnings.push(format!("--{name} has no effect: {reason}"));
                }
                Fate::Refused(reason) => line.errors.push(format!("--{name}: {reason}")),
            },
        }
    }
    if !dropped.is_empty() {
        warnings.push(format!(
            "ignored because --config is given: {}",
            dropped.join(", ")
        ));
    }
}

/// One warning for each setting that is not at its default and changes nothing.
fn without_effect(draft: &mut Draft, from_file: bool, warnings: &mut Vec<String>) {
    let mut default = Draft::default();
    for setting in settings() {
        let Effect::Nothing(reason) = setting.effect else {
            continue;
        };
        let value = (setting.slot)(draft).to_json();
        // The one value besides the default that asks for what happens anyway.
        let json = setting.flag == "kube-api-content-type" && value == "application/json";
        if value != (setting.slot)(&mut default).to_json() && !json {
            warnings.push(format!(
                "{} has no effect: {reason}",
                setting.name(from_file)
            ));
        }
    }
    warnings.extend(gates::warnings(&draft.config.feature_gates));
    let mode = draft.config.mode.as_str();
    if matches!(mode, "iptables" | "ipvs" | "nftables") {
        warnings.push(format!(
            "mode {mode}: portico carries traffic in userspace all the same"
        ));
    }
    let local = draft.config.detect_local_mode.as_str();
    if matches!(local, "BridgeInterface" | "InterfaceNamePrefix") {
        warnings.push(format!(
            "detect-local mode {local}: no source counts as a local pod, because a userspace proxy sees addresses, not interfaces"
        ));
    }
}

fn command(
    draft: Draft,
    topic: Topic,
    words: &[String],
    origin: &Origin,
) -> Result<Command, Error> {
    let own = draft.own.clone();
    match own.version.as_str() {
        "" | "false" => {}
        raw => return Ok(Command::Print(help::version(raw == "raw"))),
    }
    let options =
        resolve::resolve(draft, origin).map_err(|problems| match &origin.config_file {
            Some(file) => Error::Config {
                file: file.clone(),
                problems,
            },
            None => Error::Usage(problems),
        })?;
    match topic {
        Topic::Check => Ok(Command::Check(Box::new(options))),
        Topic::Explain => explain(&own, words, options),
        Topic::Run if own.cleanup => Ok(Command::Cleanup(options.logging)),
        Topic::Run if !own.write_config_to.is_empty() => Ok(Command::WriteConfig {
            path: own.write_config_to.into(),
            yaml: file::to_yaml(&options.effective),
            logging: options.logging,
        }),
        Topic::Run if own.init_only => Ok(Command::InitOnly(options.logging)),
        Topic::Run => Ok(Command::Run(Box::new(options))),
    }
}

fn explain(own: &Own, words: &[String], options: Options) -> Result<Command, Error> {
    let mut errors = Vec::new();
    let output = OutputFormat::parse(&own.output).unwrap_or_else(|| {
        let other = &own.output;
        errors.push(format!("--output: {other}: expected text or json"));
        OutputFormat::default()
    });
    match query::parse(words, own) {
        Ok(query) if errors.is_empty() => {
            let request = ExplainRequest { query, output };
            Ok(Command::Explain(Box::new(Explain { request, options })))
        }
        Ok(_) => Err(Error::Usage(errors)),
        Err(error) => {
            errors.push(error);
            Err(Error::Usage(errors))
        }
    }
}
