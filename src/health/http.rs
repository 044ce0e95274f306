//! As much of HTTP/1.1 as a probe or a scraper needs: a request's head in, one response out, then the end. Pure.

use std::time::SystemTime;

use time::OffsetDateTime;

/// A longer head is refused.
pub const LARGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;

/// What a request asks for. Methods are not checked, as kube-proxy does not check them.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Without the query, nor what a proxy's client puts before it.
    pub path: String,
    /// What follows the question mark.
    pub(crate) query: String,
    /// The body is not wanted.
    pub(crate) head: bool,
    /// DELETE, which one path takes for a reset.
    pub(crate) delete: bool,
    /// Knows chunked bodies.
    pub(crate) chunks: bool,
    /// The Accept header; empty if there is none.
    pub(crate) accept: String,
}

/// What is answered.
pub struct Response {
    /// One of those that have a reason here.
    pub status: u16,
    /// `Content-Type`
    pub(crate) content_type: &'static str,
    /// The headers besides, but for those that follow from the body.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What follows the head.
    pub(crate) body: Body,
}

/// What follows a head.
pub(crate) enum Body {
    /// Its length is known.
    Whole(String),
    /// Made while it is being sent, so that a long one is never in memory as a whole.
    Pieces(Box<dyn Iterator<Item = String> + Send>),
}

/// The `Content-Type` of JSON.
pub(crate) const JSON: &str = "application/json";
/// The `Content-Type` of text.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

impl Response {
    /// A response of one piece.
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type,
            headers: vec![("X-Content-Type-Options", "nosniff".into())],
            body: Body::Whole(body.into()),
        }
    }

    /// As Go's.
    pub(crate) fn not_found() -> Self {
        Self::new(404, TEXT, "404 page not found\n")
    }

    /// Status line and headers.
    pub fn head(&self, request: Option<&Request>, now: SystemTime) -> String {
        let reason = reason(self.status);
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        let mut header = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        header("Content-Type", self.content_type);
        for (name, value) in &self.headers {
            header(name, value);
        }
        match &self.body {
            Body::Whole(body) => header("Content-Length", &body.len().to_string()),
            Body::Pieces(_) if request.is_some_and(|request| request.chunks) => {
                header("Transfer-Encoding", "chunked");
            }
            // Its end is the end of the connection.
            Body::Pieces(_) => {}
        }
        header("Date", &date(now));
        header("Connection", "close");
        head.push_str("\r\n");
        head
    }
}

/// Reads a request's head. None: more bytes are needed. An error is the response to give.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::new(431, TEXT, "request header too large\n"));
        }
        Err(error) => return Err(Response::new(400, TEXT, format!("{error}\n"))),
    }
    let target = request.path.unwrap_or("/");
    // A proxy's form: scheme and host come first.
    let target = match target.split_once("://") {
        Some((_, rest)) => rest
            .find('/')
            .map_or("/", |at| rest.get(at..).unwrap_or("/")),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let accept = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Accept"));
    Ok(Some(Request {
        path: path.to_owned(),
        query: query.to_owned(),
        head: request.method == Some("HEAD"),
        delete: request.method == Some("DELETE"),
        chunks: request.version == Some(1),
        accept: accept.map_or_else(String::new, |header| {
            String::from_utf8_lossy(header.value).into_owned()
        }),
    }))
}

/// One piece of a chunked body; the empty piece ends it.
pub(crate) fn chunk(piece: &str) -> String {
    format!("{:x}\r\n{piece}\r\n", piece.len())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

fn date(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (weekday, month) = (now.weekday().to_string(), now.month().to_string());
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let (hour, minute, second) = now.to_hms();
    format!(
        "{}, {:02} {} {} {hour:02}:{minute:02}:{second:02} GMT",
        short(&weekday),
        now.day(),
        short(&month),
        now.year()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(String, String, bool, bool)>, u16> {
        match parse(text.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(r)) => Ok(Some((r.path, r.query, r.head, r.chunks))),
            Err(response) => Err(response.status),
        }
    }

    fn is(
        path: &str,
        query: &str,
        head: bool,
        chunks: bool,
    ) -> Result<Option<(String, String, bool, bool)>, u16> {
        Ok(Some((path.into(), query.into(), head, chunks)))
    }

    #[test]
    fn requests() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(LARGEST_HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
        let rows = [
            (
                "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
                is("/healthz", "", false, true),
            ),
            (
                "POST /livez?verbose&x=1 HTTP/1.0\r\n\r\nbody",
                is("/livez", "verbose&x=1", false, false),
            ),
            (
                "HEAD http://a:1/metrics HTTP/1.1\r\n\r\n",
                is("/metrics", "", true, true),
            ),
            ("GET http://a HTTP/1.1\r\n\r\n", is("/", "", false, true)),
            ("", Ok(None)),
            ("GET /healthz HTTP/1.1\r\nHost", Ok(None)),
            (long.as_str(), Err(431)),
            (many.as_str(), Err(431)),
            ("\x16\x03\x01 a TLS client", Err(400)),
            ("GET /healthz HTTP/2.0\r\n\r\n", Err(400)),
        ];
        for (text, expect) in rows {
            assert_eq!(read(text), expect, "{:?}", text.get(..40));
        }
    }

    #[test]
    fn what_else_a_head_says() {
        let request = |headers: &str| {
            let head = format!("DELETE / HTTP/1.1\r\n{headers}\r\n");
            let request = parse(head.as_bytes()).ok().flatten().expect("a whole head");
            (request.delete, request.accept)
        };
        assert_eq!(request(""), (true, String::new()));
        let accept = "accept: application/json;v=1\r\n";
        assert_eq!(request(accept), (true, "application/json;v=1".to_owned()));
    }

    #[test]
    fn heads() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let response = Response::new(503, JSON, "{}");
        let expect = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
            X-Content-Type-Options: nosniff\r\nContent-Length: 2\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
            Connection: close\r\n\r\n";
        assert_eq!(response.head(None, now), expect);
    }
}
