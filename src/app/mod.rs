//! The program: what each command does, and the one place that knows every layer and connects them.

mod audience;
mod capabilities;
mod complaints;
mod config_file;
mod daemon;
mod error;
mod events;
mod explain;
mod feeds;
mod listeners;
mod logging;
mod notify;
mod observers;
mod process;
mod settings;
mod signals;
mod sync;
mod world;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::options::{self, Command, Logging, Parsed};
use crate::portal;
use crate::types::PortalKind;
use error::Error;

/// Exit status of check.
const SOMETHING_MISSING: u8 = 3;

/// Runs the program with these arguments (without its own name).
///
/// Exit status: 0 for a clean stop or an answer given; 1 when something failed; 2 for a wrong command line; 3 when check
/// found that the proxy would start, but that something is missing.
pub fn run(args: impl IntoIterator<Item = String>) -> ExitCode {
    let parsed = match options::parse(args, |path| fs::read_to_string(path)) {
        Ok(parsed) => parsed,
        Err(error) => {
            logging::last_word(&error);
            return ExitCode::from(error.exit_code());
        }
    };
    match execute(parsed) {
        Ok(code) => {
            logging::flush();
            code
        }
        Err(error) => {
            logging::last_word(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(Parsed { command, warnings }: Parsed) -> Result<ExitCode, Error> {
    match command {
        Command::Run(options) => {
            logging::init(options.logging).map_err(Error::start("the log"))?;
            warn(&warnings);
            daemon::run(*options)?;
        }
        Command::Check(options) => {
            init(options.logging, &warnings)?;
            let report = portal::check::check(portal_kind(options.portal));
            print(&report.to_string())?;
            return Ok(match report.usable {
                true if report.complete() => ExitCode::SUCCESS,
                true => ExitCode::from(SOMETHING_MISSING),
                false => ExitCode::FAILURE,
            });
        }
        Command::Explain(request) => {
            init(request.options.logging, &warnings)?;
            print(&explain::run(*request)?)?;
        }
        Command::Cleanup(logging) => {
            init(logging, &warnings)?;
            print(&format!("{}\n", portal::cleanup()?))?;
        }
        Command::WriteConfig {
            path,
            yaml,
            logging,
        } => {
            init(logging, &warnings)?;
            fs::write(&path, yaml).map_err(|error| Error::file("cannot write", &path, error))?;
        }
        Command::InitOnly(logging) => init(logging, &warnings)?,
        Command::Print(text) => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the log of a command whose answer is on standard output.
fn init(logging: Logging, warnings: &[String]) -> Result<(), Error> {
    logging::init_command(logging).map_err(Error::start("the log"))?;
    warn(warnings);
    Ok(())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Prints an answer. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Io {
            doing: "cannot write to standard output".into(),
            error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `--portal`, as all other layers have it.
fn portal_kind(kind: options::PortalKind) -> PortalKind {
    match kind {
        options::PortalKind::Auto => PortalKind::Auto,
        options::PortalKind::Netns => PortalKind::Netns,
        options::PortalKind::Host => PortalKind::Host,
        options::PortalKind::None => PortalKind::None,
    }
}
