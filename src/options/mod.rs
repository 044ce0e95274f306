//! The command line and the configuration file: argv in, a [`Command`] out. Pure; the one file is read by a function that
//! the caller gives.
//!
//! Two stages: `args` takes the line apart, flag by flag, into a draft (what the user said); `resolve` completes and
//! validates it into [`Options`] (what the program needs). One table (`table`, `kept`, `accepted`) drives the flags, the file,
//! `--help`, `--write-config-to` and /configz, and the tests hold the man page to it.

mod accepted;
mod args;
mod configuration;
mod duration;
mod file;
mod help;
mod kept;
mod query;
mod resolve;
mod slot;
mod table;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::routing::{ExplainRequest, OutputFormat};
use accepted::Fate;
use args::{Known, Line};
use help::Topic;
use resolve::Origin;
use slot::parse_bool;
use table::{Draft, Verdict, settings};

/// What the user wants done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run the proxy.
    Run(Box<Options>),
    /// `check`: say what this machine allows.
    Check(Box<Options>),
    /// `explain`: say where connections go.
    Explain(Box<Explain>),
    /// `--cleanup`: remove what an earlier run left, and exit.
    Cleanup(Logging),
    /// `--write-config-to`: write this text there, and exit.
    WriteConfig {
        /// Where to.
        path: PathBuf,
        /// The configuration in effect, as YAML.
        yaml: String,
        /// How to log meanwhile.
        logging: Logging,
    },
    /// `--init-only`: everything was in order; exit.
    InitOnly(Logging),
    /// `--help`, `--version`: print this on stdout, and exit.
    Print(String),
}

/// A command, and what is to be logged once logging runs.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What to do.
    pub command: Command,
    /// One line each.
    pub warnings: Vec<String>,
}

/// `portico explain`.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The question, and how to print the answer.
    pub(crate) request: ExplainRequest,
    /// Where to ask, and what an offline answer needs.
    pub(crate) options: Options,
}

/// Everything the proxy is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: replaces the kubeconfig's server.
    pub(crate) master: Option<String>,
    /// `--manifests`, in the order given. In-cluster configuration is tried only if this, `kubeconfig` and `master` are empty.
    pub(crate) manifests: Vec<PathBuf>,
    /// `--config`: to be watched; a change ends the process, or is applied in place.
    pub(crate) config_file: Option<PathBuf>,
    /// `--hostname-override`, trimmed and in lower case; see [`Options::node_name`].
    pub(crate) hostname_override: Option<String>,
    /// `--service-proxy-name`: take only Services whose label has this value. None: only those without the label.
    pub(crate) service_proxy_name: Option<String>,
    /// `--portal`
    pub(crate) portal: PortalKind,
    /// `--nodeport-addresses`: valid CIDRs and keywords; empty: all addresses.
    pub nodeport_addresses: Vec<String>,
    /// `--iptables-localhost-nodeports`
    pub localhost_nodeports: bool,
    /// `--bind-address`: the node's primary IP of its family. None: as the Node object says.
    pub(crate) bind_address: Option<IpAddr>,
    /// `--cluster-cidr`: at most one of each family.
    pub cluster_cidr: Vec<IpNet>,
    /// `--detect-local-mode`
    pub(crate) detect_local: DetectLocal,
    /// `--proxy-mode`: only for show; traffic is carried in userspace in every mode.
    pub(crate) mode: Mode,
    /// `--workers`; None: see [`Options::worker_count`].
    pub(crate) workers: Option<usize>,
    /// `--drain-timeout`
    pub(crate) drain_timeout: Duration,
    /// `--udp-idle-timeout`
    pub(crate) udp_idle_timeout: Duration,
    /// `--iptables-sync-period` (or the mode's own): how often what failed is tried again; healthz's limit is twice this.
    pub sync_period: Duration,
    /// `--iptables-min-sync-period` where it is above its default: collect changes for this long.
    pub(crate) coalesce: Option<Duration>,
    /// `--oom-score-adj`
    pub oom_score_adj: i32,
    /// `--healthz-bind-address`; None: no server.
    pub healthz_bind_address: Option<SocketAddr>,
    /// `--metrics-bind-address`; None: no server.
    pub metrics_bind_address: Option<SocketAddr>,
    /// `--bind-address-hard-fail`
    pub(crate) bind_address_hard_fail: bool,
    /// `--metrics-per-service`
    pub(crate) metrics_per_service: bool,
    /// `--control-socket`; None: no socket.
    pub(crate) control_socket: Option<PathBuf>,
    /// `-v`, `--logging-format`
    pub(crate) logging: Logging,
    /// The KubeProxyConfiguration in effect, for /configz.
    pub(crate) effective: serde_json::Value,
    /// Each flag and its value in effect, sorted, for /flagz.
    pub(crate) flags: Vec<(String, String)>,
}

