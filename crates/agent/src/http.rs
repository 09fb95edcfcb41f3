//! What the agent tells over HTTP: to probers, to Prometheus and to people.
//!
//! No port has authentication or TLS, as kube-proxy's have none; nothing can be changed through
//! them.

mod admission;
mod bind;
mod health_port;
mod host;
mod metrics_port;
mod response;
mod server;
#[cfg(test)]
pub(crate) mod tests;

pub use admission::{Admission, Quota};
pub(crate) use bind::listen_at;
pub use bind::{RETRY, bind};
pub use health_port::health_port;
pub(crate) use metrics_port::metrics_port;
pub use response::{Request, Response};
pub use server::{Answer, Limits, Router, serve};
