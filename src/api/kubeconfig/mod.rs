//! How to reach the apiserver: a kubeconfig, `--master`, or the service account of a pod.

mod exec;
mod proxy;
mod section;
mod server;
mod user;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

pub(super) use exec::Plugin;
pub(super) use proxy::Proxy;
pub use server::Server;
pub(super) use user::fits_header;
pub use user::{Material, Token, User};

use super::error::Error;
use crate::types::decode_text;
use crate::wire::yaml;
use section::Section;

/// Where a pod finds its credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The extension of a cluster that is for its credential plugin.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

/// What a kubeconfig's current context says, checked as far as it can be without a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Base of all URLs.
    pub server: Server,
    /// Who signs the server's certificate; None for the roots of the web.
    pub(super) ca: Option<Material>,
    /// The name to ask for and to check, if not the server's own.
    pub(super) tls_server_name: Option<String>,
    /// Do not check the server's certificate.
    pub(super) insecure: bool,
    /// Who stands between us and the server.
    pub(super) proxy: Option<Proxy>,
    /// Who asks.
    pub user: User,
    /// What the user should know although it can be used.
    pub(super) remarks: Vec<String>,
}

impl Config {
    /// Reads a kubeconfig; `master` replaces its server.
    pub(super) fn from_file(path: &Path, master: Option<&str>) -> Result<Self, Error> {
        let problem = |what: &dyn fmt::Display| {
            Error::config(format_args!("kubeconfig {}: {what}", path.display()))
        };
        let bytes = fs::read(path).map_err(|error| problem(&error))?;
        let text = decode_text(bytes).map_err(|what| problem(&what))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let config = Self::parse(&text, folder, master).map_err(|what| problem(&what))?;
        config.check_files().map_err(|what| problem(&what))?;
        Ok(config)
    }

    /// `--master` alone: nobody in particular asks.
    pub(super) fn from_master(master: &str) -> Result<Self, Error> {
        let server = Server::parse(master, false)
            .map_err(|what| Error::config(format_args!("--master: {what}")))?;
        Ok(Self::of(server))
    }

    fn of(server: Server) -> Self {
        Self {
            server,
            ca: None,
            tls_server_name: None,
            insecure: false,
            proxy: None,
            user: User::default(),
            remarks: Vec::new(),
        }
    }

    /// A pod's own service account. Outside of a pod: an error that says what to do.
    pub(super) fn in_cluster() -> Result<Self, Error> {
        Self::in_cluster_at(&|name| std::env::var(name).ok(), Path::new(SERVICE_ACCOUNT))
    }

    fn in_cluster_at(env: &dyn Fn(&str) -> Option<String>, folder: &Path) -> Result<Self, Error> {
        let get = |name: &str| env(name).filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (
            get("KUBERNETES_SERVICE_HOST"),
            get("KUBERNETES_SERVICE_PORT"),
        ) else {
            return Err(Error::config(
                "no apiserver to talk to: set --kubeconfig or --master (KUBERNETES_SERVICE_HOST and \
                 KUBERNETES_SERVICE_PORT, as in a pod, are not set either)",
            ));
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host,
        };
        let token = folder.join("token");
        if let Err(error) = fs::File::open(&token) {
            let token = token.display();
            return Err(Error::config(format_args!(
                "the service account's token {token}: {error}"
            )));
        }
        let ca = folder.join("ca.crt");
        let mut remarks = Vec::new();
        let ca = match fs::File::open(&ca) {
            Ok(_) => Some(Material::File(ca)),
            Err(error) => {
                let ca = ca.display();
                remarks.push(format!(
                    "{ca}: {error}; the apiserver's certificate must be signed by a public authority"
                ));
                None
            }
        };
        let server = Server::parse(&format!("https://{host}:{port}"), true);
        Ok(Self {
            ca,
            user: User {
                token: Token::File(token),
                ..User::default()
            },
            remarks,
            ..Self::of(server.map_err(Error::Config)?)
        })
    }

