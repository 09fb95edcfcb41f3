//! `rulegen test`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use rulegen_ruleset::nftables::Name;

use super::shared::parse_table;
use super::{KernelArgs, LogArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # Run the tests of two files, in both modes
  rulegen test tests/web.yaml tests/dns.yaml

  # Write results for a CI server
  rulegen test -o junit tests/*.yaml > results.xml

  # On a node: test the rules in its kernel
  rulegen test --live tests/web.yaml

  # Write tests that a cluster passes today, then run them at each change of a file
  kubectl get nodes,services,endpointslices,pods -A -o json > cluster.json
  rulegen test --generate -f cluster.json --hostname-override node-1 cluster-tests.yaml
  rulegen test --watch cluster-tests.yaml

JSON: files [{file, problems [{case, field, line, message}], cases [{name, mode, result, conditions \
[{code, text, chains}], failures [{mismatches [{field, expected, actual}], explanation}], problem, reason}]}]; \
summary {passed, conditional, failed, errors, ignored}. \
result is passed, conditional, failed, error or ignored, which has a reason; a conditional case passes unless one of its \
conditions holds; an explanation is what `rulegen explain -o json` prints; a problem \
says what is wrong with the file or case.";

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Test files in YAML or JSON
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    pub(crate) files: Vec<PathBuf>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TestForm,

    /// Run the tests again whenever a test file or a file that it names changes
    #[arg(long, conflicts_with_all = ["generate", "schema"])]
    pub(crate) watch: bool,

    /// Print the JSON Schema of test files
    #[arg(long, conflicts_with_all = ["generate", "files"])]
    pub(crate) schema: bool,

    /// Write FILE, with tests that the manifests given by -f pass. `-` is standard output. An existing file
    /// is not overwritten
    #[arg(long, requires = "filename")]
    pub(crate) generate: bool,

    /// Manifests for --generate: files or folders; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", requires = "generate")]
    pub(crate) filename: Vec<PathBuf>,

    /// Configuration file for --generate, a KubeProxyConfiguration
    #[arg(long, value_name = "FILE", requires = "generate")]
    pub(crate) config: Option<PathBuf>,

    /// Name of the node for --generate [default: the configuration's; else the only Node]
    #[arg(long, value_name = "NAME", requires = "generate")]
    pub(crate) hostname_override: Option<String>,

    /// Follow the rules in the kernel of this network namespace instead of compiling them. Cases that
    /// change the input (`when`), or are about another node or mode, are ignored. Requires CAP_NET_ADMIN
    #[arg(long, conflicts_with_all = ["generate", "schema"])]
    pub(crate) live: bool,

    /// With --live, fail cases that pass only unless another table, a route or another part of this host
    /// changes what happens
    #[arg(long, requires = "live")]
    pub(crate) fail_on_conditions: bool,

    /// Name of rulegen's nftables table, for --live
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestForm {
    /// Text; each failed case with its explanation
    Text,
    /// JSON; its fields are described below
    Json,
    /// JUnit XML
    Junit,
    /// Test Anything Protocol, version 14
    Tap,
}
