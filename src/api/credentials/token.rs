//! A token in a file: read again after a while and when it is refused; what cannot be a token is not taken for one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::api::error::Error;
use crate::api::kubeconfig::fits_header;
use crate::types::decode_text;

/// The file is read again when what we know is this old (client-go: a minute, less ten seconds).
const AGE: Duration = Duration::from_secs(50);

/// What is known of a token's file.
#[derive(Default)]
pub(super) struct TokenFile {
    /// The last good one.
    token: Option<String>,
    read: Option<Instant>,
    /// What was wrong with the file when it was read last; said once.
    problem: Option<String>,
}

impl TokenFile {
    /// The token; the last good one while the file has none.
    pub(super) fn get(&mut self, path: &Path, now: Instant) -> Result<&str, Error> {
        let is_fresh = |read: Instant| now.saturating_duration_since(read) < AGE;
        if !self.read.is_some_and(is_fresh) {
            self.read = Some(now);
            self.take(path, read(path));
        }
        self.token.as_deref().ok_or_else(|| {
            // The next request may find it.
            self.read = None;
            Error::config(self.problem.as_deref().unwrap_or_default())
        })
    }

    fn take(&mut self, path: &Path, read: Result<String, String>) {
        match read {
            Ok(token) => {
                self.token = Some(token);
                self.problem = None;
            }
            Err(what) => {
                let problem = format!("token file {}: {what}", path.display());
                if self.token.is_some() && self.problem.as_ref() != Some(&problem) {
                    log::warn!("{problem}; going on with the token read before");
                }
                self.problem = Some(problem);
            }
        }
    }

    /// The apiserver does not take it (any more): read it again before the next request.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = decode_text(bytes)?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        token if fits_header(token) => Ok(token.to_owned()),
        token if token.contains(['\n', '\r']) => Err("it has more than one line".to_owned()),
        _ => Err("it has characters that no header can carry".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_after_a_while_or_when_refused() {
        let path = std::env::temp_dir().join(format!("portico-token-{}", std::process::id()));
        let write = |text: &[u8]| fs::write(&path, text).expect("a file");
        let mut file = TokenFile::default();
        let start = Instant::now();
        let problem = |error: Error| error.to_string();
        let missing = file.get(&path, start).map_err(problem);
        let name = path.display();
        let expect = format!("token file {name}: No such file or directory (os error 2)");
        assert_eq!(missing, Err(expect));
        for (bad, what) in [
            (&b""[..], "it is empty"),
            (b" \n", "it is empty"),
            (b"abc\ndef\n", "it has more than one line"),
            (b"abc def", "it has characters that no header can carry"),
            (b"abc\0", "it has characters that no header can carry"),
            (b"\xff", "neither UTF-8 nor UTF-16 with a byte order mark"),
        ] {
            write(bad);
            // At once: nothing good is known.
            let error = file.get(&path, start).map_err(problem);
            assert_eq!(error, Err(format!("token file {name}: {what}")));
        }
        write(b"\xef\xbb\xbfone\r\n");
        assert_eq!(file.get(&path, start).map_err(problem), Ok("one"));
        write(b"two");
        let soon = start + Duration::from_secs(49);
        assert_eq!(file.get(&path, soon).map_err(problem), Ok("one"));
        file.forget();
        assert_eq!(file.get(&path, soon).map_err(problem), Ok("two"));
        write(b"\xff\xfet\0h\0r\0e\0e\0");
        let later = soon + Duration::from_secs(50);
        assert_eq!(file.get(&path, later).map_err(problem), Ok("three"));
        write(b"");
        let torn = later + Duration::from_secs(50);
        assert_eq!(file.get(&path, torn).map_err(problem), Ok("three"));
        fs::remove_file(&path).expect("removed");
        let gone = torn + Duration::from_secs(50);
        assert_eq!(file.get(&path, gone).map_err(problem), Ok("three"));
    }
}
