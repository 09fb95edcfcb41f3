//! Parses the output of `iptables-save`. Rules that rulegen can make are decoded; all others are
//! kept as text, with the chain that they lead to.

use std::borrow::Cow;
use std::fmt;
use std::iter::Peekable;
use std::net::IpAddr;

use ipnet::IpNet;

use super::chain_name::ChainName;
use super::rule::{
    AddressType, ConntrackState, Interface, Mark, Match, Recent, RecentAction, RejectWith, Rule,
    RuleSpec, SetMark, Target,
};
use super::ruleset::{Chain, Policy, Ruleset, Table};
use crate::Negatable;
use rulegen_net::{IpFamily, Protocol};

/// A line that is not in the format of iptables-save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// The error.
    pub message: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Parses every table. An unreadable line is reported and skipped.
pub fn parse(family: IpFamily, text: &str) -> (Ruleset, Vec<ParseError>) {
    let mut ruleset = Ruleset::new(family);
    let mut errors = Vec::new();
    let mut table = None;
    for (line, number) in whole_lines(text) {
        if let Err(message) = parse_line(line.trim_end(), &mut table, &mut ruleset) {
            errors.push(ParseError { line: number, message });
        }
    }
    (ruleset, errors)
}

/// Lines with their numbers. iptables prints line breaks in comments as they are, so a rule
/// continues until its quotes are closed.
fn whole_lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let (mut rest, mut number) = (text, 0);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = line_end(rest);
        let (line, behind) = rest.split_at(end);
        let first = number + 1;
        number += line.matches('\n').count() + 1;
        rest = behind.strip_prefix('\n').unwrap_or(behind);
        Some((line, first))
    })
}

/// End of the line: its first line break, or for a rule the first one outside quotes, if its quotes
/// are closed at all.
fn line_end(text: &str) -> usize {
    let first = text.find('\n').unwrap_or(text.len());
    let is_rule = without_counters(text).starts_with("-A ");
    if is_rule { end_outside_quotes(text).unwrap_or(first) } else { first }
}

/// First line break outside quotes, or the end of the text; `None` if a quote stays open.
fn end_outside_quotes(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    (!is_quoted).then_some(text.len())
}

fn parse_line(
    line: &str,
    table: &mut Option<Table>,
    ruleset: &mut Ruleset,
) -> Result<(), &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if let Some(name) = line.strip_prefix('*') {
        *table = Table::ALL.into_iter().find(|table| table.name() == name);
        let table = table.ok_or("unknown iptables table")?;
        ruleset.tables.entry(table).or_default();
        return Ok(());
    }
    if line == "COMMIT" {
        *table = None;
        return Ok(());
    }
    let chains =
        table.and_then(|table| ruleset.tables.get_mut(&table)).ok_or("line outside a table")?;
    if let Some(declaration) = line.strip_prefix(':') {
        let (name, policy) = parse_chain(declaration)?;
        chains.entry(name).or_default().policy = policy;
        return Ok(());
    }
    let (chain, rule) = parse_rule(without_counters(line))?;
    chains.entry(chain).or_insert_with(Chain::default).rules.push(rule);
    Ok(())
}

fn parse_chain(declaration: &str) -> Result<(ChainName, Option<Policy>), &'static str> {
    let mut words = declaration.split_ascii_whitespace();
    let (Some(name), Some(policy)) = (words.next(), words.next()) else {
        return Err("chain without name or policy");
    };
    let name = chain_name(name)?;
    let policy = match policy {
        "ACCEPT" => Some(Policy::Accept),
        "DROP" => Some(Policy::Drop),
        "-" => None,
        _ => return Err("unknown policy"),
    };
    Ok((name, policy))
}

fn chain_name(name: &str) -> Result<ChainName, &'static str> {
    plain(name).map(ChainName::from).ok_or("invalid chain name")
}