impl Options {
    /// The name of our Node: `--hostname-override`, else this machine's host name, trimmed and in lower case. None if that
    /// is empty.
    pub fn node_name(&self, hostname: &str) -> Option<String> {
        let name = self.hostname_override.as_deref().unwrap_or(hostname);
        let name = name.trim().to_lowercase();
        (!name.is_empty()).then_some(name)
    }

    /// How many event loops to run on this many cores.
    pub(crate) fn worker_count(&self, cores: usize) -> usize {
        self.workers.unwrap_or(cores.clamp(1, 4))
    }
}

/// `--portal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortalKind {
    /// The first of the others that works.
    Auto,
    /// A network namespace of our own.
    Netns,
    /// Local routes in the host's namespace.
    Host,
    /// Node ports only.
    None,
}

impl PortalKind {
    /// In the order of --help.
    pub(crate) const ALL: [Self; 4] = [Self::Auto, Self::Netns, Self::Host, Self::None];

    /// The flag's spelling.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Netns => "netns",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

/// `--detect-local-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DetectLocal {
    /// Sources inside `cluster_cidr` are local pods'; a family without one has no detection.
    ClusterCidr,
    /// Sources inside our Node's podCIDRs are local pods'.
    NodeCidr,
    /// A mode by interface, which a userspace proxy cannot follow: no detection.
    Off,
}

/// `--proxy-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Mode {
    Userspace,
    Iptables,
    Ipvs,
    Nftables,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `-v`
    pub(crate) verbosity: u8,
    /// `--logging-format`
    pub(crate) format: LogFormat,
}

/// `--logging-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// The flag's spelling.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Why there is no command. Every mistake is in it, not just the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The command line is wrong: print this and exit with status 2.
    Usage(Vec<String>),
    /// The configuration file cannot be read or used: print this and exit with status 1.
    Config {
        /// `--config`
        file: PathBuf,
        /// One line each.
        problems: Vec<String>,
    },
}

impl Error {
    /// The process's exit status.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Config { .. } => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problems) => f.write_str(&problems.join("\n")),
            Self::Config { file, problems } => {
                for (i, problem) in problems.iter().enumerate() {
                    let newline = if i > 0 { "\n" } else { "" };
                    write!(f, "{newline}{}: {problem}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}

/// Parses the arguments (without the program's own name); `read` gives the text of the configuration file.
pub fn parse(
    args: impl IntoIterator<Item = String>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Parsed, Error> {
    let mut line = args::lex(args);
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

/// Takes the command off the words; what is left are its arguments.
fn topic(line: &mut Line) -> Topic {
    let topic = match line.words.first().map(String::as_str) {
        None => return Topic::Run,
        Some("check") => Topic::Check,
        Some("explain") => Topic::Explain,
        Some(other) => {
            let error = format!("unknown command {other:?}; see portico --help");
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

/// Flags of another command.
fn misplaced(line: &mut Line, topic: Topic) {
    for (known, _) in &line.flags {
        match known {
            Known::Setting(setting) if !topic.takes(setting) => {
                let whom = match topic {
                    Topic::Explain => "explain does not take",
                    Topic::Run | Topic::Check => "only explain takes",
                };
                line.errors.push(format!("{whom} --{}", setting.flag));
            }
            _ => {}
        }
    }
}

/// Everything said, file first, flags over it.
fn draft(
    line: &mut Line,
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
fn flags(line: &mut Line, draft: &mut Draft, beside_config: bool, warnings: &mut Vec<String>) {
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
        let Verdict::NoEffect(reason) = setting.verdict else {
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

fn explain(own: &table::Own, words: &[String], options: Options) -> Result<Command, Error> {
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

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod tests;
