//! The agent with a fake API server, in nftables mode, each in a network
//! namespace.
//!
//! Needs what `tests/netns` needs: root, iproute2 and nft.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failing test should panic with a message"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../netns/namespace.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod namespace;
#[path = "../netns/traffic.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod traffic;

mod api_server;
mod burst;
mod commands;
mod health;
mod left_out;
mod life;
mod lists;
mod log;
mod malformed;
mod node;
mod objects;
mod outage;
mod refused;
mod role;
mod status_page;
mod sync;
mod trouble;
mod unreachable;
mod wrong_answers;
