//! Answers: bodies that are read, and what is made of those that are refusals or pages of somebody in between.

use std::io::{BufReader, Read};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use ureq::http::{HeaderName, Response, header};
use ureq::{Body, BodyReader};

use super::Reader;
use crate::api::error::Refusal;
use crate::api::kubeconfig::Config;
use crate::types::one_line;
use crate::wire::Status;

/// A Status object is small; an error page of some proxy in between may not be.
const MAX_ERROR_BODY: u64 = 64 * 1024;
/// How much of such a page is shown.
const LONGEST_PAGE: usize = 200;
/// Compressed bytes taken at once.
const COMPRESSED: usize = 4 * 1024;

/// A body as the server meant it. ureq would do the same, but with room for a decoder, more than anything else takes, on the
/// stack of every thread that ever reads a body, compressed or not; and there it stays.
pub(super) fn reader(response: Response<Body>) -> Reader {
    let is_compressed = text_of(&response, &header::CONTENT_ENCODING).as_deref() == Some("gzip");
    let body = response.into_body().into_reader();
    match is_compressed {
        true => decompressed(body),
        false => Box::new(body),
    }
}

/// To the body's very end, so that the connection can be used again. Apart from [`reader`], whose stack would have the room else.
#[inline(never)]
fn decompressed(body: BodyReader<'static>) -> Reader {
    let body = BufReader::with_capacity(COMPRESSED, body);
    Box::new(MultiGzDecoder::new(body))
}

/// What must be read so that the connection can be used again.
pub(super) fn drain(mut response: Response<Body>) {
    let mut body = response.body_mut().as_reader().take(MAX_ERROR_BODY);
    // If it breaks here, the next request will tell.
    let _ = std::io::copy(&mut body, &mut std::io::sink());
}

fn text_of(response: &Response<Body>, name: &HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// An answer for people where objects were asked for: a login, or the excuse of a load balancer.
pub(super) fn is_page(response: &Response<Body>) -> bool {
    let kind = text_of(response, &header::CONTENT_TYPE).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("text/html")
}

/// An answer that is no success.
pub(super) fn refusal(config: &Config, response: Response<Body>) -> Refusal {
    let code = response.status().as_u16();
    let kind = text_of(&response, &header::CONTENT_TYPE);
    let location = text_of(&response, &header::LOCATION);
    let seconds = text_of(&response, &header::RETRY_AFTER);
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let mut body = Vec::new();
    let mut reader = reader(response).take(MAX_ERROR_BODY);
    // Whatever came of it is better than nothing.
    let _ = reader.read_to_end(&mut body);
    let body = String::from_utf8_lossy(&body);
    let status = Status::parse(&body);
    Refusal {
        server: config.server.to_string(),
        code,
        is_status: status.is_some(),
        status: status.unwrap_or_else(|| Status {
            code,
            message: beginning(&body),
            ..Status::default()
        }),
        content_type: kind.filter(|kind| !kind.contains("json")),
        location,
        retry_after: seconds.map(Duration::from_secs),
        hint: None,
    }
}

/// What some proxy in between says is a page of many lines, mostly: its beginning, on one line.
fn beginning(page: &str) -> String {
    let words = page.split_whitespace().take(LONGEST_PAGE);
    one_line(&words.collect::<Vec<_>>().join(" "), LONGEST_PAGE).into_owned()
}
