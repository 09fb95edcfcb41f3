//! Probes the kernel for the features that tables need.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::mem::discriminant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::nftables::{
    Comment, Condition, DataType, Expression, Field, Name, Number, NumgenMode, Operation, Rule,
    Set, Statement, Table, Transaction, linearize,
};

use super::batch::Batch;
use super::{DataplaneError, NfTables};

/// A feature that this kernel lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Family of the tables.
    pub family: IpFamily,
    /// Name of the feature.
    pub feature: &'static str,
    /// Kernel option that enables it.
    pub option: &'static str,
    /// First Linux version with the feature.
    pub since: &'static str,
    /// Error of the kernel.
    pub errno: String,
}

impl Display for Missing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { family, feature, option, since, errno } = self;
        write!(
            f,
            "{feature} in {} tables: requires Linux {since} or later, built with {option} \
             (kernel error: {errno})",
            family.nft_name()
        )
    }
}

struct Feature {
    name: &'static str,
    option: &'static str,
    since: &'static str,
    probe: FeatureProbe,
}

/// An example that a kernel without the feature refuses.
enum FeatureProbe {
    Rule(fn(IpFamily) -> Statement),
    Set(Set),
}

/// Names are those of the kernel configuration; versions are those of the commits that added the
/// features.
fn features() -> Vec<Feature> {
    let feature = |name, option, since, probe| Feature { name, option, since, probe };
    let key = [Field::Address, Field::Port];
    let about = "a probe";
    let networks = Set { interval: true, ..Set::new(&key, about) };
    let counters = Set { counter: true, ..Set::map(&key, DataType::AddrPort, about) };
    vec![
        feature("networks in concatenated keys", "NF_TABLES", "5.6", FeatureProbe::Set(networks)),
        feature("element counters", "NF_TABLES", "5.7", FeatureProbe::Set(counters)),
        feature(
            "random choice",
            "NFT_NUMGEN",
            "4.9",
            FeatureProbe::Rule(|_| below_two(NumgenMode::Random)),
        ),
        feature(
            "choice by source",
            "NFT_HASH",
            "4.9",
            FeatureProbe::Rule(|_| below_two(NumgenMode::BySource)),
        ),
        feature(
            "connection tracking",
            "NFT_CT",
            "3.13",
            FeatureProbe::Rule(|_| Statement::Match(Condition::Translated)),
        ),
        feature(
            "address type lookup",
            "NFT_FIB_IPV4 and NFT_FIB_IPV6",
            "4.10",
            FeatureProbe::Rule(|_| Statement::Match(Condition::SourceIsLocal)),
        ),
        feature("DNAT", "NFT_NAT", "3.13", FeatureProbe::Rule(dnat)),
        feature("masquerade", "NFT_MASQ", "3.18", FeatureProbe::Rule(|_| Statement::Masquerade)),
        feature("reject", "NFT_REJECT", "3.14", FeatureProbe::Rule(|_| Statement::Reject)),
    ]
}

fn below_two(draw: NumgenMode) -> Statement {
    Statement::Match(Condition::Is(Number::Modulo(draw, 2), 0))
}

fn dnat(family: IpFamily) -> Statement {
    let address: IpAddr = match family {
        IpFamily::Ipv4 => Ipv4Addr::LOCALHOST.into(),
        IpFamily::Ipv6 => Ipv6Addr::LOCALHOST.into(),
    };
    Statement::Dnat(Protocol::Tcp, SocketAddr::new(address, 1))
}

impl NfTables {
    /// Returns the features that the tables need and this kernel lacks. The kernel validates an
    /// example of each and aborts it, so nothing is written.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or another error if the kernel cannot be probed.
    pub fn missing(
        &mut self,
        tables: &[impl Borrow<Table>],
    ) -> Result<Vec<Missing>, DataplaneError> {
        let features = features();
        let needed: Vec<(IpFamily, &Feature)> = tables
            .iter()
            .flat_map(|table| {
                let table = table.borrow();
                let needed = features.iter().filter(|feature| feature.probe.is_in(table));
                needed.map(|feature| (table.family, feature))
            })
            .collect();
        // Each abort waits for all CPUs, so features are probed one by one only if all together are
        // refused.
        if self.refusal(&needed)?.is_none() {
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        for one in &needed {
            if let Some(errno) = self.refusal(std::slice::from_ref(one))? {
                let (family, Feature { name, option, since, .. }) = one;
                missing.push(Missing { family: *family, feature: name, option, since, errno });
            }
        }
        Ok(missing)
    }

    fn refusal(
        &mut self,
        probes: &[(IpFamily, &Feature)],
    ) -> Result<Option<String>, DataplaneError> {
        let made: Vec<Made> = probes
            .iter()
            .enumerate()
            .map(|(turn, (family, feature))| feature.probe.make(*family, turn))
            .collect();
        let transactions: Vec<Transaction<'_>> = made.iter().map(Made::transaction).collect();
        let first = self.socket.first_sequence();
        let batch = Batch::new(None, &transactions, first).without_end();
        match self.socket.commit(&batch) {
            Ok(()) => Ok(None),
            Err(DataplaneError::Refused(refusals)) => {
                Ok(refusals.into_iter().next().map(|refusal| refusal.errno))
            }
            Err(error) => Err(error),
        }
    }
}

/// A table with an example of a feature.
struct Made {
    table: Table,
    name: Name,
    rule: Rule,
    set: Option<Set>,
}

impl Made {
    fn transaction(&self) -> Transaction<'_> {
        let Self { table, name, rule, set } = self;
        let mut operations = vec![Operation::AddTable(table)];
        match set {
            Some(set) => operations.push(Operation::AddSet(name, set)),
            None => {
                operations
                    .extend([Operation::AddChain(name, None), Operation::AddRule(name, rule)]);
            }
        }
        Transaction { family: table.family, table: &table.name, operations }
    }
}

impl FeatureProbe {
    fn make(&self, family: IpFamily, turn: usize) -> Made {
        let table = Table {
            family,
            name: Name::from(format!("rulegen-probe-{}-{turn}", std::process::id())),
            comment: Comment::from("a probe"),
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
        };
        let (rule, set) = match self {
            FeatureProbe::Rule(statement) => (Rule::new([statement(family)]), None),
            FeatureProbe::Set(set) => (Rule::default(), Some(set.clone())),
        };
        Made { table, name: Name::from("probe"), rule, set }
    }

    /// True if a table uses the feature.
    fn is_in(&self, table: &Table) -> bool {
        match self {
            FeatureProbe::Set(set) => table.sets.values().any(|other| {
                let networks = set.interval && other.interval && other.key.len() > 1;
                networks || set.counter && other.counter
            }),
            FeatureProbe::Rule(statement) => {
                let family = table.family;
                let example = linearize(family, &[statement(family)]);
                let Some(example) = example.iter().find(|expression| !is_everywhere(expression))
                else {
                    return false;
                };
                let rules = table.chains.values().flat_map(|chain| &chain.rules);
                rules
                    .flat_map(|rule| linearize(family, &rule.statements))
                    .any(|expression| discriminant(&expression) == discriminant(example))
            }
        }
    }
}

/// True for expressions that are always part of nf_tables.
fn is_everywhere(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::Payload { .. }
            | Expression::Meta { .. }
            | Expression::Bitwise { .. }
            | Expression::Cmp { .. }
            | Expression::Immediate { .. }
    )
}
