//! As much of X.509 as is needed to say what is wrong with a certificate, and to trust what Go trusts: the fields, as they
//! stand. Nothing is believed here.

use std::fmt;

use rustls::pki_types::CertificateDer;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
/// `[0]`: the version.
const VERSION: u8 = 0xa0;
/// `[3]`: the extensions.
const EXTENSIONS: u8 = 0xa3;

const VERSION_3: &[u8] = &[INTEGER, 1, 2];

/// 2.5.29.x: the extensions of X.509 itself.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// 2.5.29.37.0, anyExtendedKeyUsage.
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 37, 0];
/// 1.3.6.1.5.5.7.3.1, serverAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// 1.3.132.0.35, with tag and length.
const SECP521R1: &[u8] = &[OBJECT_ID, 5, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// A certificate's fields. Of those in DER, the contents without tag and length, but where said.
#[derive(Clone, Debug)]
pub(super) struct Certificate<'a> {
    /// What is signed, with its tag.
    pub(super) signed: &'a [u8],
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// The public key with all that belongs to it, with its tag.
    pub(super) key_info: &'a [u8],
    pub(super) key_algorithm: &'a [u8],
    pub(super) key: &'a [u8],
    /// Of version 3, the first one with extensions.
    pub(super) is_v3: bool,
    /// basicConstraints says that it may issue certificates.
    pub(super) is_authority: bool,
    /// It may, as Go has it: a version 3 certificate must say so, in keyUsage too if it has one; older ones cannot.
    pub(super) may_sign: bool,
    /// extendedKeyUsage is absent, or has serverAuth.
    pub(super) may_serve: bool,
    pub(super) has_name_constraints: bool,
}

impl<'a> Certificate<'a> {
    /// None for what is no X.509 certificate, of whatever version.
    pub(super) fn parse(der: &'a CertificateDer<'_>) -> Option<Self> {
        let mut outer = Der(Der(der.as_ref()).take(SEQUENCE)?);
        let (signed, mut fields) = outer.with_tag(SEQUENCE)?;
        let signature_algorithm = outer.take(SEQUENCE)?;
        let signature = outer.bits()?;
        // Not there in version 1.
        let version = fields.take(VERSION);
        fields.take(INTEGER)?;
        fields.take(SEQUENCE)?;
        let issuer = fields.take(SEQUENCE)?;
        let mut validity = Der(fields.take(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = fields.take(SEQUENCE)?;
        let (key_info, mut key_fields) = fields.with_tag(SEQUENCE)?;
        let mut certificate = Self {
            signed,
            signature_algorithm,
            signature,
            issuer,
            subject,
            not_before,
            not_after,
            key_info,
            key_algorithm: key_fields.take(SEQUENCE)?,
            key: key_fields.bits()?,
            is_v3: version == Some(VERSION_3),
            is_authority: false,
            may_sign: true,
            may_serve: true,
            has_name_constraints: false,
        };
        while let Some((tag, _, content)) = fields.next() {
            if tag == EXTENSIONS {
                certificate.extensions(Der(Der(content).take(SEQUENCE)?))?;
            }
        }
        certificate.may_sign &= certificate.is_authority || !certificate.is_v3;
        Some(certificate)
    }

    fn extensions(&mut self, mut all: Der<'_>) -> Option<()> {
        while let Some(extension) = all.take(SEQUENCE) {
            let mut fields = Der(extension);
            let id = fields.take(OBJECT_ID)?;
            // Whether it is critical.
            fields.take(BOOLEAN);
            let value = fields.take(OCTET_STRING)?;
            match id {
                KEY_USAGE => self.may_sign = Der(value).bits()?.first()? & 0x04 != 0,
                BASIC_CONSTRAINTS => {
                    let is_authority = Der(Der(value).take(SEQUENCE)?).take(BOOLEAN);
                    self.is_authority = is_authority.is_some_and(|flag| flag != [0]);
                }
                EXTENDED_KEY_USAGE => {
                    let mut purposes = Der(Der(value).take(SEQUENCE)?);
                    let mut purposes = std::iter::from_fn(|| purposes.take(OBJECT_ID));
                    self.may_serve = purposes.any(|it| it == SERVER_AUTH || it == ANY_PURPOSE);
                }
                NAME_CONSTRAINTS => self.has_name_constraints = true,
                _ => {}
            }
        }
        Some(())
    }

    /// Whether the time (seconds since 1970) lies in its life.
    pub(super) fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Whether this key, or its algorithm, is of the curve P-521, which the library does not know.
pub(super) fn is_p521(der: &[u8]) -> bool {
    der.windows(SECP521R1.len()).any(|part| part == SECP521R1)
}

/// A point in time, in seconds since 1970, as people write it.
pub(super) struct Day(pub(super) i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match OffsetDateTime::from_unix_timestamp(self.0) {
            Ok(it) => {
                let (year, month, day) = (it.year(), u8::from(it.month()), it.day());
                let (hour, minute) = (it.hour(), it.minute());
                write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
            }
            Err(_) => f.write_str("a time beyond all calendars"),
        }
    }
}

/// What is left of a DER encoding.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag, all of it, and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (tag, length) = (*self.0.first()?, *self.0.get(1)?);
        let (head, length) = match length {
            0..=0x7f => (2, usize::from(length)),
            // Certificates are not larger than what four bytes can count.
            0x81..=0x84 => {
                let bytes = self.0.get(2..2 + usize::from(length & 0x7f))?;
                let length = bytes.iter().try_fold(0usize, |sum, byte| {
                    sum.checked_mul(256)?.checked_add(usize::from(*byte))
                })?;
                (2 + bytes.len(), length)
            }
            _ => return None,
        };
        let whole = self.0.get(..head.checked_add(length)?)?;
        self.0 = self.0.get(whole.len()..)?;
        Some((tag, whole, whole.get(head..)?))
    }

    /// The next value's content, if it has this tag; else nothing is taken.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.with_tag(tag).map(|(_, content)| content.0)
    }

    /// The same, with all of it.
    fn with_tag(&mut self, tag: u8) -> Option<(&'a [u8], Der<'a>)> {
        let mut ahead = *self;
        let (found, whole, content) = ahead.next()?;
        if found != tag {
            return None;
        }
        *self = ahead;
        Some((whole, Der(content)))
    }

    /// A bit string of whole bytes, or the first bytes of another one.
    fn bits(&mut self) -> Option<&'a [u8]> {
        // Its first byte says how many bits of the last are not used.
        self.take(BIT_STRING)?.get(1..)
    }

    fn time(&mut self) -> Option<i64> {
        let (tag, _, content) = self.next()?;
        let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            // 50 to 99 are of the twentieth century (RFC 5280).
            UTC_TIME => match number(text, 0..2)? {
                year @ 0..50 => (2000 + year, text.get(2..)?),
                year => (1900 + year, text.get(2..)?),
            },
            GENERALIZED_TIME => (number(text, 0..4)?, text.get(4..)?),
            _ => return None,
        };
        let pair = |at: usize| u8::try_from(number(rest, at..at + 2)?).ok();
        let month = Month::try_from(pair(0)?).ok()?;
        let date = Date::from_calendar_date(i32::from(year), month, pair(2)?).ok()?;
        // Seconds are there since X.509 version 3 was profiled.
        let time = Time::from_hms(pair(4)?, pair(6)?, pair(8).unwrap_or(0)).ok()?;
        Some(
            PrimitiveDateTime::new(date, time)
                .assume_utc()
                .unix_timestamp(),
        )
    }
}

fn number(text: &str, digits: std::ops::Range<usize>) -> Option<u16> {
    let digits = text.get(digits)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}
