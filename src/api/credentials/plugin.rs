//! A credential plugin at work: the program is run, asked by its environment, and answers on its standard output
//! (client.authentication.k8s.io). What it gives is kept until it expires or the apiserver refuses it.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::error::Error;
use crate::api::kubeconfig::{Config, Material, Plugin, fits_header};
use crate::api::tls::Identity;
use crate::types::one_line;

/// Plugins talk to their cloud; one that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A token and a chain of certificates are smaller.
const LONGEST_ANSWER: usize = 1 << 20;
/// So many lines of what one run says on standard error are passed on.
const MOST_LINES: usize = 50;
const LONGEST_LINE: usize = 500;

/// What a plugin gave.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) token: Option<String>,
    pub(super) identity: Option<Identity>,
    /// How many there were before.
    pub(super) generation: u64,
    expires: Option<SystemTime>,
}

/// What is known of one plugin.
#[derive(Default)]
pub(super) struct Kept {
    given: Option<Given>,
    count: u64,
    /// How its last run failed. Who asked before it had ended is told the same.
    failed: Option<(Instant, Error)>,
}

impl Kept {
    /// What the plugin gave, or gives now. `asked` is when the caller began to wait.
    pub(super) fn get(
        &mut self,
        config: &Config,
        plugin: &Plugin,
        asked: Instant,
    ) -> Result<&Given, Error> {
        let is_over = |given: &Given| given.expires.is_some_and(|end| SystemTime::now() >= end);
        if self.given.as_ref().is_none_or(is_over) {
            if let Some((_, error)) = self.failed.as_ref().filter(|(when, _)| *when >= asked) {
                return Err(error.clone());
            }
            self.given = None;
            self.failed = None;
            let name = plugin.command.display();
            let ran = ask(config, plugin).and_then(|answer| understand(&answer, plugin));
            match ran {
                Ok(given) => {
                    self.count += 1;
                    let generation = self.count;
                    return Ok(self.given.insert(Given {
                        generation,
                        ..given
                    }));
                }
                Err(what) => {
                    let error = Error::config(format_args!("credential plugin {name}: {what}"));
                    self.failed = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
            }
        }
        self.given
            .as_ref()
            .ok_or_else(|| Error::config("no credentials"))
    }

    /// The apiserver does not take this (any more). Somebody else may have found out before, and asked for another.
    pub(super) fn forget(&mut self, generation: u64) {
        self.given.take_if(|given| given.generation == generation);
    }
}

/// Runs the plugin; what it says on standard output.
fn ask(config: &Config, plugin: &Plugin) -> Result<Vec<u8>, String> {
    let question = question(config, plugin)?;
    let mut command = Command::new(&plugin.command);
    command
        .args(&plugin.args)
        .envs(plugin.env.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", question)
        // What is ours to tell the service manager.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // So that it can be ended with all that it has started.
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| cannot_start(&error, plugin))?;
    let name = plugin.command.file_name().unwrap_or(OsStr::new("plugin"));
    let mut run = Run {
        answer: Vec::new(),
        words: Words::new(name.to_string_lossy().into_owned()),
        until: Instant::now() + PATIENCE,
    };
    match run.follow(child) {
        Ok(status) if status.success() => Ok(run.answer),
        Ok(status) => match run.words.last.as_str() {
            "" => Err(status.to_string()),
            last => Err(format!("{status}: {last}")),
        },
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(format!("no answer within {} s", PATIENCE.as_secs()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn cannot_start(error: &io::Error, plugin: &Plugin) -> String {
    let hint = plugin.install_hint.as_ref();
    match (error.kind(), hint) {
        (ErrorKind::NotFound, Some(hint)) => {
            format!("there is no such program: {}", one_line(hint, LONGEST_LINE))
        }
        (ErrorKind::NotFound, None) => {
            "there is no such program (a path is relative to the kubeconfig, a name is looked up on PATH)".to_owned()
        }
        (_, _) => format!("cannot be started: {error}"),
    }
}

/// `KUBERNETES_EXEC_INFO`
fn question(config: &Config, plugin: &Plugin) -> Result<String, String> {
    let mut spec = json!({"interactive": false});
    if plugin.wants_cluster {
        let mut cluster = json!({"server": config.server.as_str()});
        if let Some(name) = &config.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        if config.insecure {
            cluster["insecure-skip-tls-verify"] = json!(true);
        }
        if let Some(ca) = &config.ca {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(content(ca)?));
        }
        if let Some(proxy) = &config.proxy {
            cluster["proxy-url"] = json!(proxy.server.as_str());
        }
        if let Some(own) = &plugin.cluster_config {
            cluster["config"] = own.clone();
        }
        spec["cluster"] = cluster;
    }
    let version = &plugin.api_version;
    Ok(json!({"kind": "ExecCredential", "apiVersion": version, "spec": spec}).to_string())
}

fn content(material: &Material) -> Result<Vec<u8>, String> {
    match material {
        Material::Data(data) => Ok(data.clone()),
        Material::File(path) => {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

/// One run of a plugin.
struct Run {
    answer: Vec<u8>,
    words: Words,
    until: Instant,
}

impl Run {
    /// Until the program has ended, which it does in time.
    fn follow(&mut self, mut child: Child) -> io::Result<ExitStatus> {
        let listened = self.listen(&mut child);
        if listened.is_err() {
            let group = Pid::from_child(&child);
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait()?;
        self.words.end();
        listened.map(|()| status)
    }

    /// Takes what the program says until it has ended, or says nothing more.
    fn listen(&mut self, child: &mut Child) -> io::Result<()> {
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        // Older kernels have none: the end of its words is then the program's end.
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let mut files = Vec::new();
            files.extend(out.as_ref().map(|out| PollFd::new(out, PollFlags::IN)));
            files.extend(err.as_ref().map(|err| PollFd::new(err, PollFlags::IN)));
            let talking = files.len();
            files.extend(process.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
            if talking == 0 || left.is_zero() {
                return match talking {
                    0 => Ok(()),
                    _ => Err(ErrorKind::TimedOut.into()),
                };
            }
            let most = Timespec::try_from(left).ok();
            match poll(&mut files, most.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = files
                .iter()
                .map(|file| !file.revents().is_empty())
                .collect();
            drop(files);
            let has_ended = process.is_some() && ready.last() == Some(&true);
            let mut ready = ready.into_iter();
            // Others that it has started may hold the pipes open: what is in them counts, their end does not.
            let mut heard = false;
            if out.is_some() && ready.next() == Some(true) {
                heard = true;
                self.take_answer(&mut out)?;
            }
            if err.is_some() && ready.next() == Some(true) {
                heard = true;
                self.take_words(&mut err)?;
            }
            if has_ended && !heard {
                return Ok(());
            }
        }
    }

    fn take_answer(&mut self, out: &mut Option<impl Read>) -> io::Result<()> {
        let mut room = [0; 4096];
        let count = out.as_mut().map_or(Ok(0), |out| out.read(&mut room))?;
        self.answer
            .extend_from_slice(room.get(..count).unwrap_or_default());
        if count == 0 {
            *out = None;
        }
        match self.answer.len() <= LONGEST_ANSWER {
            true => Ok(()),
            false => Err(io::Error::other(
                "its answer is longer than any credentials",
            )),
        }
    }

    fn take_words(&mut self, err: &mut Option<impl Read>) -> io::Result<()> {
        let mut room = [0; 4096];
        let count = err.as_mut().map_or(Ok(0), |err| err.read(&mut room))?;
        self.words.take(room.get(..count).unwrap_or_default());
        if count == 0 {
            *err = None;
        }
        Ok(())
    }
}

/// What the program says on standard error, passed on to the log line by line.
struct Words {
    name: String,
    begun: Vec<u8>,
    last: String,
    lines: usize,
}

impl Words {
    fn new(name: String) -> Self {
        Self {
            name,
            begun: Vec::new(),
            last: String::new(),
            lines: 0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end(),
                // The rest of an endless line is of no use.
                _ if self.begun.len() > LONGEST_LINE => {}
                _ => self.begun.push(*byte),
            }
        }
    }

    /// The end of a line.
    fn end(&mut self) {
        let line = std::mem::take(&mut self.begun);
        let line = String::from_utf8_lossy(&line);
        let line = one_line(line.trim_end(), LONGEST_LINE);
        if line.is_empty() {
            return;
        }
        self.lines += 1;
        if self.lines <= MOST_LINES {
            log::info!("credential plugin {}: {line}", self.name);
        }
        self.last = line.into_owned();
    }
}

/// The credentials in a plugin's answer.
fn understand(answer: &[u8], plugin: &Plugin) -> Result<Given, String> {
    let answer: Value = serde_json::from_slice(answer)
        .map_err(|error| format!("its answer is no JSON: {error}"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if answer["kind"] != "ExecCredential" {
        return Err("its answer is no ExecCredential".to_owned());
    }
    if answer["apiVersion"] != plugin.api_version.as_str() {
        return Err(format!(
            "it answers in {}, while the kubeconfig asks for {}",
            one_line(&answer["apiVersion"].to_string(), 100),
            plugin.api_version
        ));
    }
    let status = &answer["status"];
    let token = text(&status["token"]).map(|token| token.trim().to_owned());
    let token = token.filter(|token| !token.is_empty());
    if token.as_deref().is_some_and(|token| !fits_header(token)) {
        return Err("its token has characters that no header can carry".to_owned());
    }
    let pem = |field: &str| text(&status[field]).filter(|pem| !pem.is_empty());
    let name = plugin.command.display();
    let identity = match (pem("clientCertificateData"), pem("clientKeyData")) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: certificate.into_bytes(),
            key: key.into_bytes(),
            certificate_name: format!("the client certificate of credential plugin {name}"),
            key_name: "its key".to_owned(),
        }),
        (None, None) => None,
        (_, _) => return Err("it gives a certificate or a key, not both".to_owned()),
    };
    if token.is_none() && identity.is_none() {
        return Err("it gives neither a token nor a certificate".to_owned());
    }
    Ok(Given {
        token,
        identity,
        generation: 0,
        expires: expiry(&status["expirationTimestamp"])?,
    })
}

fn expiry(value: &Value) -> Result<Option<SystemTime>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(time) => Ok(Some(time.into())),
            Err(_) => Err(format!(
                "its expirationTimestamp is no time: {}",
                one_line(text, 100)
            )),
        },
        _ => Err("its expirationTimestamp is no string".to_owned()),
    }
}

#[cfg(test)]
mod tests;
