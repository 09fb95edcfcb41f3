//! kube-proxy's flags that are accepted and have no effect.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// A list of flags.
pub(crate) trait Flags {
    /// Their names, without dashes.
    const ALL: &'static [Flag];
}

/// A flag. Go's boolean flags take a value only after `=`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    Bool(&'static str),
    Value(&'static str),
}

use Flag::{Bool, Value};

impl Flag {
    fn name(self) -> &'static str {
        let (Bool(name) | Value(name)) = self;
        name
    }

    fn argument(self) -> Arg {
        let argument = Arg::new(self.name()).long(self.name()).hide(true).action(ArgAction::Append);
        match self {
            Bool(_) => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Value(_) => argument.allow_negative_numbers(true),
        }
    }
}

/// The flags of a list that were given.
#[derive(Debug)]
pub(crate) struct Ignored<F> {
    given: Vec<&'static str>,
    list: PhantomData<F>,
}

impl<F> Ignored<F> {
    /// Names of the flags that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        self.given.clone()
    }
}

impl<F: Flags> FromArgMatches for Ignored<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let names = F::ALL.iter().map(|flag| flag.name());
        let given = names.filter(|name| matches.contains_id(name)).collect();
        Ok(Self { given, list: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<F: Flags> Args for Ignored<F> {
    fn augment_args(command: Command) -> Command {
        F::ALL.iter().fold(command, |command, flag| command.arg(flag.argument()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Flags without effect in any command of rulegen. kube-proxy 1.36 has them, or an older version
/// had them and installers still pass them.
#[derive(Debug)]
pub(crate) struct Unsupported;

impl Flags for Unsupported {
    const ALL: &'static [Flag] = &[
        Value("config-sync-period"),
        Value("kube-api-burst"),
        Value("kube-api-qps"),
        Bool("profiling"),
        Value("show-hidden-metrics-for-version"),
        // ipvs mode.
        Value("ipvs-exclude-cidrs"),
        Value("ipvs-min-sync-period"),
        Value("ipvs-scheduler"),
        Bool("ipvs-strict-arp"),
        Value("ipvs-sync-period"),
        Value("ipvs-tcp-timeout"),
        Value("ipvs-tcpfin-timeout"),
        Value("ipvs-udp-timeout"),
        // klog and component-base. The log goes to standard error.
        Bool("add-dir-header"),
        Bool("alsologtostderr"),
        Bool("legacy-stderr-threshold-behavior"),
        Value("log-backtrace-at"),
        Value("log-dir"),
        Value("log-file"),
        Value("log-file-max-size"),
        Value("log-flush-frequency"),
        Value("log-json-info-buffer-size"),
        Bool("log-json-split-stream"),
        Value("log-text-info-buffer-size"),
        Bool("log-text-split-stream"),
        Bool("logtostderr"),
        Bool("one-output"),
        Bool("skip-headers"),
        Bool("skip-log-headers"),
        Value("stderrthreshold"),
        Value("vmodule"),
        // Removed from kube-proxy.
        Bool("cleanup-iptables"),
        Bool("cleanup-ipvs"),
        Value("conntrack-max"),
        Value("proxy-port-range"),
        Value("resource-container"),
        Value("udp-timeout"),
    ];
}

/// Flags that only `rulegen agent` uses, apart from those of its metrics server.
#[derive(Debug)]
pub(crate) struct AgentOnlyFlags;

impl Flags for AgentOnlyFlags {
    const ALL: &'static [Flag] = &[
        Bool("bind-address-hard-fail"),
        Value("conntrack-max-per-core"),
        Value("conntrack-min"),
        Value("conntrack-tcp-timeout-close-wait"),
        Value("conntrack-tcp-timeout-established"),
        Value("conntrack-udp-timeout"),
        Value("conntrack-udp-timeout-stream"),
        Value("healthz-bind-address"),
        Value("healthz-port"),
        Value("iptables-min-sync-period"),
        Value("iptables-sync-period"),
        Value("oom-score-adj"),
    ];
}

/// The flags of the agent's metrics server. `doctor` uses them too.
#[derive(Debug)]
pub(crate) struct MetricsServer;

impl Flags for MetricsServer {
    const ALL: &'static [Flag] = &[Value("metrics-bind-address"), Value("metrics-port")];
}

/// Flags that only commands use that can read from the API server.
#[derive(Debug)]
pub(crate) struct ApiClientFlags;

impl Flags for ApiClientFlags {
    const ALL: &'static [Flag] =
        &[Value("kube-api-content-type"), Value("kubeconfig"), Value("master")];
}

/// kube-proxy flags that only a running agent uses. Other commands accept them, so that kube-proxy's
/// command line works unchanged, and report that they have no effect.
#[derive(Debug, Args)]
pub(crate) struct IgnoredArgs {
    #[command(flatten)]
    client: Ignored<ApiClientFlags>,
    #[command(flatten)]
    running: IgnoredRunningArgs,
}

impl IgnoredArgs {
    /// Names of the flags that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        [self.client.given(), self.running.given()].concat()
    }
}

/// The same for commands that can read from the API server.
#[derive(Debug, Args)]
pub(crate) struct IgnoredRunningArgs {
    #[command(flatten)]
    running: Ignored<AgentOnlyFlags>,
    #[command(flatten)]
    metrics: Ignored<MetricsServer>,
}

impl IgnoredRunningArgs {
    /// Names of the flags that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        [self.running.given(), self.metrics.given()].concat()
    }
}