/// A name that iptables accepts: without blanks, quotes and control characters, and without `-` or
/// `!` at the start.
fn plain(name: &str) -> Option<&str> {
    let unusable = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\');
    let usable = !name.is_empty() && !name.starts_with(['-', '!']) && !name.contains(unusable);
    usable.then_some(name)
}

/// Removes the counters that `iptables-save -c` prints: `[packets:bytes] -A …`.
fn without_counters(line: &str) -> &str {
    let is_counter = |c: char| c.is_ascii_digit() || c == ':';
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((counters, rule)) if counters.chars().all(is_counter) => rule,
        _ => line,
    }
}

fn parse_rule(line: &str) -> Result<(ChainName, Rule), &'static str> {
    let rest = line.strip_prefix("-A ").ok_or("not a table, chain or rule")?;
    let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let chain = chain_name(chain)?;
    if end_outside_quotes(text).is_none() {
        return Err("unclosed quote");
    }
    let rule = match parse_spec(text) {
        Some(spec) => Rule::Known(spec),
        None => Rule::Foreign { text: text.into(), target: foreign_target(text) },
    };
    Ok((chain, rule))
}

/// The word after `-j` or `-g` outside quotes.
fn foreign_target(text: &str) -> Option<ChainName> {
    let mut words = Words(text);
    while let Some(word) = words.next() {
        if !word.quoted && matches!(&*word.text, "-j" | "-g" | "--jump" | "--goto") {
            return chain_name(&words.next()?.text).ok();
        }
    }
    None
}

/// The decoded rule; `None` if it contains a word that rulegen does not use.
fn parse_spec(text: &str) -> Option<RuleSpec> {
    let mut words = Words(text).peekable();
    let mut rule = RuleSpec::default();
    while words.peek().is_some() {
        let negated = take(&mut words, "!");
        let option = next(&mut words)?;
        match (&*option, negated) {
            ("-s", _) if rule.source.is_none() => rule.source = Some(network(&mut words, negated)?),
            ("-d", _) if rule.destination.is_none() => {
                rule.destination = Some(network(&mut words, negated)?);
            }
            ("-i", _) if rule.in_interface.is_none() => {
                let value = Interface(plain(&next(&mut words)?)?.into());
                rule.in_interface = Some(Negatable { negated, value });
            }
            ("-p", false) if rule.protocol.is_none() => {
                rule.protocol = Some(Protocol::from_name(&next(&mut words)?)?);
            }
            ("-m", false) => rule.matches.push(parse_match(&mut words)?),
            ("-j", false) => {
                rule.target = Some(parse_target(&mut words)?);
                return words.next().is_none().then_some(rule);
            }
            _ => return None,
        }
    }
    Some(rule)
}

fn network(words: &mut Peekable<Words<'_>>, negated: bool) -> Option<Negatable<IpNet>> {
    let text = next(words)?;
    let value = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    Some(Negatable { negated, value })
}

fn parse_match(words: &mut Peekable<Words<'_>>) -> Option<Match> {
    let name = next(words)?;
    match &*name {
        "comment" => {
            expect(words, "--comment")?;
            Some(Match::Comment(next(words)?.into()))
        }
        "conntrack" => {
            let negated = take(words, "!");
            expect(words, "--ctstate")?;
            Some(Match::Conntrack(Negatable { negated, value: states(&next(words)?)? }))
        }
        "mark" => {
            let negated = take(words, "!");
            expect(words, "--mark")?;
            let (value, mask) = value_and_mask(&next(words)?)?;
            Some(Match::Mark(Negatable { negated, value: Mark { value, mask } }))
        }
        "addrtype" => {
            let side = next(words)?;
            expect(words, "LOCAL")?;
            match &*side {
                "--src-type" => Some(Match::SourceType(AddressType::Local)),
                "--dst-type" => Some(Match::DestinationType(AddressType::Local)),
                _ => None,
            }
        }
        "recent" => parse_recent(words).map(Match::Recent),
        "statistic" => {
            expect(words, "--mode")?;
            expect(words, "random")?;
            expect(words, "--probability")?;
            threshold(next(words)?.parse().ok()?).map(Match::Random)
        }
        transport => {
            let protocol = Protocol::from_name(transport)?;
            let destination_port = match take(words, "--dport") {
                true => Some(next(words)?.parse().ok()?),
                false => None,
            };
            Some(Match::Transport { protocol, destination_port })
        }
    }
}

