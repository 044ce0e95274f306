//! One client: reads a request, writes a response, waits for the client to have read it. Bounded in size and time.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpStream;

use super::http::{self, Body, LARGEST_HEAD, Request, Response};

/// For a request to arrive.
const TIME_TO_ASK: Duration = Duration::from_secs(5);
/// For a response to be taken.
const TIME_TO_READ: Duration = Duration::from_secs(30);
/// For the client to close, once it has everything. Closing on unread bytes would reset the connection, and the client might
/// lose the response.
const TIME_TO_LEAVE: Duration = Duration::from_secs(1);
/// What a client may send beyond its head before it is cut off.
const MOST_UNREAD: usize = 64 << 10;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) deadline: Instant,
    phase: Phase,
}

enum Phase {
    Asking(Vec<u8>),
    Answering(Answer),
    /// Everything is written; the number is what has been read and dropped since.
    Leaving(usize),
}

/// A response on its way.
struct Answer {
    bytes: Vec<u8>,
    sent: usize,
    more: Option<Pieces>,
}

struct Pieces {
    pieces: Box<dyn Iterator<Item = String> + Send>,
    chunked: bool,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Done,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            stream,
            deadline: now + TIME_TO_ASK,
            phase: Phase::Asking(Vec::new()),
        }
    }

    /// Goes as far as the socket lets it. An error ends the connection as well as [`Step::Done`] does.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        answer: impl FnOnce(&Request) -> Response,
    ) -> io::Result<Step> {
        match self.go_on(now, answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Wait),
            other => other,
        }
    }

    fn go_on(
        &mut self,
        now: Instant,
        answer: impl FnOnce(&Request) -> Response,
    ) -> io::Result<Step> {
        if let Phase::Asking(bytes) = &mut self.phase {
            let request = match read_head(&mut self.stream, bytes)? {
                Head::Whole(request) => Ok(request),
                Head::Bad(response) => Err(response),
                Head::Gone => return Ok(Step::Done),
            };
            let answer = match request {
                Ok(request) => Answer::new(answer(&request), Some(&request)),
                Err(response) => Answer::new(response, None),
            };
            self.phase = Phase::Answering(answer);
            self.deadline = now + TIME_TO_READ;
        }
        if let Phase::Answering(answer) = &mut self.phase {
            answer.write(&mut self.stream)?;
            self.stream.shutdown(Shutdown::Write)?;
            self.phase = Phase::Leaving(0);
            self.deadline = now + TIME_TO_LEAVE;
        }
        if let Phase::Leaving(dropped) = &mut self.phase {
            let mut room = [0; 1024];
            while *dropped < MOST_UNREAD {
                match retry(|| self.stream.read(&mut room))? {
                    0 => break,
                    n => *dropped += n,
                }
            }
        }
        Ok(Step::Done)
    }
}

enum Head {
    Whole(Request),
    Bad(Response),
    /// The client left without asking, as port probes do.
    Gone,
}

fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Head> {
    let mut room = [0; 1024];
    loop {
        match http::parse(bytes) {
            Ok(Some(request)) => return Ok(Head::Whole(request)),
            Ok(None) => {}
            Err(response) => return Ok(Head::Bad(response)),
        }
        // The parser gives up at LARGEST_HEAD, so there is always something left to read here.
        let left = LARGEST_HEAD.saturating_sub(bytes.len()).min(room.len());
        let room = room.get_mut(..left).unwrap_or_default();
        let n = retry(|| stream.read(room))?;
        if n == 0 {
            return Ok(Head::Gone);
        }
        bytes.extend(room.iter().take(n));
    }
}

impl Answer {
    fn new(response: Response, request: Option<&Request>) -> Self {
        let mut bytes = response.head(request, SystemTime::now()).into_bytes();
        let head_only = request.is_some_and(|request| request.head);
        let more = match response.body {
            _ if head_only => None,
            Body::Whole(body) => {
                bytes.extend_from_slice(body.as_bytes());
                None
            }
            Body::Pieces(pieces) => Some(Pieces {
                pieces,
                chunked: request.is_some_and(|request| request.chunks),
            }),
        };
        Self {
            bytes,
            sent: 0,
            more,
        }
    }

    fn write(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        loop {
            while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match retry(|| stream.write(rest))? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => self.sent += n,
                }
            }
            let Some(more) = &mut self.more else {
                return Ok(());
            };
            let piece = more.pieces.next();
            self.bytes = match (&piece, more.chunked) {
                // An empty piece would end the body.
                (Some(piece), true) if !piece.is_empty() => http::chunk(piece),
                (Some(_), true) => String::new(),
                (Some(piece), false) => piece.clone(),
                (None, true) => http::chunk(""),
                (None, false) => String::new(),
            }
            .into_bytes();
            self.sent = 0;
            if piece.is_none() {
                self.more = None;
            }
        }
    }
}

/// Again when a signal came in between.
fn retry(mut io: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match io() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
