//! portico: a userspace Kubernetes service proxy.

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod config;
pub mod control;
pub mod health;
pub mod options;
pub mod portal;
pub mod proxier;
pub mod routing;
pub mod types;
pub mod wire;
