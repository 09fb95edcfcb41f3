//! The laws that hold for every cluster.

mod cluster;
mod laws;
mod meaning;
