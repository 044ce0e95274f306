//! How to reach the apiserver: a kubeconfig, `--master`, or the service account of a pod.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::error::Error;
use crate::wire::yaml;

/// Where a pod finds its credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a kubeconfig's current context says, checked as far as it can be without a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Base URL, without a slash at its end.
    pub server: String,
    /// Who signs the server's certificate; None for the roots of the web.
    pub ca: Option<Material>,
    /// Client certificate and key.
    pub client: Option<(Material, Material)>,
    /// Bearer token.
    pub token: Token,
    /// The name to ask for and to check, if not the server's own.
    pub tls_server_name: Option<String>,
    /// Do not check the server's certificate.
    pub insecure: bool,
}

/// PEM, in a file that may be replaced while we run, or in the kubeconfig itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// Read when needed.
    File(PathBuf),
    /// Decoded from base64.
    Data(Vec<u8>),
}

impl fmt::Debug for Material {
    // Keys stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Data(data) => write!(f, "Data({} bytes)", data.len()),
        }
    }
}

/// A bearer token.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// As it stands in the kubeconfig.
    Fixed(String),
    /// In a file that is written anew before it expires.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed(...)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Config {
    /// Reads a kubeconfig; `master` replaces its server.
    pub(crate) fn from_file(path: &Path, master: Option<&str>) -> Result<Self, Error> {
        let problem = |what: &dyn fmt::Display| {
            Error::config(format_args!("kubeconfig {}: {what}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| problem(&error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let config = Self::parse(&text, folder, master).map_err(|what| problem(&what))?;
        config.check_files().map_err(|what| problem(&what))?;
        Ok(config)
    }

    /// `--master` alone: nobody in particular asks.
    pub(crate) fn from_master(master: &str) -> Result<Self, Error> {
        let server = server_url(master, false)
            .map_err(|what| Error::config(format_args!("--master: {what}")))?;
        Ok(Self {
            server,
            ..Self::default()
        })
    }

    /// A pod's own service account. Outside of a pod: an error that says what to do.
    pub(crate) fn in_cluster() -> Result<Self, Error> {
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
        if let Err(error) = fs::read_to_string(&token) {
            let token = token.display();
            return Err(Error::config(format_args!(
                "the service account's token {token}: {error}"
            )));
        }
        let ca = folder.join("ca.crt");
        let ca = match fs::read(&ca) {
            Ok(_) => Some(Material::File(ca)),
            Err(error) => {
                log::warn!(
                    "{}: {error}; the apiserver's certificate must be signed by a public authority",
                    ca.display()
                );
                None
            }
        };
        Ok(Self {
            server: server_url(&format!("https://{host}:{port}"), true).map_err(Error::Config)?,
            ca,
            token: Token::File(token),
            ..Self::default()
        })
    }

    /// Decodes a kubeconfig's text. Relative paths are relative to the folder that it lies in.
    pub fn parse(text: &str, folder: &Path, master: Option<&str>) -> Result<Self, String> {
        let mut documents = yaml::documents(text).map_err(|error| error.to_string())?;
        if documents.len() > 1 {
            return Err("more than one document".to_string());
        }
        let document = documents.pop().ok_or("empty")?;
        let root = Section::root(&document)?;
        let current = root.text("current-context")?;
        // client-go falls back to an empty configuration; with a server given that is a working one.
        let Some(context_name) = current.filter(|name| !name.is_empty()) else {
            return Err("current-context is not set".to_string());
        };
        let context = root.named("contexts", context_name, "context")?;
        let cluster_name = context.required("cluster")?;
        let cluster = root.named("clusters", cluster_name, "cluster")?;
        let user = match context.text("user")?.filter(|name| !name.is_empty()) {
            Some(name) => Some(root.named("users", name, "user")?),
            None => None,
        };
        Self::combine(&cluster, user.as_ref(), folder, master)
    }

    fn combine(
        cluster: &Section<'_>,
        user: Option<&Section<'_>>,
        folder: &Path,
        master: Option<&str>,
    ) -> Result<Self, String> {
        if cluster
            .text("proxy-url")?
            .is_some_and(|url| !url.is_empty())
        {
            return Err(cluster.at("proxy-url", "HTTP proxies are not supported"));
        }
        let ca = cluster.material("certificate-authority", folder)?;
        let insecure = cluster.flag("insecure-skip-tls-verify")?;
        let client = match user {
            Some(user) => user.client(folder)?,
            None => None,
        };
        let tls = ca.is_some() || insecure || client.is_some();
        let server = match master.filter(|master| !master.is_empty()) {
            Some(master) => server_url(master, tls).map_err(|what| format!("--master: {what}"))?,
            None => server_url(cluster.required("server")?, tls)
                .map_err(|what| cluster.at("server", &what))?,
        };
        let tls_server_name = cluster
            .text("tls-server-name")?
            .filter(|name| !name.is_empty());
        Ok(Self {
            server,
            ca,
            client,
            token: match user {
                Some(user) => user.token(folder)?,
                None => Token::None,
            },
            tls_server_name: tls_server_name.map(str::to_string),
            insecure,
        })
    }

    /// Files that are not there are told at the start rather than at the first request.
    fn check_files(&self) -> Result<(), String> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        let materials = self
            .ca
            .iter()
            .chain(client)
            .filter_map(|material| match material {
                Material::File(path) => Some(path),
                Material::Data(_) => None,
            });
        let token = match &self.token {
            Token::File(path) => Some(path),
            Token::None | Token::Fixed(_) => None,
        };
        for path in materials.chain(token) {
            fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// An object inside the kubeconfig, with its path for messages.
struct Section<'v> {
    path: String,
    value: &'v serde_json::Map<String, Value>,
}

impl<'v> Section<'v> {
    fn root(document: &'v Value) -> Result<Self, String> {
        let value = document.as_object().ok_or("not a kubeconfig")?;
        Ok(Self {
            path: String::new(),
            value,
        })
    }

    fn at(&self, field: &str, problem: &str) -> String {
        match self.path.as_str() {
            "" => format!("{field}: {problem}"),
            path => format!("{path}.{field}: {problem}"),
        }
    }

    fn field(&self, field: &str) -> Option<&'v Value> {
        self.value.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Result<Option<&'v str>, String> {
        match self.field(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.at(field, "expected a string")),
        }
    }

    fn required(&self, field: &str) -> Result<&'v str, String> {
        let text = self.text(field)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.at(field, "missing"))
    }

    fn flag(&self, field: &str) -> Result<bool, String> {
        match self.field(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.at(field, "expected true or false")),
        }
    }

    /// `contexts: [{name: ..., context: {...}}]` and its like.
    fn named(&self, list: &str, name: &str, field: &str) -> Result<Section<'v>, String> {
        let entries = match self.field(list) {
            None => &[],
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(_) => return Err(self.at(list, "expected a list")),
        };
        let entry = entries
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| format!("{list}: there is none named {name:?}"))?;
        let path = format!("{list}[{name}].{field}");
        match entry.get(field).and_then(Value::as_object) {
            Some(value) => Ok(Section { path, value }),
            None => Err(format!("{path}: missing")),
        }
    }

    /// `NAME-data` (base64), else the file `NAME`.
    fn material(&self, name: &str, folder: &Path) -> Result<Option<Material>, String> {
        let data_field = format!("{name}-data");
        if let Some(data) = self.text(&data_field)?.filter(|data| !data.is_empty()) {
            // Folded YAML leaves line breaks inside.
            let data: String = data.split_whitespace().collect();
            let data = STANDARD
                .decode(data)
                .map_err(|error| self.at(&data_field, &format!("no base64: {error}")))?;
            return Ok(Some(Material::Data(data)));
        }
        let file = self.text(name)?.filter(|file| !file.is_empty());
        Ok(file.map(|file| Material::File(folder.join(file))))
    }

    fn client(&self, folder: &Path) -> Result<Option<(Material, Material)>, String> {
        let refused = [
            ("exec", "credential plugins are not supported"),
            ("auth-provider", "auth providers are not supported"),
            ("username", "basic authentication is not supported"),
            ("as", "impersonation is not supported"),
        ];
        for (field, problem) in refused {
            if self.field(field).is_some_and(|value| value != "") {
                let advice = "use a token, a tokenFile or a client certificate";
                return Err(self.at(field, &format!("{problem}; {advice}")));
            }
        }
        let cert = self.material("client-certificate", folder)?;
        let key = self.material("client-key", folder)?;
        match (cert, key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (Some(_), None) => {
                Err(self.at("client-key", "missing, while there is a client-certificate"))
            }
            (None, Some(_)) => {
                Err(self.at("client-certificate", "missing, while there is a client-key"))
            }
        }
    }

    fn token(&self, folder: &Path) -> Result<Token, String> {
        if let Some(file) = self.text("tokenFile")?.filter(|file| !file.is_empty()) {
            return Ok(Token::File(folder.join(file)));
        }
        let token = self.text("token")?.map(str::trim);
        match token.filter(|token| !token.is_empty()) {
            None => Ok(Token::None),
            Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Token::Fixed(token.to_string()))
            }
            Some(_) => Err(self.at("token", "has characters that no header can carry")),
        }
    }
}

