//! The HTTP servers for probes, Prometheus and the status page.
//!
//! Like kube-proxy's, the ports have neither authentication nor TLS. They are read-only.

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
