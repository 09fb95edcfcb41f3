//! Diagnoses a node and suggests fixes.
//!
//! ```text
//! NodeFacts ──facts──▶ check ──▶ findings ──▶ Report
//! ```
//!
//! Each check decides in a pure function of facts. [`NodeFacts`] reads the facts that several checks
//! share, each once, when a check first needs it. Nothing is ever changed: the kernel rolls back the
//! examples of the check `kernel-features`.
//!
//! [`live`] follows packets through the rules in the kernel, with what else they meet on this host.

mod checks;
mod code;
mod error;
mod finding;
pub mod live;
mod node_facts;
mod report;

pub use checks::{CHECKS, Check};
pub use code::FindingCode;
pub use finding::{CheckResult, Finding, FindingSeverity, Grade};
pub use node_facts::{DoctorOptions, NodeFacts};
pub use report::{Checked, Report};
