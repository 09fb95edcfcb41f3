//! Tests of the program's command line, and of the files for deployment. Needs no root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failing test should panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod ci_files;
mod command_line;
mod deploy;
mod documentation;
mod golden;
mod image;
mod kube_proxy_flags;
mod man;
mod packet_tests;
