//! Netlink's framing: messages, and the attributes in them, written into one buffer and read by reference.
//!
//! Pure. Whatever bytes are given, reading ends and panics nowhere: what is cut off, or has a length that cannot be, ends
//! the walk over its neighbours.

use std::io;
use std::net::IpAddr;

use nix::libc::{
    EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EEXIST, ENODEV, ENOENT, EOPNOTSUPP, EPERM, ESRCH,
};

use super::uapi::{
    NLA_F_NESTED, NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSGERR_ATTR_MSG,
};

/// `struct nlmsghdr`: {u32 length, u16 kind, u16 flags, u32 sequence, u32 port}.
const MESSAGE_HEADER: usize = 16;
/// `struct nlattr`: {u16 length, u16 kind}.
const ATTRIBUTE_HEADER: usize = 4;
/// Messages and attributes start at multiples of this.
const ALIGNMENT: usize = 4;

/// Where requests are put together, one after the other.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets what was written and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// One message: `header` is its kind's fixed header, `attributes` writes the rest.
    pub fn message(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        header: &[u8],
        attributes: impl FnOnce(&mut Self),
    ) {
        let start = self.buffer.len();
        self.buffer.extend([0; 4]);
        self.buffer.extend(kind.to_ne_bytes());
        self.buffer.extend(flags.to_ne_bytes());
        self.buffer.extend(sequence.to_ne_bytes());
        // The port: the kernel knows whose socket it is.
        self.buffer.extend([0; 4]);
        self.fixed(header);
        attributes(self);
        let length = (self.buffer.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
    }

    /// A fixed header: at the start of a message, or of a nested one.
    pub(crate) fn fixed(&mut self, header: &[u8]) {
        self.buffer.extend(header);
        self.pad();
    }

    /// An attribute. None of ours is longer than a name.
    pub(crate) fn bytes_attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.buffer.extend(value));
    }

    /// An attribute of a number.
    pub(crate) fn u8_attribute(&mut self, kind: u16, value: u8) {
        self.bytes_attribute(kind, &[value]);
    }

    /// An attribute of a number.
    pub(crate) fn u32_attribute(&mut self, kind: u16, value: u32) {
        self.bytes_attribute(kind, &value.to_ne_bytes());
    }

    /// An attribute of text, which ends with a zero.
    pub(crate) fn text_attribute(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.buffer.extend(value.as_bytes());
            writer.buffer.push(0);
        });
    }

    /// An attribute of an address.
    pub(crate) fn ip_attribute(&mut self, kind: u16, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.bytes_attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.bytes_attribute(kind, &ip.octets()),
        }
    }

    /// An attribute of attributes.
    pub(crate) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        self.attribute(kind | NLA_F_NESTED, inside);
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend([0; 2]);
        self.buffer.extend(kind.to_ne_bytes());
        value(self);
        let length = self.buffer.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length}");
        self.patch(start, &(length as u16).to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.buffer
            .resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

/// A message as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `NLMSG_*`, or the protocol's own.
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// That of the request which it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Splits a datagram into its messages.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<MESSAGE_HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        // Also none for a length that would never advance.
        let payload = rest.get(MESSAGE_HEADER..length)?;
        rest = after(rest, length);
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    })
}

/// Splits the rest of a message, or a nested attribute, into attributes: kind and value.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let [l0, l1, k0, k1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = after(rest, length);
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// What follows something of that length; the last one may lack its padding.
fn after(bytes: &[u8], length: usize) -> &[u8] {
    let next = length.checked_next_multiple_of(ALIGNMENT);
    next.and_then(|next| bytes.get(next..)).unwrap_or_default()
}

/// The value of an attribute of a number.
pub(crate) fn u8_of(value: &[u8]) -> Option<u8> {
    match value {
        [byte] => Some(*byte),
        _ => None,
    }
}

/// The value of an attribute of a number.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// The value of an attribute of an address; its length tells the family.
pub(crate) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(octets.into());
    }
    Some(<[u8; 16]>::try_from(value).ok()?.into())
}

/// The value of an attribute of text, up to its zero. Names of links may be any bytes.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let text = value.get(..end.unwrap_or(value.len()));
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

/// What a `NLMSG_ERROR` or `NLMSG_DONE` says, which is success if the code is zero, or if the end of a dump has none. The
/// kernel's own words, if there are any, become part of the error.
pub fn outcome(message: &Message<'_>) -> io::Result<()> {
    let Some((code, rest)) = message.payload.split_first_chunk() else {
        return match message.kind {
            NLMSG_DONE => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
    };
    match i32::from_ne_bytes(*code).saturating_abs() {
        0 => Ok(()),
        code => Err(error(code, explanation(message, rest))),
    }
}

/// The text of an extended acknowledgement. `rest` is what follows the error's code.
fn explanation(message: &Message<'_>, rest: &[u8]) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // An error echoes the request, if capped then only its header; the end of a dump does not.
    let echoed = match (message.kind, rest.first_chunk()) {
        (NLMSG_DONE, _) => 0,
        (_, _) if message.flags & NLM_F_CAPPED != 0 => MESSAGE_HEADER,
        (_, length) => u32::from_ne_bytes(*length?) as usize,
    };
    let (_, text) = attributes(after(rest, echoed)).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
    Some(text_of(text))
}

fn error(code: i32, explanation: Option<String>) -> io::Error {
    let error = io::Error::from_raw_os_error(code);
    match explanation {
        Some(text) if !decided_by_code(code) => {
            io::Error::new(error.kind(), format!("{error}: {text}"))
        }
        _ => error,
    }
}

/// Whether the portal asks for this very code, which an error with a text of its own would not tell: not permitted, not
/// supported, there already, or not there. These say enough.
fn decided_by_code(code: i32) -> bool {
    matches!(
        code,
        EPERM
            | ENOENT
            | ESRCH
            | EACCES
            | EEXIST
            | ENODEV
            | EOPNOTSUPP
            | EAFNOSUPPORT
            | EADDRNOTAVAIL
    )
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
