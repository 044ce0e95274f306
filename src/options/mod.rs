//! The command line and the configuration file: argv in, a [`Command`] out. Pure; the one file is read by a function that
//! the caller gives.
//!
//! Two stages: `args` takes the line apart, flag by flag, into a draft (what the user said); `resolve` completes and
//! validates it into [`Options`] (what the program needs). One table (`table`, `kept`, `accepted`) drives the flags, the file,
//! `--help`, `--write-config-to` and /configz, and the tests hold the man page to it.

mod accepted;
mod args;
mod command;
mod configuration;
mod duration;
mod file;
mod gates;
mod help;
mod kept;
mod nearest;
mod parse;
mod query;
mod resolve;
mod setting;
mod slot;
mod table;

pub use command::{Command, Error, Explain, Logging, Options, Parsed};
pub(crate) use command::{DetectLocal, LogFormat, Mode, PortalKind};
pub use parse::parse;

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod tests;
