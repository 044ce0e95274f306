//! A flag that is kept is a flag that is read: each changes something, and the rest of the program looks at that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::setting::{Effect, Setting};
use super::table::settings;
use super::*;

/// A value besides the default for each setting that is kept, by flag or else by field.
const SAMPLES: &[(&str, &str)] = &[
    ("kubeconfig", "/etc/kubeconfig"),
    ("master", "https://10.0.0.1:6443"),
    ("insecure-token-over-http", "true"),
    ("manifests", "/etc/manifests"),
    ("config", "/config"),
    ("hostname-override", "node-7"),
    ("service-proxy-name", "portico"),
    ("portal", "host"),
    ("nodeport-addresses", "10.0.0.0/8"),
    ("iptables-localhost-nodeports", "false"),
    ("bind-address", "10.0.0.1"),
    ("cluster-cidr", "10.0.0.0/8"),
    ("detect-local-mode", "NodeCIDR"),
    ("proxy-mode", "nftables"),
    ("workers", "3"),
    ("drain-timeout", "5s"),
    ("udp-idle-timeout", "5s"),
    ("iptables-sync-period", "5s"),
    ("iptables-min-sync-period", "5s"),
    ("nftables.syncPeriod", "5s"),
    ("nftables.minSyncPeriod", "5s"),
    ("oom-score-adj", "5"),
    ("healthz-bind-address", "10.0.0.1:1"),
    ("metrics-bind-address", "10.0.0.1:1"),
    ("bind-address-hard-fail", "true"),
    ("metrics-per-service", "false"),
    ("control-socket", "/tmp/socket"),
    ("from", "10.0.0.1"),
    ("to", "10.0.0.1:80"),
    ("output", "json"),
    ("namespace", "shop"),
    ("problems", "true"),
    (
        "feature-gates",
        "AllowServiceExternalIPs=false,ComponentFlagz=false,ComponentStatusz=false",
    ),
    ("v", "2"),
    ("logging-format", "json"),
    ("cleanup", "true"),
    ("write-config-to", "/tmp/config"),
    ("init-only", "true"),
    ("version", "true"),
    ("help", "true"),
    ("healthz-port", "0"),
    ("metrics-port", "0"),
    ("udp-timeout", "5s"),
];

/// What `explain` needs besides the flag that is looked at, since some of its flags go together.
const EXPLAIN: &[&str] = &["explain", "--from=10.0.0.9", "--to=10.0.0.9:9"];

/// Fields that the program reads by a method.
const READERS: &[(&str, &str)] = &[
    ("hostname_override", "node_name"),
    ("workers", "worker_count"),
];

fn outcome(args: &[String], file: &str) -> String {
    let parsed = parse(args.iter().cloned(), |_| Ok(file.to_owned()));
    let command = parsed.unwrap_or_else(|error| panic!("{args:?}: {error}"));
    format!("{:#?}", command.command)
}

/// The command with a setting and without it.
fn with_and_without(setting: &Setting, value: &str) -> (String, String) {
    if setting.flag.is_empty() {
        let (section, field) = setting.path.split_once('.').expect("a section's field");
        let file = |rest: &str| {
            format!(
                "apiVersion: {}\nkind: {}\nmode: nftables\n{rest}",
                file::API_VERSION,
                file::KIND
            )
        };
        let args = ["--config=/config".to_owned()];
        let with = file(&format!("{section}: {{{field}: {value}}}\n"));
        return (outcome(&args, &with), outcome(&args, &file("")));
    }
    let file = format!("apiVersion: {}\nkind: {}\n", file::API_VERSION, file::KIND);
    let base: Vec<String> = match setting.taken {
        // They are of many Services, not of one connection.
        setting::Taken::Explain if ["namespace", "problems"].contains(&setting.flag) => {
            vec!["explain".to_owned()]
        }
        setting::Taken::Explain => EXPLAIN.iter().map(|&arg| arg.to_owned()).collect(),
        setting::Taken::Run | setting::Taken::All => Vec::new(),
    };
    let mut with = base.clone();
    with.push(format!("--{}={value}", setting.flag));
    (outcome(&with, &file), outcome(&base, &file))
}

/// The names of the fields that stand on the lines of `with` that are not in `without`, or that those lines are below;
/// `effective` and `flags`, which show all there is, do not count.
fn fields_changed(with: &str, without: &str) -> BTreeSet<String> {
    let before: BTreeSet<String> = located(without).into_iter().map(|(_, all)| all).collect();
    let mut changed = BTreeSet::new();
    for (names, line) in located(with) {
        let shown = names
            .iter()
            .any(|name| name == "effective" || name == "flags");
        if let (Some(name), false, false) = (names.last(), shown, before.contains(&line)) {
            changed.insert(name.clone());
        }
    }
    changed
}

/// Each line of a pretty Debug text: the names of the fields that it stands in, and these with the line itself.
fn located(text: &str) -> Vec<(Vec<String>, String)> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let closes = line.trim_start().starts_with(['}', ']', ')']);
        open.retain(|(at, _)| *at < indent || closes && *at <= indent);
        let name = line.trim_start().split_once(": ").map(|(name, _)| name);
        if let Some(name) =
            name.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        {
            open.push((indent, name.to_owned()));
        }
        let names: Vec<String> = open.iter().map(|(_, name)| name.clone()).collect();
        let all = format!("{}: {}", names.join("."), line.trim());
        lines.push((names, all));
    }
    lines
}

/// Everything of the program but this layer.
fn rest_of_the_program() -> String {
    fn walk(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("options") {
                walk(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut text = String::new();
    walk(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut text,
    );
    text
}

/// Whether a text has `.field`, and not a method of that name.
fn names_field(text: &str, field: &str) -> bool {
    let field = format!(".{field}");
    let mut uses = text.match_indices(&field);
    uses.any(|(at, _)| {
        let rest = text.get(at + field.len()..);
        let next = rest.and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '(')
    })
}

#[test]
fn every_setting_that_is_kept_is_read() {
    let program = rest_of_the_program();
    for setting in settings().filter(|setting| setting.effect == Effect::Kept) {
        let key = match setting.flag {
            "" => setting.path,
            flag => flag,
        };
        let sample = SAMPLES.iter().find(|(name, _)| *name == key);
        let (_, value) = sample.unwrap_or_else(|| panic!("no sample for {key}"));
        let (with, without) = with_and_without(setting, value);
        assert_ne!(with, without, "{key} changes nothing");
        // Another command altogether.
        if with.lines().next() != without.lines().next() {
            continue;
        }
        let changed = fields_changed(&with, &without);
        let read = |field: &&String| {
            let reader = READERS.iter().find(|(name, _)| name == field);
            match reader {
                Some((_, method)) => program.contains(&format!(".{method}(")),
                None => names_field(&program, field),
            }
        };
        let unread: Vec<&String> = changed.iter().filter(|field| !read(field)).collect();
        let some_read = changed.iter().any(|field| read(&field));
        assert!(
            some_read,
            "{key} changes {changed:?}, and nobody reads {unread:?}"
        );
    }
}
