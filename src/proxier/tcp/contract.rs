//! What a session hears and what it says.

use std::time::Duration;

/// The two sockets of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Towards the client.
    Client = 0,
    /// Towards the endpoint.
    Endpoint = 1,
}

impl Side {
    /// The one across.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Endpoint,
            Self::Endpoint => Self::Client,
        }
    }
}

/// What epoll says of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There are bytes, or the end of them.
    pub(crate) readable: bool,
    /// There is room for bytes.
    pub(crate) writable: bool,
    /// The peer has sent its FIN: it comes after the bytes that are there now, and no more will.
    pub(crate) read_closed: bool,
    /// The peer has reset the connection, or was found dead.
    pub(crate) failed: bool,
    /// There is urgent data, at which a read stops short of what else is there.
    pub(crate) urgent: bool,
}

/// What the caller reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The client is there: choose an endpoint.
    Accepted,
    /// Epoll spoke.
    Ready(Side, Readiness),
    /// It is this session's turn again, after [`Output::Yield`].
    Resumed,
    /// The deadline has passed.
    TimedOut,
    /// Came of [`Output::Connect`] or [`Output::Diagnose`]: the attempt is under way.
    Attempting,
    /// Came of [`Output::Connect`], [`Output::Diagnose`] or [`Output::Abandon`]: the attempt is over.
    AttemptFailed,
    /// Came of [`Output::Connect`]: no endpoint is worth an attempt.
    NoEndpoint,
    /// Came of [`Output::Connect`]: an attempt cannot be made now, for want of files.
    Postponed,
    /// Came of [`Output::Settle`] or [`Output::ShutDown`].
    Done,
    /// Came of [`Output::Relay`]: what was read, and whether some of it is still held because the other side took less.
    Relayed {
        /// The side read from.
        from: Side,
        /// What was there.
        got: Got,
        /// Not all of it could be written.
        held: bool,
    },
    /// Came of [`Output::Flush`]: whether some is still held.
    Flushed {
        /// The side that the bytes came from.
        from: Side,
        /// Not all of it could be written.
        held: bool,
    },
    /// Came of [`Output::AskUnsent`]: it still has some.
    Unsent(bool),
    /// Reading from this side failed.
    ReadFailed(Side),
    /// Writing to this side failed.
    WriteFailed(Side),
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Less than there was room for: there is no more now.
    Part,
    /// As much as there was room for: there may be more.
    Full,
    /// No bytes now.
    Nothing,
    /// No bytes ever again.
    End,
}

/// What the caller shall do; it reports the outcome as the next [`Input`], but for `Wait`, `Yield` and `End`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Nothing until the next event or deadline.
    Wait,
    /// Nothing until the others had their turn: this session has done its share and has more to do.
    Yield,
    /// Choose an endpoint and begin to connect to it.
    Connect,
    /// Ask the endpoint's socket why it failed.
    Diagnose,
    /// The attempt has taken too long: close its socket.
    Abandon,
    /// The endpoint is connected: drop what only the attempts needed.
    Settle {
        /// The client has said something, which goes to the endpoint at once.
        has_data: bool,
    },
    /// Read from this side and write to the other.
    Relay {
        /// The side to read from.
        from: Side,
        /// It is a bulk transfer: worth more preparation per byte moved.
        bulk: bool,
        /// The end is known to follow: once a read has taken all there is, the other side is shut down or closed in the
        /// same turn or the next.
        last: bool,
    },
    /// Write what is held of this side's bytes to the other.
    Flush {
        /// The side that the bytes came from.
        from: Side,
    },
    /// Tell this side that no more will come.
    ShutDown(Side),
    /// Ask the kernel whether it still has bytes for this side.
    AskUnsent(Side),
    /// Close both sockets.
    End(End),
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have said all, and heard so.
    Closed,
    /// At least one side is told by a reset that something is missing.
    Reset(Reason),
}

/// Why a session is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// This side was reset by its peer, or its peer is dead.
    Peer(Side),
    /// No endpoint could be reached.
    Unreachable,
    /// One direction was closed, or one side lost, and the other silent for too long.
    Silent,
}

/// How patient a session is.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// How long each attempt to connect may take.
    pub(crate) ladder: Box<[Duration]>,
    /// How long a half-closed session may be silent.
    pub(crate) half_close: Duration,
    /// How long what a lost side has said before may take to reach the other one, which takes nothing.
    pub(crate) last_bytes: Duration,
}
