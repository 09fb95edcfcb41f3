//! The program as its users run it, and what is deployed with it. Needs no root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on shall stop"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod command_line;
mod deploy;
mod documentation;
mod kube_proxy_flags;
