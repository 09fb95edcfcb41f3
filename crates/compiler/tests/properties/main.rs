//! Properties that hold for every cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed test panics"
)]

mod agreement;
mod availability;
mod cluster;
mod cost;
mod explaining;
mod fake_iptables;
#[allow(dead_code, reason = "the agent's tests use the rest")]
mod fake_kernel;
mod isolating;
mod laws;
mod layout;
mod listing;
mod live;
mod live_iptables;
mod meaning;
mod ownership;
mod raising;
mod reconcile;
mod slots;
mod staging;
mod store;
