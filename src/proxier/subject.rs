//! What an event is about, and the token by which epoll hands it back.

use mio::Token;

use super::slab::{INDEX_BITS, SlabKey};

const KIND_BITS: u32 = 3;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Messages wait.
    Mailbox,
    /// A TCP listener.
    TcpListener(SlabKey),
    /// A session's socket to its client.
    Client(SlabKey),
    /// A session's socket to its endpoint.
    Endpoint(SlabKey),
    /// A UDP listener.
    UdpListener(SlabKey),
    /// A UDP flow's socket to its endpoint.
    Flow(SlabKey),
}

impl Subject {
    /// As epoll keeps it.
    pub(crate) const fn token(self) -> Token {
        let (kind, key) = match self {
            Self::Mailbox => return Token(0),
            Self::TcpListener(key) => (1, key),
            Self::Client(key) => (2, key),
            Self::Endpoint(key) => (3, key),
            Self::UdpListener(key) => (4, key),
            Self::Flow(key) => (5, key),
        };
        let generation = (key.generation as usize) << (INDEX_BITS + KIND_BITS);
        Token(generation | (key.index as usize) << KIND_BITS | kind)
    }

    /// Back from epoll; None if it is not a token of ours.
    pub(crate) fn of(token: Token) -> Option<Self> {
        let key = SlabKey {
            index: (token.0 >> KIND_BITS) as u32 & ((1 << INDEX_BITS) - 1),
            generation: (token.0 >> (INDEX_BITS + KIND_BITS)) as u32,
        };
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Self::Mailbox),
            1 => Some(Self::TcpListener(key)),
            2 => Some(Self::Client(key)),
            3 => Some(Self::Endpoint(key)),
            4 => Some(Self::UdpListener(key)),
            5 => Some(Self::Flow(key)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxier::slab::GENERATION_BITS;

    #[test]
    fn tokens_survive_epoll() {
        let index = (1 << INDEX_BITS) - 1;
        let generation = u32::MAX >> (32 - GENERATION_BITS);
        for key in [
            SlabKey {
                index: 0,
                generation: 0,
            },
            SlabKey { index, generation },
        ] {
            let all = [
                Subject::Mailbox,
                Subject::TcpListener(key),
                Subject::Client(key),
                Subject::Endpoint(key),
                Subject::UdpListener(key),
                Subject::Flow(key),
            ];
            for subject in all {
                assert_eq!(Subject::of(subject.token()), Some(subject));
            }
        }
        assert_eq!(Subject::of(Token(7)), None);
    }
}
