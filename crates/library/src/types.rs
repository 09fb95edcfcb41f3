//! The types that the functions need and return.
//!
//! A tool makes [`Config`], [`Host`], [`IpFamily`] and [`Packet`]; all others come from a function:
//!
//! ```
//! use rulegen::types::{Config, Host, IpFamily, Rules, Snapshot};
//!
//! fn rules_of_node(snapshot: &Snapshot, config: &Config, family: IpFamily) -> Rules {
//!     rulegen::nftables_rules(&rulegen::plan(snapshot, config, family), "rulegen")
//! }
//!
//! # let manifest = include_str!("../../../examples/nodeport.yaml");
//! let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
//! let config = Config::default();
//! let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
//! let rules = rules_of_node(&snapshot, &config, IpFamily::Ipv4);
//! assert_eq!(rules.family(), IpFamily::Ipv4);
//! ```

#[doc(inline)]
pub use rulegen_compiler::Plan;
#[doc(inline)]
pub use rulegen_config::{ProxyConfig as Config, ProxyMode};
#[doc(inline)]
pub use rulegen_inspect::diff::DiffReport;
#[doc(inline)]
pub use rulegen_inspect::explain::{Explanation, Outcome};
#[doc(inline)]
pub use rulegen_model::{Host, Objects, Problem, Severity, Snapshot};
#[doc(inline)]
pub use rulegen_net::{IpFamily, Protocol, ServicePortName};
#[doc(inline)]
pub use rulegen_ruleset::iptables::ParseError;
#[doc(inline)]
pub use rulegen_ruleset::{Origin, Packet};

pub use crate::rules::{Incomparable, Rules};
