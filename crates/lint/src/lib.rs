//! Finds what is wrong with manifests, before anybody applies them.
//!
//! ```text
//! LintFiles ─▶ Objects, Snapshot ─▶ Problems of reading, checks of Services ─┐
//!         └──▶ documents ─────────▶ checks of fields, ignored codes, lines ──┴▶ LintFindings
//! ```
//!
//! The checks of Services are pure functions of the snapshot. The doctor uses them too, and [`lint_cluster`]
//! for the objects of a cluster. Time is linear in the input, except that objects are sorted by name.

mod address_claims;
mod cluster;
mod documents;
mod endpoints;
mod ephemeral_ports;
mod field_rules;
mod field_values;
mod fields;
mod finding;
mod ignores;
mod lint;
mod lint_file;
mod object_index;
mod placeholders;
mod references;
mod rule;
mod service_size;
mod services;
mod severity;
mod source_ranges;
mod written;

pub use address_claims::frontend_conflict;
pub use cluster::{ClusterObjects, lint_cluster};
pub use endpoints::unavailable;
pub use ephemeral_ports::{EphemeralNodePort, PortRange, ephemeral_node_ports};
pub use finding::LintFinding;
pub use lint::{LintReport, lint};
pub use lint_file::{LintFile, UnreadableFile};
pub use rule::{LintRule, rule};
pub use service_size::too_large;
pub use severity::FindingSeverity;
