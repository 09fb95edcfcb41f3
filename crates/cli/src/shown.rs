//! The flags in effect, for /flagz.

use clap::CommandFactory;
use rulegen_config::{KubeProxyConfiguration, to_configz};
use serde_json::Value;

use crate::args::{Cli, command_line};

/// All flags of the agent with the values that have effect: from the configuration where it has a
/// field for the flag, else as given or the default.
pub(crate) fn flags(config: &KubeProxyConfiguration) -> Vec<(String, String)> {
    let Ok(matches) = Cli::command().try_get_matches_from(command_line()) else {
        return Vec::new();
    };
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let command = Cli::command();
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let config = to_configz(config);
    let flag = |argument: &clap::Arg| {
        let flag = argument.get_long()?;
        let given = || {
            let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
            let values = values.into_iter().flatten();
            let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            values.join(",")
        };
        let value = port(flag, &config).or_else(|| configured(flag, &config).map(text));
        Some((flag.to_owned(), value.unwrap_or_else(given)))
    };
    command.get_arguments().filter_map(flag).collect()
}

/// The port of a bind address, for the flags that set only the port. 0 if nothing listens.
fn port(flag: &str, config: &Value) -> Option<String> {
    let field = match flag {
        "healthz-port" => "healthzBindAddress",
        "metrics-port" => "metricsBindAddress",
        _ => return None,
    };
    let address = config.get(field).and_then(Value::as_str).unwrap_or_default();
    let port = address.rsplit_once(':').map(|(_, port)| port);
    Some(port.filter(|port| !port.is_empty()).unwrap_or("0").to_owned())
}

/// The field of the configuration that a flag overrides.
fn configured<'a>(flag: &str, config: &'a Value) -> Option<&'a Value> {
    let of_mode = |field| config.get(config.get("mode")?.as_str()?)?.get(field);
    let field = match flag {
        "iptables-min-sync-period" => return of_mode("minSyncPeriod"),
        "iptables-sync-period" => return of_mode("syncPeriod"),
        "masquerade-all" => return of_mode("masqueradeAll"),
        "bind-address" => "/bindAddress",
        "bind-address-hard-fail" => "/bindAddressHardFail",
        "cluster-cidr" => "/clusterCIDR",
        "conntrack-max-per-core" => "/conntrack/maxPerCore",
        "conntrack-min" => "/conntrack/min",
        "conntrack-tcp-be-liberal" => "/conntrack/tcpBeLiberal",
        "conntrack-tcp-reset-removed" => "/rulegen/conntrackTCPResetRemoved",
        "conntrack-tcp-timeout-close-wait" => "/conntrack/tcpCloseWaitTimeout",
        "conntrack-tcp-timeout-established" => "/conntrack/tcpEstablishedTimeout",
        "conntrack-udp-timeout" => "/conntrack/udpTimeout",
        "conntrack-udp-timeout-stream" => "/conntrack/udpStreamTimeout",
        "detect-local-mode" => "/detectLocalMode",
        "external-ips" => "/rulegen/externalIPs",
        "feature-gates" => "/featureGates",
        "healthz-bind-address" => "/healthzBindAddress",
        "hostname-override" => "/hostnameOverride",
        "iptables-localhost-nodeports" => "/iptables/localhostNodePorts",
        "iptables-masquerade-bit" => "/iptables/masqueradeBit",
        "kube-api-content-type" => "/clientConnection/contentType",
        "kubeconfig" => "/clientConnection/kubeconfig",
        "load-balancing" => "/nftables/loadBalancing",
        "max-service-size" => "/rulegen/maxServiceSize",
        "metrics-bind-address" => "/metricsBindAddress",
        "nftables-counters" => "/nftables/counters",
        "nodeport-addresses" => "/nodePortAddresses",
        "oom-score-adj" => "/oomScoreAdj",
        "pod-bridge-interface" => "/detectLocal/bridgeInterface",
        "pod-interface-name-prefix" => "/detectLocal/interfaceNamePrefix",
        "proxy-mode" => "/mode",
        "refuse-node-addresses" => "/rulegen/refuseNodeAddresses",
        _ => return None,
    };
    config.pointer(field)
}

/// Formats a value as on a command line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}={}", text(value)));
            fields.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags that the configuration has no field for.
    const NOT_CONFIGURED: [&str; 17] = [
        "allow-empty",
        "cleanup",
        "config",
        "context",
        "init-only",
        "iptables-backend",
        "iptables-lock-timeout",
        "iptables-variant",
        "logging-format",
        "manifests",
        "master",
        "nftables-table",
        "state-dir",
        "v",
        "version",
        "write-config-to",
        "help",
    ];

    #[test]
    fn flags_that_set_only_a_port_show_that_of_the_bind_address() {
        let shown = |healthz: &str| {
            let config = serde_json::json!({
                "healthzBindAddress": healthz, "metricsBindAddress": "[::1]:10249"
            });
            ["healthz-port", "metrics-port", "bind-address"].map(|flag| port(flag, &config))
        };
        let ports = |healthz: &str| [Some(healthz.to_owned()), Some("10249".to_owned()), None];
        assert_eq!(shown("0.0.0.0:10256"), ports("10256"));
        assert_eq!(shown("0.0.0.0:0"), ports("0"));
        assert_eq!(shown(""), ports("0"));
    }

    #[test]
    fn flags_of_the_agent_have_a_field_of_the_configuration_or_none() {
        let config = to_configz(&KubeProxyConfiguration::default().with_defaults());
        let command = Cli::command();
        let agent = command.find_subcommand("agent").unwrap();
        let flags = agent.get_arguments().filter(|argument| !argument.is_hide_set());
        for flag in flags.filter_map(clap::Arg::get_long) {
            let is_configured = configured(flag, &config).is_some();
            assert_eq!(is_configured, !NOT_CONFIGURED.contains(&flag), "{flag}");
        }
    }
}
