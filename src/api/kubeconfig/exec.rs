//! `exec`: a program that gives credentials (client.authentication.k8s.io).

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::section::Section;

/// What the program is asked in. The first is what kubectl 1.20 to 1.23 know besides; what is said in it is the same.
const VERSIONS: [&str; 3] = [
    "client.authentication.k8s.io/v1alpha1",
    "client.authentication.k8s.io/v1beta1",
    "client.authentication.k8s.io/v1",
];

/// A credential plugin, as the kubeconfig describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Plugin {
    pub(in crate::api) api_version: String,
    /// A name to be found on the PATH, or a path.
    pub(in crate::api) command: PathBuf,
    pub(in crate::api) args: Vec<String>,
    /// Added to our own environment.
    pub(in crate::api) env: Vec<(String, String)>,
    /// What to tell somebody who does not have it.
    pub(in crate::api) install_hint: Option<String>,
    /// It wants to know which cluster it is for.
    pub(in crate::api) wants_cluster: bool,
    /// The cluster's extension that is for it.
    pub(in crate::api) cluster_config: Option<Value>,
}

impl fmt::Debug for Plugin {
    // Arguments and environment may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", self.command.display())
    }
}

impl Plugin {
    pub(super) fn from_section(exec: &Section<'_>, folder: &Path) -> Result<Self, String> {
        let api_version = exec.required("apiVersion")?;
        if !VERSIONS.contains(&api_version) {
            let [.., beta, stable] = VERSIONS;
            let problem = format!("{api_version:?} is not known; {stable} and {beta} are");
            return Err(exec.at("apiVersion", &problem));
        }
        match exec.filled("interactiveMode")? {
            None | Some("Never" | "IfAvailable") => {}
            Some("Always") => {
                let problem =
                    "Always: there is nobody to answer, since portico runs without a terminal";
                return Err(exec.at("interactiveMode", problem));
            }
            Some(other) => {
                let problem = format!("{other:?} is none of Never, IfAvailable and Always");
                return Err(exec.at("interactiveMode", &problem));
            }
        }
        let command = exec.required("command")?;
        Ok(Self {
            api_version: api_version.to_owned(),
            // A path is relative to the kubeconfig, a name is not: that one is found on the PATH.
            command: match command.contains('/') {
                true => folder.join(command),
                false => PathBuf::from(command),
            },
            args: exec.texts("args")?,
            env: env(exec)?,
            install_hint: exec.filled("installHint")?.map(str::to_owned),
            wants_cluster: exec.flag("provideClusterInfo")?,
            cluster_config: None,
        })
    }
}

fn env(exec: &Section<'_>) -> Result<Vec<(String, String)>, String> {
    let entries = exec.list("env")?.iter().map(|entry| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        // The environment can carry anything but these.
        let name = text("name").filter(|name| !name.is_empty() && !name.contains(['=', '\0']));
        let value = text("value").unwrap_or_default();
        match name.filter(|_| !value.contains('\0')) {
            Some(name) => Ok((name.to_owned(), value.to_owned())),
            None => Err(exec.at("env", "expected entries with a name and a value")),
        }
    });
    entries.collect()
}
