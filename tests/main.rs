//! The integration tests: one binary, one module a subject.

#![forbid(unsafe_code)]

mod util;

mod api;
mod cli;
mod config;
mod control;
mod explain;
mod flows;
mod health;
mod logging;
mod loops;
mod manifests;
mod pipeline;
mod portal;
mod proxier;
mod readme;
mod routing;
mod serving;
mod standing;
mod tidy;
