//! Diagnoses a node and suggests fixes.
//!
//! ```text
//! NodeFacts ──facts──▶ check ──▶ findings ──▶ Report
//! ```
//!
//! Each check decides in a pure function of facts. [`NodeFacts`] reads the facts that several checks
//! share, each once, when a check first needs it. Nothing is ever changed: the kernel rolls back the
//! examples of the check `kernel-features`.

mod checks;
mod code;
mod error;
mod finding;
mod node_facts;
mod report;

pub use checks::{CHECKS, Check};
pub use code::FindingCode;
pub use finding::{CheckResult, Finding, FindingSeverity, Grade};
pub use node_facts::{DoctorOptions, NodeFacts};
pub use report::{Checked, Report};