/// The base URL; without a scheme it is https if anything about TLS is configured, as client-go has it.
fn server_url(text: &str, tls: bool) -> Result<String, String> {
    let text = text.trim();
    let default = if tls { "https" } else { "http" };
    let (scheme, rest) = text.split_once("://").unwrap_or((default, text));
    let rest = rest.trim_end_matches('/');
    let url = format!("{scheme}://{rest}");
    let uri: ureq::http::Uri = url
        .parse()
        .map_err(|error| format!("{text:?} is no URL: {error}"))?;
    let scheme = match (uri.scheme_str(), uri.host()) {
        (Some(scheme @ ("http" | "https")), Some(host)) if !host.is_empty() => scheme,
        _ => return Err(format!("{text:?} is no http or https URL")),
    };
    if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(format!(
            "{text:?} has more than scheme, host, port and path"
        ));
    }
    // Others compare the scheme, which in the user's spelling may have capitals.
    Ok(format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kubeconfig with these lines for cluster and user.
    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: other, cluster: {{server: http://no}}}}, {{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn parse(cluster: &str, user: &str) -> Result<Config, String> {
        Config::parse(&kubeconfig(cluster, user), Path::new("/etc/kube"), None)
    }

    #[track_caller]
    fn check_error(text: &str, expect: &str) {
        let result = Config::parse(text, Path::new("/etc/kube"), None);
        assert_eq!(result, Err(expect.to_string()), "{text}");
    }

    #[test]
    fn everything_that_is_supported() {
        let config = parse(
            "server: \"https://10.0.0.1:6443/\", certificate-authority: pki/ca.crt, tls-server-name: kubernetes",
            "client-certificate: /abs/client.crt, client-key-data: a2V5, tokenFile: token",
        );
        let expect = Config {
            server: "https://10.0.0.1:6443".to_string(),
            ca: Some(Material::File("/etc/kube/pki/ca.crt".into())),
            client: Some((
                Material::File("/abs/client.crt".into()),
                Material::Data(b"key".to_vec()),
            )),
            token: Token::File("/etc/kube/token".into()),
            tls_server_name: Some("kubernetes".to_string()),
            insecure: false,
        };
        assert_eq!(config, Ok(expect));
    }

    #[test]
    fn data_wins_over_files_and_a_token_file_over_a_token() {
        let config = parse(
            "server: https://a, certificate-authority: ca.crt, certificate-authority-data: Y2E=",
            "token: abc, tokenFile: /token",
        );
        let config = config.expect("valid");
        assert_eq!(config.ca, Some(Material::Data(b"ca".to_vec())));
        assert_eq!(config.token, Token::File("/token".into()));
        let config = parse("server: https://a", "token: abc").expect("valid");
        assert_eq!(config.token, Token::Fixed("abc".to_string()));
    }

    #[test]
    fn json_is_a_kubeconfig_too() {
        let text = r#"{"current-context":"x","contexts":[{"name":"x","context":{"cluster":"c"}}],
            "clusters":[{"name":"c","cluster":{"server":"https://[fd00::1]:6443/k8s/","insecure-skip-tls-verify":true}}]}"#;
        let config = Config::parse(text, Path::new("/"), None).expect("valid");
        assert_eq!(config.server, "https://[fd00::1]:6443/k8s");
        assert!(config.insecure);
    }

    #[test]
    fn the_scheme_follows_tls_and_master_wins() {
        let server = |cluster: &str, master| {
            let text = kubeconfig(cluster, "");
            Config::parse(&text, Path::new("/"), master).map(|config| config.server)
        };
        let expect = |url: &str| Ok(url.to_string());
        assert_eq!(server("server: \"h:1\"", None), expect("http://h:1"));
        let insecure = "server: \"h:1\", insecure-skip-tls-verify: true";
        assert_eq!(server(insecure, None), expect("https://h:1"));
        assert_eq!(server(insecure, Some("m:2")), expect("https://m:2"));
        assert_eq!(server("", Some("http://m:2/")), expect("http://m:2"));
        assert_eq!(
            server("server: \"HttpS://H/A\"", None),
            expect("https://H/A")
        );
        assert!(server("server: \"ftp://h\"", None).is_err());
        assert!(server("server: \"https://\"", None).is_err());
        assert!(server("", Some("http:///")).is_err());
        assert!(server("server: \"https://user:pw@h\"", None).is_err());
    }

    #[test]
    fn errors_name_the_field() {
        check_error("", "empty");
        check_error("x", "not a kubeconfig");
        check_error("a: 1\n---\nb: 1", "more than one document");
        check_error("kind: Config", "current-context is not set");
        check_error("current-context: x", "contexts: there is none named \"x\"");
        check_error(
            "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]",
            "clusters: there is none named \"c\"",
        );
        check_error(&kubeconfig("", ""), "clusters[c].cluster.server: missing");
        check_error(
            &kubeconfig("server: 5", ""),
            "clusters[c].cluster.server: expected a string",
        );
        check_error(
            &kubeconfig("server: a, proxy-url: \"http://p\"", ""),
            "clusters[c].cluster.proxy-url: HTTP proxies are not supported",
        );
        check_error(
            &kubeconfig("server: a", "exec: {command: aws}"),
            "users[u].user.exec: credential plugins are not supported; use a token, a tokenFile or a client certificate",
        );
        check_error(
            &kubeconfig("server: a", "auth-provider: {name: gcp}"),
            "users[u].user.auth-provider: auth providers are not supported; use a token, a tokenFile or a client certificate",
        );
        check_error(
            &kubeconfig("server: a", "client-certificate: c.crt"),
            "users[u].user.client-key: missing, while there is a client-certificate",
        );
        check_error(
            &kubeconfig("server: a", "token: \"a b\""),
            "users[u].user.token: has characters that no header can carry",
        );
        let error = parse("server: a, certificate-authority-data: \"?\"", "").expect_err("base64");
        assert!(
            error.starts_with("clusters[c].cluster.certificate-authority-data: no base64:"),
            "{error}"
        );
    }

    #[test]
    fn files_that_are_missing_are_named() {
        let folder =
            std::env::temp_dir().join(format!("portico-kubeconfig-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("kubeconfig");
        fs::write(
            &path,
            kubeconfig("server: a, certificate-authority: ca.crt", ""),
        )
        .expect("a file");
        let error = Config::from_file(&path, None)
            .expect_err("no ca.crt")
            .to_string();
        let expect = format!(
            "kubeconfig {}: {}: No such file or directory (os error 2)",
            path.display(),
            folder.join("ca.crt").display()
        );
        assert_eq!(error, expect);
        fs::write(folder.join("ca.crt"), "").expect("a file");
        assert!(Config::from_file(&path, None).is_ok());
        fs::remove_dir_all(&folder).expect("removed");
        let error = Config::from_file(&path, None)
            .expect_err("gone")
            .to_string();
        assert!(
            error.ends_with("kubeconfig: No such file or directory (os error 2)"),
            "{error}"
        );
    }

    #[test]
    fn in_a_pod_the_service_account_is_used() {
        let folder = std::env::temp_dir().join(format!("portico-account-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let env = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_string()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_string()),
            _ => None,
        };
        let error = Config::in_cluster_at(&env, &folder)
            .expect_err("no token")
            .to_string();
        assert!(error.starts_with("the service account's token"), "{error}");
        fs::write(folder.join("token"), "t").expect("a file");
        let config = Config::in_cluster_at(&env, &folder).expect("a pod");
        assert_eq!(
            (config.server.as_str(), &config.ca),
            ("https://[fd00::1]:443", &None)
        );
        assert_eq!(config.token, Token::File(folder.join("token")));
        fs::write(folder.join("ca.crt"), "").expect("a file");
        let config = Config::in_cluster_at(&env, &folder).expect("a pod");
        assert_eq!(config.ca, Some(Material::File(folder.join("ca.crt"))));
        fs::remove_dir_all(&folder).expect("removed");
        let error = Config::in_cluster_at(&|_| None, &folder)
            .expect_err("no pod")
            .to_string();
        assert!(error.contains("set --kubeconfig or --master"), "{error}");
    }
}