fn states(text: &str) -> Option<Vec<ConntrackState>> {
    let state = |name: &str| ConntrackState::ALL.iter().find(|(_, known)| *known == name);
    text.split(',').map(|name| state(name).map(|(state, _)| *state)).collect()
}

/// A probability as the kernel stores it: in units of 2⁻³¹, rounded.
fn threshold(probability: f64) -> Option<u32> {
    let all = f64::from(1_u32 << 31);
    if !(0.0..=1.0).contains(&probability) {
        return None;
    }
    // In range by the line above, and integral: the conversion is exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^31")]
    Some((probability * all).round() as u32)
}

fn parse_recent(words: &mut Peekable<Words<'_>>) -> Option<Recent> {
    let action = match &*next(words)? {
        "--set" => RecentAction::Set,
        "--rcheck" => {
            expect(words, "--seconds")?;
            let seconds = next(words)?.parse().ok()?;
            expect(words, "--reap")?;
            RecentAction::Check { seconds }
        }
        _ => return None,
    };
    expect(words, "--name")?;
    let list = chain_name(&next(words)?).ok()?;
    expect(words, "--mask")?;
    let mask = next(words)?.parse().ok()?;
    expect(words, "--rsource")?;
    Some(Recent { list, action, mask })
}

fn parse_target(words: &mut Peekable<Words<'_>>) -> Option<Target> {
    let name = next(words)?;
    Some(match &*name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => {
            expect(words, "--reject-with")?;
            Target::Reject(reject_with(&next(words)?)?)
        }
        "MARK" => {
            expect(words, "--set-xmark")?;
            let (value, mask) = value_and_mask(&next(words)?)?;
            Target::SetMark(SetMark { value, mask })
        }
        "MASQUERADE" => Target::Masquerade { random_fully: take(words, "--random-fully") },
        "DNAT" => {
            expect(words, "--to-destination")?;
            Target::Dnat(next(words)?.parse().ok()?)
        }
        // A target with options belongs to an extension and is not a chain.
        _ if words.peek().is_some() => return None,
        _ => Target::Jump(chain_name(&name).ok()?),
    })
}

fn reject_with(name: &str) -> Option<RejectWith> {
    [RejectWith::IcmpPortUnreachable, RejectWith::Icmp6PortUnreachable]
        .into_iter()
        .find(|with| with.name() == name)
}

fn value_and_mask(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn next<'a>(words: &mut Peekable<Words<'a>>) -> Option<Cow<'a, str>> {
    words.next().map(|word| word.text)
}

fn expect(words: &mut Peekable<Words<'_>>, wanted: &str) -> Option<()> {
    take(words, wanted).then_some(())
}

fn take(words: &mut Peekable<Words<'_>>, wanted: &str) -> bool {
    words.next_if(|word| !word.quoted && word.text == wanted).is_some()
}

/// The words of a rule, and whether each is in quotes.
pub(crate) fn words(rule: &str) -> impl Iterator<Item = (String, bool)> {
    Words(rule).map(|word| (word.text.into_owned(), word.quoted))
}

/// Words of a rule: separated by blanks, in double quotes if they contain blanks, with a backslash
/// before characters that would end them.
struct Words<'a>(&'a str);