    /// Decodes a kubeconfig's text. Relative paths are relative to the folder that it lies in.
    pub fn parse(text: &str, folder: &Path, master: Option<&str>) -> Result<Self, String> {
        let master = master.filter(|master| !master.is_empty());
        let mut documents = yaml::documents(text).map_err(|error| error.to_string())?;
        if documents.len() > 1 {
            return Err("more than one document".to_string());
        }
        let document = documents.pop().ok_or("empty")?;
        let root = Section::root(&document)?;
        let context = match (root.filled("current-context")?, master) {
            (Some(name), _) => root.named("contexts", name, "context")?.ok_or_else(|| {
                let names = root.names("contexts");
                format!("contexts: there is none named {name:?} ({names})")
            })?,
            // As client-go has it: an empty configuration, which a server given otherwise makes a working one.
            (None, Some(_)) => Section::empty("contexts"),
            (None, None) => {
                let names = root.names("contexts");
                return Err(format!("current-context is not set (contexts: {names})"));
            }
        };
        let user = user(&root, &context)?;
        let cluster = cluster(&root, &context, master.is_some())?;
        Self::combine(&cluster, user.as_ref(), folder, master).map(|mut config| {
            config
                .remarks
                .extend(unknown_user(&context, user.is_some()));
            config
        })
    }

    fn combine(
        cluster: &Section<'_>,
        user: Option<&Section<'_>>,
        folder: &Path,
        master: Option<&str>,
    ) -> Result<Self, String> {
        let mut user = match user {
            Some(user) => User::from_section(user, folder)?,
            None => User::default(),
        };
        if let Some(plugin) = &mut user.exec {
            plugin.cluster_config = exec_extension(cluster)?;
        }
        let ca = cluster.material("certificate-authority", folder)?;
        let insecure = cluster.flag("insecure-skip-tls-verify")?;
        let tls = ca.is_some() || insecure || user.client.is_some();
        let server = match master {
            Some(master) => {
                Server::parse(master, tls).map_err(|what| format!("--master: {what}"))?
            }
            None => Server::parse(cluster.required("server")?, tls)
                .map_err(|what| cluster.at("server", &what))?,
        };
        let proxy = cluster.filled("proxy-url")?.map(Proxy::parse).transpose();
        Ok(Self {
            ca,
            tls_server_name: cluster.filled("tls-server-name")?.map(str::to_string),
            insecure,
            proxy: proxy.map_err(|what| cluster.at("proxy-url", &what))?,
            user,
            ..Self::of(server)
        })
    }

    /// Files that are not there are told at the start rather than at the first request.
    fn check_files(&self) -> Result<(), String> {
        let client = self.user.client.iter().flat_map(|(cert, key)| [cert, key]);
        let materials = self.ca.iter().chain(client);
        let files = materials.filter_map(|material| match material {
            Material::File(path) => Some(path),
            Material::Data(_) => None,
        });
        let token = match &self.user.token {
            Token::File(path) => Some(path),
            Token::None | Token::Fixed(_) => None,
        };
        for path in files.chain(token) {
            fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Something secret would be readable on its way: neither TLS protects it, nor does it stay on this machine.
    pub(super) fn is_overheard(&self) -> bool {
        let next = self
            .proxy
            .as_ref()
            .map_or(&self.server, |proxy| &proxy.server);
        !(self.server.tls || self.server.is_loopback() && next.is_loopback())
    }
}

/// None if there is no such entry: nobody in particular asks, as client-go has it.
fn user<'v>(root: &Section<'v>, context: &Section<'v>) -> Result<Option<Section<'v>>, String> {
    match context.filled("user")? {
        Some(name) => root.named("users", name, "user"),
        None => Ok(None),
    }
}

fn unknown_user(context: &Section<'_>, known: bool) -> Option<String> {
    let name = context.filled("user").ok()?.filter(|_| !known)?;
    Some(format!(
        "users: there is none named {name:?}: asking without credentials"
    ))
}

/// With `--master` nothing else is needed of it.
fn cluster<'v>(
    root: &Section<'v>,
    context: &Section<'v>,
    has_master: bool,
) -> Result<Section<'v>, String> {
    let name = match context.filled("cluster")? {
        None if has_master => return Ok(Section::empty("clusters")),
        None => context.required("cluster")?,
        Some(name) => name,
    };
    match root.named("clusters", name, "cluster")? {
        Some(cluster) => Ok(cluster),
        None if has_master => Ok(Section::empty("clusters")),
        None => {
            let names = root.names("clusters");
            Err(format!("clusters: there is none named {name:?} ({names})"))
        }
    }
}

fn exec_extension(cluster: &Section<'_>) -> Result<Option<Value>, String> {
    let mut extensions = cluster.list("extensions")?.iter();
    let own = extensions.find(|it| it.get("name").and_then(Value::as_str) == Some(EXEC_EXTENSION));
    Ok(own.and_then(|own| own.get("extension")).cloned())
}
