//! Tests of what a cluster's Services do with packets, as `rulegen test` runs them.
//!
//! ```text
//! YAML ──read_test_file──▶ TestFile ─┐
//! manifests, configuration ─▶ Inputs ┴─run──▶ CaseReport: passed, failed with explanations, or wrong
//!                             Inputs ──generate──▶ TestFile that passes
//! ```
//!
//! A case names a packet and what must happen to it. The rules of each mode are compiled from the
//! inputs and followed, as `rulegen explain` does. Verdicts depend on the typed plan and the typed
//! explanation only. This crate performs no I/O.

mod certainty;
mod change;
mod check;
mod file;
mod flexible;
mod generate;
mod inputs;
mod live;
mod no_node;
mod node_rules;
mod packet;
mod problem;
mod read;
mod run;
mod settings_text;
#[cfg(test)]
mod tests;
mod wrong_value;

pub use check::Mismatch;
pub use file::{
    Case, ClusterChange, EndpointSet, Expectation, ExpectedChance, ExpectedChances,
    ExpectedEndpoints, ExpectedOutcome, FamilyName, InputFiles, Modes, ProbabilityValue,
    ReceiverFields, SenderFields, ServicePatch, TestFile, Transport,
};
pub use flexible::{ListOr, TextOr};
pub use generate::{GeneratedTests, generate};
pub use inputs::CaseInputs;
pub use live::{LivePacket, LiveRules};
pub use no_node::no_node;
pub use problem::FileProblem;
pub use read::{read_test_file, schema};
pub use run::{CaseNote, CaseReport, CaseVerdict, Failure, OnConditions, run, run_live};
pub use settings_text::SettingsText;
