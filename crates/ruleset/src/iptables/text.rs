//! Rulesets in the canonical format of `iptables-save`: text that is restored is printed the same
//! again.

use std::fmt::{self, Write};
use std::io;

use askama::Template;
use ipnet::IpNet;

use super::rule::{
    AddressType, ConntrackState, Match, RecentAction, RejectWith, Rule, RuleSpec, Target,
};
use super::ruleset::{Chain, Policy, Ruleset};
use crate::Negatable;

impl Ruleset {
    /// The format of `iptables-save` with zero counters, built-in chains first, then by name.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, and nothing in the template can.
        let _ = Saved::new(self).render_into(&mut text);
        text
    }

    /// Writes the ruleset in the format of `iptables-save`.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write_text(&self, out: &mut impl io::Write) -> io::Result<()> {
        Saved::new(self).write_into(out)
    }
}

#[derive(Template)]
#[template(path = "iptables-save.txt", escape = "none")]
struct Saved<'a> {
    tables: Vec<SavedTable<'a>>,
}

impl<'a> Saved<'a> {
    fn new(ruleset: &'a Ruleset) -> Self {
        let tables = ruleset.tables.iter().map(|(table, chains)| {
            let chains = chains.iter().map(|(name, chain)| SavedChain {
                name: name.as_str(),
                policy: policy_name(chain),
                rules: &chain.rules,
            });
            SavedTable { name: table.name(), chains: chains.collect() }
        });
        Self { tables: tables.collect() }
    }
}

struct SavedTable<'a> {
    name: &'static str,
    chains: Vec<SavedChain<'a>>,
}

struct SavedChain<'a> {
    name: &'a str,
    policy: &'static str,
    rules: &'a [Rule],
}

fn policy_name(chain: &Chain) -> &'static str {
    match chain.policy {
        Some(Policy::Accept) => "ACCEPT",
        Some(Policy::Drop) => "DROP",
        None => "-",
    }
}

/// Everything after `-A CHAIN`, each part with a leading blank.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Known(rule) => rule.fmt(f),
            Rule::Foreign { text, .. } if text.is_empty() => Ok(()),
            Rule::Foreign { text, .. } => write!(f, " {text}"),
        }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        network(f, "s", self.source)?;
        network(f, "d", self.destination)?;
        if let Some(interface) = &self.in_interface {
            negation(f, interface)?;
            f.write_str(" -i ")?;
            f.write_str(&interface.value.0)?;
        }
        if let Some(protocol) = self.protocol {
            f.write_str(" -p ")?;
            f.write_str(protocol.name())?;
        }
        self.matches.iter().try_for_each(|m| m.fmt(f))?;
        self.target.iter().try_for_each(|target| target.fmt(f))
    }
}

fn network(
    f: &mut fmt::Formatter<'_>,
    option: &str,
    network: Option<Negatable<IpNet>>,
) -> fmt::Result {
    let Some(network) = network else { return Ok(()) };
    negation(f, &network)?;
    write!(f, " -{option} {}", network.value)
}

fn negation<T>(f: &mut fmt::Formatter<'_>, value: &Negatable<T>) -> fmt::Result {
    if value.negated { f.write_str(" !") } else { Ok(()) }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Comment(comment) => {
                f.write_str(" -m comment --comment ")?;
                quoted(f, comment)
            }
            Match::Transport { protocol, destination_port } => {
                f.write_str(" -m ")?;
                f.write_str(protocol.name())?;
                match destination_port {
                    Some(port) => write!(f, " --dport {port}"),
                    None => Ok(()),
                }
            }
            Match::Conntrack(states) => {
                f.write_str(" -m conntrack")?;
                negation(f, states)?;
                for (n, state) in states.value.iter().enumerate() {
                    f.write_str(if n == 0 { " --ctstate " } else { "," })?;
                    f.write_str(state.name())?;
                }
                Ok(())
            }
            Match::Mark(mark) => {
                f.write_str(" -m mark")?;
                negation(f, mark)?;
                write!(f, " --mark {:#x}/{:#x}", mark.value.value, mark.value.mask)
            }
            Match::SourceType(AddressType::Local) => f.write_str(" -m addrtype --src-type LOCAL"),
            Match::DestinationType(AddressType::Local) => {
                f.write_str(" -m addrtype --dst-type LOCAL")
            }
            Match::Recent(recent) => {
                f.write_str(" -m recent")?;
                match recent.action {
                    RecentAction::Set => f.write_str(" --set")?,
                    RecentAction::Check { seconds } => {
                        write!(f, " --rcheck --seconds {seconds} --reap")?;
                    }
                }
                write!(f, " --name {} --mask {} --rsource", recent.list, recent.mask)
            }
            Match::Random(threshold) => {
                let probability = f64::from(*threshold) / f64::from(1_u32 << 31);
                write!(f, " -m statistic --mode random --probability {probability:.11}")
            }
        }
    }
}

impl ConntrackState {
    /// All states, in the order in which iptables prints them.
    pub(crate) const ALL: [(ConntrackState, &'static str); 7] = [
        (ConntrackState::Invalid, "INVALID"),
        (ConntrackState::New, "NEW"),
        (ConntrackState::Related, "RELATED"),
        (ConntrackState::Established, "ESTABLISHED"),
        (ConntrackState::Untracked, "UNTRACKED"),
        (ConntrackState::Snat, "SNAT"),
        (ConntrackState::Dnat, "DNAT"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(" -j ")?;
        match self {
            Target::Jump(chain) => f.write_str(chain.as_str()),
            Target::Accept => f.write_str("ACCEPT"),
            Target::Drop => f.write_str("DROP"),
            Target::Return => f.write_str("RETURN"),
            Target::Reject(with) => write!(f, "REJECT --reject-with {}", with.name()),
            Target::SetMark(mark) => {
                write!(f, "MARK --set-xmark {:#x}/{:#x}", mark.value, mark.mask)
            }
            Target::Masquerade { random_fully: false } => f.write_str("MASQUERADE"),
            Target::Masquerade { random_fully: true } => f.write_str("MASQUERADE --random-fully"),
            Target::Dnat(to) => write!(f, "DNAT --to-destination {to}"),
        }
    }
}

impl RejectWith {
    pub(super) fn name(self) -> &'static str {
        match self {
            RejectWith::IcmpPortUnreachable => "icmp-port-unreachable",
            RejectWith::Icmp6PortUnreachable => "icmp6-port-unreachable",
        }
    }
}

/// iptables' quoting (`xtables_save_string`): bare if all characters are letters, digits, `-` or
/// `_`, else in double quotes with `"`, `\` and `'` escaped.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !text.is_empty() && text.bytes().all(bare) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\', '\'']) {
        let (plain, special) = rest.split_at(at);
        f.write_str(plain)?;
        f.write_char('\\')?;
        let mut characters = special.chars();
        characters.next().into_iter().try_for_each(|c| f.write_char(c))?;
        rest = characters.as_str();
    }
    f.write_str(rest)?;
    f.write_char('"')
}
