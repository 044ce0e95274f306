//! What requests are signed with, the same for all of our connections: a token and where it comes from, a password, or what a
//! credential plugin gives.

mod plugin;
mod token;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::Error;
use super::kubeconfig::{Config, Token};
use super::tls::Identity;
use token::TokenFile;

/// What one request presents.
#[derive(Default)]
pub(super) struct Presented {
    /// `Authorization` and the like. Secret.
    pub(super) headers: Vec<(String, String)>,
    /// A client certificate that is not the kubeconfig's.
    pub(super) identity: Option<Identity>,
    /// Which of what a plugin gave this is.
    generation: u64,
}

impl Presented {
    /// Bytes that the headers take.
    pub(super) fn length(&self) -> usize {
        self.headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum()
    }
}

/// The credentials of one kubeconfig, kept as long as they are good.
#[derive(Default)]
pub(super) struct Credentials {
    state: Mutex<State>,
}
#[derive(Default)]
struct State {
    file: TokenFile,
    plugin: plugin::Kept,
}

impl Credentials {
    /// What a request is to present now. Waits for a plugin, whoever asked it first.
    pub(super) fn present(&self, config: &Config) -> Result<Presented, Error> {
        let now = Instant::now();
        let user = &config.user;
        let mut presented = Presented::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut token = match &user.token {
            Token::None => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::File(path) => Some(state.file.get(path, now)?.to_owned()),
        };
        // What stands in the kubeconfig wins, as with client-go.
        if let Some(plugin) = user.exec.as_ref().filter(|_| token.is_none()) {
            let given = state.plugin.get(config, plugin, now)?;
            token = given.token.clone();
            presented.identity = given.identity.clone();
            presented.generation = given.generation;
        }
        let basic = user.basic.as_ref().map(|it| {
            let both = STANDARD.encode(format!("{}:{}", it.name, it.password));
            format!("Basic {both}")
        });
        let bearer = token.map(|token| format!("Bearer {token}"));
        let authorization = bearer.or(basic).map(|it| ("authorization".to_owned(), it));
        presented.headers.extend(authorization);
        presented.headers.extend(user.impersonate.iter().cloned());
        Ok(presented)
    }

    /// The apiserver does not take what was presented (any more): ask again before the next request.
    pub(super) fn forget(&self, presented: &Presented) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.forget();
        state.plugin.forget(presented.generation);
    }
}
