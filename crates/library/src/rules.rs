//! The rules of one family, in either mode.

use std::fmt;

use rulegen_compiler::{Plan, iptables, nftables};
use rulegen_inspect::diff::{DiffReport, diff_iptables, diff_nftables};
use rulegen_inspect::listing::{Listing, of_ruleset, of_table};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ParseError, Ruleset};
use rulegen_ruleset::nftables::{Actual, Name, Table};

/// The rules of one IP family. As text ([`Display`](fmt::Display)) they are input for
/// `iptables-restore`, `ip6tables-restore` or `nft -f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// The tables `filter` and `nat` of iptables, as kube-proxy 1.36 makes them. For both variants of
    /// iptables (tested with 1.8.9).
    Iptables(Ruleset),
    /// One nftables table. It needs Linux 5.6 (networks in concatenated keys), and Linux 5.7 if
    /// connections are counted (element counters). Tested with Linux 6.18 and nft 1.0.6.
    Nftables(Table),
}

impl Rules {
    /// The IP family of the rules.
    pub fn family(&self) -> IpFamily {
        match self {
            Self::Iptables(ruleset) => ruleset.family,
            Self::Nftables(table) => table.family,
        }
    }

    /// The Services that the rules are for, with their frontends and endpoints.
    pub fn services(&self) -> Listing {
        match self {
            Self::Iptables(ruleset) => of_ruleset(ruleset),
            Self::Nftables(table) => of_table(table),
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iptables(ruleset) => f.write_str(&ruleset.to_text()),
            Self::Nftables(table) => f.write_str(&table.to_text()),
        }
    }
}

/// Makes the iptables rules that kube-proxy makes, in the same chains. The text is in the format of
/// `iptables-save` and in its order.
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let config = Config::default();
/// let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
/// let plan = rulegen::plan(&snapshot, &config, IpFamily::Ipv4);
/// let text = rulegen::iptables_rules(&plan).to_string();
///
/// assert!(text.starts_with("*filter\n:INPUT ACCEPT [0:0]\n"));
/// assert!(text.ends_with("COMMIT\n"));
/// assert_eq!(text.matches("-j DNAT").count(), 4);
/// ```
pub fn iptables_rules(plan: &Plan) -> Rules {
    Rules::Iptables(iptables::ruleset(plan))
}

/// Makes one nftables table with this name, usually `rulegen`. Packets are treated as by kube-proxy's
/// nftables mode. Characters that a name cannot have are replaced by `_`.
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let config = Config::default();
/// let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
/// let plan = rulegen::plan(&snapshot, &config, IpFamily::Ipv4);
/// let text = rulegen::nftables_rules(&plan, "rulegen").to_string();
///
/// assert!(text.contains("table ip rulegen {"));
/// assert!(text.contains("10.96.0.10 . tcp . 80"));
/// ```
pub fn nftables_rules(plan: &Plan, table: &str) -> Rules {
    Rules::Nftables(nftables::table(plan, &Name::from(table)))
}

/// Reads the output of `iptables-save` or `ip6tables-save`, for example to compare a node's rules with
/// those of a manifest. Rules that rulegen never makes are kept as text.
///
/// # Errors
/// Each line that is not in the format of iptables-save, by its number.
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let config = Config::default();
/// let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
/// let desired = rulegen::iptables_rules(&rulegen::plan(&snapshot, &config, IpFamily::Ipv4));
///
/// // On a node, this text is the output of iptables-save.
/// let saved = desired.to_string();
/// let actual = rulegen::parse_iptables(IpFamily::Ipv4, &saved).unwrap();
/// assert!(rulegen::diff(&actual, &desired)?.is_empty());
///
/// let saved = saved.replace("10.244.2.9:5000", "10.244.2.8:5000");
/// let actual = rulegen::parse_iptables(IpFamily::Ipv4, &saved).unwrap();
/// let report = rulegen::diff(&actual, &desired)?;
/// assert_eq!(report.services.len(), 1);
/// assert_eq!(report.services[0].frontends[0].removed, ["endpoint 10.244.2.8:5000"]);
///
/// let errors = rulegen::parse_iptables(IpFamily::Ipv4, "*nat\nnonsense\n").unwrap_err();
/// assert_eq!(errors[0].line, 2);
/// # Ok::<(), rulegen::types::Incomparable>(())
/// ```
pub fn parse_iptables(family: IpFamily, text: &str) -> Result<Rules, Vec<ParseError>> {
    match rulegen_ruleset::iptables::parse(family, text) {
        (ruleset, errors) if errors.is_empty() => Ok(Rules::Iptables(ruleset)),
        (_, errors) => Err(errors),
    }
}

/// Two rulesets of different modes, families or table names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot compare rules of different modes, IP families or tables")]
pub struct Incomparable;

/// The changes from `actual` to `desired`: Services with their frontends, then chains, sets and
/// rules. In iptables mode, rules of other programs in `actual` do not count.
///
/// # Errors
/// If the two are of different modes, IP families or (in nftables mode) table names.
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily, Rules};
///
/// fn rules(manifest: &str) -> Rules {
///     let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
///     let config = Config::default();
///     let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
///     rulegen::nftables_rules(&rulegen::plan(&snapshot, &config, IpFamily::Ipv4), "rulegen")
/// }
///
/// # let before = include_str!("../../../examples/nodeport.yaml");
/// let after = before.replace("10.244.3.7", "10.244.3.8");
/// let report = rulegen::diff(&rules(before), &rules(&after))?;
/// let [web] = report.services.as_slice() else { panic!("{report:?}") };
/// assert_eq!((&*web.namespace, &*web.name), ("default", "web-service"));
/// assert_eq!(web.frontends[0].removed, ["endpoint 10.244.3.7:8080"]);
/// assert_eq!(web.frontends[0].added, ["endpoint 10.244.3.8:8080"]);
///
/// // As JSON, it is what `rulegen diff -o json` prints.
/// let json = serde_json::to_value(&report)?;
/// assert_eq!(json["summary"]["change"], 1);
///
/// assert!(rulegen::diff(&rules(before), &rules(before))?.is_empty());
/// let iptables = rulegen::parse_iptables(IpFamily::Ipv4, "").unwrap();
/// assert_eq!(rulegen::diff(&iptables, &rules(before)), Err(rulegen::types::Incomparable));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn diff(actual: &Rules, desired: &Rules) -> Result<DiffReport, Incomparable> {
    let known = |_| Listing::default();
    match (actual, desired) {
        (Rules::Iptables(actual), Rules::Iptables(desired)) if actual.family == desired.family => {
            Ok(diff_iptables(&[(actual, desired)], known))
        }
        (Rules::Nftables(actual), Rules::Nftables(desired))
            if (actual.family, &actual.name) == (desired.family, &desired.name) =>
        {
            Ok(diff_nftables(&[(Some(&Actual::from(actual.clone())), desired)], known))
        }
        _ => Err(Incomparable),
    }
}
