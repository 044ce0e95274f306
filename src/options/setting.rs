//! One setting: where it is kept, what it does here, who takes it, how it reads.

use super::configuration::Configuration;
use super::duration::GoDuration;
use super::slot::Slot;

/// What the user said, before any of it is judged: stage one of the parse.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) config: Configuration,
    pub(super) own: Own,
}

/// Settings that have no place in a KubeProxyConfiguration.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) config_file: String,
    pub(super) write_config_to: String,
    pub(super) cleanup: bool,
    pub(super) init_only: bool,
    pub(super) version: String,
    pub(super) help: bool,
    pub(super) master: String,
    pub(super) insecure_token_over_http: bool,
    pub(super) manifests: Vec<String>,
    pub(super) service_proxy_name: String,
    pub(super) portal: String,
    pub(super) workers: i64,
    pub(super) drain_timeout: GoDuration,
    pub(super) control_socket: String,
    pub(super) metrics_per_service: bool,
    pub(super) healthz_port: i64,
    pub(super) metrics_port: i64,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) output: String,
    pub(super) namespace: String,
    pub(super) problems: bool,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            config_file: String::new(),
            write_config_to: String::new(),
            cleanup: false,
            init_only: false,
            version: String::new(),
            help: false,
            master: String::new(),
            insecure_token_over_http: false,
            manifests: Vec::new(),
            service_proxy_name: String::new(),
            portal: "auto".to_owned(),
            workers: 0,
            drain_timeout: GoDuration::default(),
            control_socket: "/run/portico/control.sock".to_owned(),
            metrics_per_service: true,
            healthz_port: 10256,
            metrics_port: 10249,
            from: String::new(),
            to: String::new(),
            output: "text".to_owned(),
            namespace: String::new(),
            problems: false,
        }
    }
}

/// What a setting does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It acts.
    Kept,
    /// Accepted without a word: there is nothing that it could change.
    Silent,
    /// Accepted; a value other than the default brings one warning with this reason.
    Nothing(&'static str),
}

/// Which commands take a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// `portico` itself and `portico check`.
    Run,
    /// These and `portico explain`.
    All,
    /// `portico explain` alone.
    Explain,
}

/// One setting: a flag, a field of the configuration file, or both.
pub(super) struct Setting {
    /// Without the dashes; empty for a field without a flag.
    pub(super) flag: &'static str,
    /// The field's path in a KubeProxyConfiguration; empty for a flag without a field.
    pub(super) path: &'static str,
    /// Where it is kept.
    pub(super) slot: SlotOf,
    /// What it does here.
    pub(super) effect: Effect,
    /// How --help names the value; empty for a boolean.
    pub(super) value: &'static str,
    /// One line for --help.
    pub(super) doc: &'static str,
    /// Which commands take the flag.
    pub(super) taken: Taken,
    /// The flag holds beside --config.
    pub(super) beside_config: bool,
    /// A zero in the file means unset, as upstream's defaulting has it.
    pub(super) zero_is_unset: bool,
}

pub(super) type SlotOf = fn(&mut Draft) -> Slot<'_>;

/// A flag of portico's own, or of kube-proxy's without a field in the file: it holds beside --config.
pub(super) const fn flag(
    flag: &'static str,
    value: &'static str,
    slot: SlotOf,
    doc: &'static str,
) -> Setting {
    Setting {
        flag,
        path: "",
        slot,
        effect: Effect::Kept,
        value,
        doc,
        taken: Taken::Run,
        beside_config: true,
        zero_is_unset: false,
    }
}

/// A setting that flag and file share.
pub(super) const fn both(
    name: &'static str,
    path: &'static str,
    value: &'static str,
    slot: SlotOf,
    doc: &'static str,
) -> Setting {
    Setting {
        path,
        beside_config: false,
        ..flag(name, value, slot, doc)
    }
}

/// A field of the file that has no flag.
pub(super) const fn field(path: &'static str, slot: SlotOf) -> Setting {
    both("", path, "", slot, "")
}

impl Setting {
    pub(super) const fn explain(mut self) -> Self {
        self.taken = Taken::All;
        self
    }

    pub(super) const fn only_explain(mut self) -> Self {
        self.taken = Taken::Explain;
        self
    }

    pub(super) const fn silent(mut self) -> Self {
        self.effect = Effect::Silent;
        self
    }

    pub(super) const fn no_effect(mut self, reason: &'static str) -> Self {
        self.effect = Effect::Nothing(reason);
        self
    }

    pub(super) const fn beside_config(mut self) -> Self {
        self.beside_config = true;
        self
    }

    pub(super) const fn not_beside_config(mut self) -> Self {
        self.beside_config = false;
        self
    }

    pub(super) const fn zero_is_unset(mut self) -> Self {
        self.zero_is_unset = true;
        self
    }

    /// As a message names it: by its flag or by its field.
    pub(super) fn name(&self, from_file: bool) -> String {
        if (from_file && !self.path.is_empty()) || self.flag.is_empty() {
            self.path.to_owned()
        } else {
            format!("--{}", self.flag)
        }
    }
}

/// Settings under one heading of --help.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) settings: &'static [Setting],
}
