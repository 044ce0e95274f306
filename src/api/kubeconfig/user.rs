//! Who asks: the credentials of a kubeconfig's user.

use std::fmt;
use std::path::{Path, PathBuf};

use super::exec::Plugin;
use super::section::Section;

/// What a kubeconfig's user presents. Without anything: nobody in particular asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Client certificate and key.
    pub(in crate::api) client: Option<(Material, Material)>,
    /// Bearer token.
    pub token: Token,
    /// Name and password.
    pub(in crate::api) basic: Option<Password>,
    /// What gives a token or a client certificate when asked.
    pub(in crate::api) exec: Option<Plugin>,
    /// Headers that say on whose behalf requests are made.
    pub(in crate::api) impersonate: Vec<(String, String)>,
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

/// A name with its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    pub(in crate::api) name: String,
    pub(in crate::api) password: String,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:...", self.name)
    }
}

impl User {
    pub(super) fn from_section(user: &Section<'_>, folder: &Path) -> Result<Self, String> {
        if user.field("auth-provider").is_some() {
            let advice = "Kubernetes 1.26 has removed auth providers; use exec, a tokenFile or a client certificate";
            return Err(user.at("auth-provider", advice));
        }
        let token = token(user, folder)?;
        let basic = basic(user)?;
        if basic.is_some() && token != Token::None {
            return Err(user.at(
                "username",
                "there is a token besides; only one of them can be sent",
            ));
        }
        Ok(Self {
            client: client(user, folder)?,
            token,
            basic,
            exec: match user.section("exec")? {
                Some(exec) => Some(Plugin::from_section(&exec, folder)?),
                None => None,
            },
            impersonate: impersonate(user)?,
        })
    }

    /// There is something to keep from strangers.
    pub(in crate::api) fn has_secret_headers(&self) -> bool {
        self.token != Token::None || self.basic.is_some() || self.exec.is_some()
    }
}

fn client(user: &Section<'_>, folder: &Path) -> Result<Option<(Material, Material)>, String> {
    let cert = user.material("client-certificate", folder)?;
    let key = user.material("client-key", folder)?;
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (Some(_), None) => {
            Err(user.at("client-key", "missing, while there is a client-certificate"))
        }
        (None, Some(_)) => {
            Err(user.at("client-certificate", "missing, while there is a client-key"))
        }
    }
}

fn token(user: &Section<'_>, folder: &Path) -> Result<Token, String> {
    if let Some(file) = user.filled("tokenFile")? {
        return Ok(Token::File(folder.join(file)));
    }
    match user.text("token")?.map(str::trim) {
        None | Some("") => Ok(Token::None),
        Some(token) if fits_header(token) => Ok(Token::Fixed(token.to_string())),
        Some(_) => Err(user.at("token", "has characters that no header can carry")),
    }
}

/// A token has no blanks: what has some is more than one, or part of one.
pub(in crate::api) fn fits_header(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn basic(user: &Section<'_>) -> Result<Option<Password>, String> {
    let name = user.filled("username")?;
    let password = user.filled("password")?;
    Ok((name.is_some() || password.is_some()).then(|| Password {
        name: name.unwrap_or_default().to_owned(),
        password: password.unwrap_or_default().to_owned(),
    }))
}

/// `as`, `as-uid`, `as-groups`, `as-user-extra`, as the headers that client-go makes of them.
fn impersonate(user: &Section<'_>) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    let mut add = |field: &str, name: String, value: &str| {
        // What a header can carry: ISO 8859-1 would be misunderstood, a line end would be another header.
        let fits = value
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !fits || value.trim() != value || value.is_empty() {
            return Err(user.at(field, "has a value that no header can carry"));
        }
        headers.push((name, value.to_owned()));
        Ok(())
    };
    if let Some(name) = user.filled("as")? {
        add("as", "impersonate-user".to_owned(), name)?;
    }
    if let Some(uid) = user.filled("as-uid")? {
        add("as-uid", "impersonate-uid".to_owned(), uid)?;
    }
    for group in user.texts("as-groups")? {
        add("as-groups", "impersonate-group".to_owned(), &group)?;
    }
    if let Some(extra) = user.section("as-user-extra")? {
        for key in extra.keys() {
            for value in extra.texts(key)? {
                let name = format!("impersonate-extra-{}", escape_key(key));
                add("as-user-extra", name, &value)?;
            }
        }
    }
    if !headers.is_empty() && headers.iter().all(|(name, _)| name != "impersonate-user") {
        return Err(user.at(
            "as",
            "missing, while there is something else to impersonate",
        ));
    }
    Ok(headers)
}

/// Lower case, and what no header's name may have percent-encoded.
fn escape_key(key: &str) -> String {
    let mut name = String::new();
    for byte in key.to_lowercase().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => name.push(char::from(byte)),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}