struct Word<'a> {
    text: Cow<'a, str>,
    quoted: bool,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.0.trim_start_matches(' ');
        if rest.is_empty() {
            return None;
        }
        let Some(quoted) = rest.strip_prefix('"') else {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            self.0 = rest;
            return Some(Word { text: word.into(), quoted: false });
        };
        let plain = quoted.find(['"', '\\']).unwrap_or(quoted.len());
        let (text, behind) = quoted.split_at(plain);
        if let Some(behind) = behind.strip_prefix('"') {
            self.0 = behind;
            return Some(Word { text: text.into(), quoted: true });
        }
        let (text, behind) = unescape(quoted);
        self.0 = behind;
        Some(Word { text: text.into(), quoted: true })
    }
}

/// The text up to the closing quote, and the rest.
fn unescape(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => text.extend(characters.next()),
            c => text.push(c),
        }
    }
    (text, characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (Vec<Rule>, Vec<ParseError>) {
        let (ruleset, errors) = parse(IpFamily::Ipv4, &format!("*nat\n{text}\nCOMMIT\n"));
        let chains = ruleset.tables.get(&Table::Nat).cloned().unwrap_or_default();
        (chains.into_values().flat_map(|chain| chain.rules).collect(), errors)
    }

    #[test]
    fn parse_keeps_foreign_rules_as_text_with_their_target() {
        for (text, target) in [
            ("-p icmp -j ACCEPT", Some("ACCEPT")),
            ("-p tcp -m multiport --dports 22,80 -g ELSEWHERE", Some("ELSEWHERE")),
            ("-m comment --comment \"-j TRAP\" -m owner --uid-owner 0", None),
            ("-s 10.0.0.1/32 -m tcp --sport 5 -j SNAT --to-source 10.0.0.2", Some("SNAT")),
            ("! -p tcp", None),
            ("-m comment --comment \"a \\\"quoted\\\" -j word\" -m ttl --ttl-eq 1 -j X", Some("X")),
        ] {
            let (rules, errors) = rules(&format!("-A CHAIN {text}"));
            assert_eq!(errors, []);
            let target = target.map(ChainName::from);
            assert_eq!(rules, [Rule::Foreign { text: text.into(), target }]);
        }
    }

    #[test]
    fn parse_accepts_quotes_counters_and_old_masks() {
        let (rules, errors) = rules(
            "[12:34] -A CHAIN -s 10.0.0.1 -m comment --comment \"it's \\\\ \\\"x\\\"\" -m mark --mark 0x1 -j RETURN",
        );
        assert_eq!(errors, []);
        let text: Vec<String> = rules.iter().map(Rule::to_string).collect();
        let wanted = " -s 10.0.0.1/32 -m comment --comment \"it\\'s \\\\ \\\"x\\\"\" -m mark --mark 0x1/0xffffffff -j RETURN";
        assert_eq!(text, [wanted]);
    }

    #[test]
    fn parse_continues_a_rule_after_a_line_break_in_a_comment() {
        let text = "-m comment --comment \"a\n-A KUBE-SERVICES b\" -g KUBE-MARK-MASQ";
        let (rules, errors) = rules(&format!("-A MINE {text}\n-A MINE -j ACCEPT"));
        assert_eq!(errors, []);
        let foreign = Rule::Foreign { text: text.into(), target: Some("KUBE-MARK-MASQ".into()) };
        assert_eq!(rules.first(), Some(&foreign));
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn parse_reports_invalid_lines_with_their_number() {
        for (line, message) in [
            ("-A", "not a table, chain or rule"),
            ("-A IN\tPUT -j ACCEPT", "invalid chain name"),
            ("-A -x -j ACCEPT", "invalid chain name"),
            ("-A X -m comment --comment \"a -j ACCEPT", "unclosed quote"),
            ("[1:x] -A X -j ACCEPT", "not a table, chain or rule"),
            (":X", "chain without name or policy"),
            (":X MAYBE [0:0]", "unknown policy"),
            ("*teapot", "unknown iptables table"),
            ("hello", "not a table, chain or rule"),
        ] {
            let (_, errors) = rules(line);
            assert_eq!(errors.first(), Some(&ParseError { line: 2, message }), "{line}");
        }
    }
}
