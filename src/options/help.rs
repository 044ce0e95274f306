//! What `--help` and `--version` print.

use super::accepted::{Fate, RETIRED};
use super::kept::GROUPS;
use super::setting::{Effect, Group, Setting, Taken};

/// Whose help is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Run,
    Check,
    Explain,
}

const USAGE: &str = "\
portico makes Kubernetes Services reachable from this node, in userspace.

usage: portico [flags]            run the proxy
       portico check [flags]      say what this kernel and these privileges allow
       portico explain [flags] [NAMESPACE/NAME]
                                  say where connections go, and why
       portico help [COMMAND]     this, or a command's flags
       portico version
";

const CHECK: &str = "\
usage: portico check [flags]

Says, one line each, what this kernel and these privileges allow, which portal would be used, and what to do about
whatever is missing. Takes the flags that the proxy itself would get.

Exit status: 0 when nothing is missing; 3 when the portal can work, but a line says that something is missing; 1 when
the portal cannot work, so that the proxy would not start.
";

const EXPLAIN: &str = "\
usage: portico explain [flags]                           all Services
       portico explain [flags] NAMESPACE/NAME            one Service, endpoint by endpoint
       portico explain [flags] --from IP --to IP:PORT    one connection

Asks the running proxy; with --manifests, answers from these files alone, for the Node
of --hostname-override, or else the only one in them.
";

impl Topic {
    /// Whether this command takes a flag.
    pub(super) fn takes(self, setting: &Setting) -> bool {
        match setting.taken {
            Taken::All => true,
            Taken::Run => self != Self::Explain,
            Taken::Explain => self == Self::Explain,
        }
    }

    /// The text of --help.
    pub(super) fn help(self) -> String {
        let mut out = match self {
            Self::Run => USAGE,
            Self::Check => CHECK,
            Self::Explain => EXPLAIN,
        }
        .to_owned();
        for group in GROUPS {
            let documented = group.settings.iter().filter(|s| !s.doc.is_empty());
            // portico's own help shows all there is.
            let shown: Vec<_> = documented
                .filter(|s| self == Self::Run || self.takes(s))
                .collect();
            if shown.is_empty() {
                continue;
            }
            out.push_str(&format!("\n{}:\n", group.title));
            for setting in shown {
                out.push_str(&entry(setting));
            }
        }
        if self == Self::Run {
            accepted(&mut out);
        }
        out
    }
}

/// `  --flag VALUE` and its line of help, beside it where there is room.
fn entry(setting: &Setting) -> String {
    let dashes = match setting.flag {
        "v" => "-v, --v",
        "help" => "-h, --help",
        other => &format!("--{other}"),
    };
    let name = format!("{dashes} {}", setting.value);
    if name.len() < 30 {
        format!("  {name:<30}{}\n", setting.doc)
    } else {
        format!("  {}\n{:32}{}\n", name.trim_end(), "", setting.doc)
    }
}

/// The flags that change nothing, as one paragraph.
fn accepted(out: &mut String) {
    let silent = |group: &'static Group| group.settings.iter().filter(|s| s.effect != Effect::Kept);
    let flags = GROUPS.iter().flat_map(silent).map(|s| s.flag);
    let retired = RETIRED
        .iter()
        .filter(|r| !matches!(r.fate, Fate::Refused(_)))
        .map(|r| r.name);
    let names = flags.chain(retired).filter(|flag| !flag.is_empty());
    out.push_str("\nAccepted from kube-proxy's command lines, without effect:\n");
    let mut line = String::from(" ");
    for name in names {
        if line.len() + name.len() + 3 > 110 {
            out.push_str(&format!("{line}\n"));
            line = String::from(" ");
        }
        line.push_str(&format!(" --{name}"));
    }
    out.push_str(&format!("{line}\n"));
}

/// `portico 0.1.0`, or with `raw` its parts in the notation that kube-proxy uses.
pub(super) fn version(raw: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if !raw {
        return format!("portico {version}\n");
    }
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    format!(
        "version.Info{{Major:\"{major}\", Minor:\"{minor}\", GitVersion:\"v{version}\", Platform:\"{}/{}\"}}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
