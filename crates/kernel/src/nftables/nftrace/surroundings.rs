//! Base chains and rules of other tables, which traced packets also traverse.

use nftnl::nftnl_sys as sys;
use rulegen_ruleset::nftables::{
    ChainId, Expression, HookPosition, Name, Rule, TableFamily, TracedRule, delinearize,
};
use sys::libc;

use super::event::{family_of_number, number_of_family};
use crate::nftables::chain::RawChain;
use crate::nftables::raw::{Aligned, Borrowed, Owned};
use crate::nftables::rule::RawRule;
use crate::nftables::{DataplaneError, NfTables, expression, userdata};

/// After the netlink header: the family of the table, in the nfnetlink header.
const FAMILY: usize = 16;

impl NfTables {
    /// The base chains of all tables. Chains changed during the read may be missing.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn base_chains(&mut self) -> Result<Vec<(ChainId, HookPosition)>, DataplaneError> {
        let mut found = Vec::new();
        self.socket.ask(
            libc::NFT_MSG_GETCHAIN,
            0,
            true,
            |_| {},
            |message| {
                let family = message.get(FAMILY).and_then(|number| family_of_number(*number));
                let raw = Aligned::new(message).and_then(|message| Owned::parse(&message));
                let place = family.zip(raw).and_then(|(family, raw)| base(family, &raw));
                found.extend(place);
            },
        )?;
        Ok(found)
    }

    /// The rule of a chain with this handle; `None` if it no longer exists.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn rule(
        &mut self,
        of: &ChainId,
        handle: u64,
    ) -> Result<Option<TracedRule>, DataplaneError> {
        let number = number_of_family(of.family);
        let named = RawRule::new()
            .u32(sys::NFTNL_RULE_FAMILY, number.into())
            .text(sys::NFTNL_RULE_TABLE, of.table.as_str())
            .text(sys::NFTNL_RULE_CHAIN, of.chain.as_str())
            .u64(sys::NFTNL_RULE_HANDLE, handle);
        let mut found = None;
        self.socket.ask(
            libc::NFT_MSG_GETRULE,
            number,
            false,
            |header| named.build(header),
            |message| {
                let raw = Aligned::new(message).and_then(|message| Owned::parse(&message));
                found = raw.map(|raw| rule(of.family, &raw));
            },
        )?;
        Ok(found)
    }
}

fn base(family: TableFamily, raw: &RawChain) -> Option<(ChainId, HookPosition)> {
    let raw = raw.borrow();
    let id = ChainId {
        family,
        table: Name::from_kernel(raw.get_text(sys::NFTNL_CHAIN_TABLE)?),
        chain: Name::from_kernel(raw.get_text(sys::NFTNL_CHAIN_NAME)?),
    };
    let place = HookPosition {
        hook: hook(family, raw.get_u32(sys::NFTNL_CHAIN_HOOKNUM)?)?,
        priority: raw.get_u32(sys::NFTNL_CHAIN_PRIO)?.cast_signed(),
        is_nat: raw.get_text(sys::NFTNL_CHAIN_TYPE) == Some("nat"),
    };
    Some((id, place))
}

/// NF_INET_*, NF_BR_*, NF_ARP_* and NF_NETDEV_* of linux/netfilter*.h.
fn hook(family: TableFamily, number: u32) -> Option<&'static str> {
    const OF_IP: &[&str] = &["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    let names: &[&str] = match family {
        TableFamily::Arp => &["input", "output", "forward"],
        TableFamily::Netdev => &["ingress", "egress"],
        _ => OF_IP,
    };
    names.get(usize::try_from(number).ok()?).copied()
}

fn rule(family: TableFamily, raw: &RawRule) -> TracedRule {
    let read = raw.expressions(|raw| match expression::decode(&raw) {
        Some(expression) => Ok(expression),
        None => Err(unknown(&raw)),
    });
    let is_reject = |one: &Result<Expression, UnknownExpression>| match one {
        Ok(expression) => matches!(expression, Expression::Reject { .. }),
        Err(unknown) => unknown.rejects,
    };
    let statements = family.of_packets().and_then(|of| {
        let known: Option<Vec<Expression>> = read.iter().map(|one| one.clone().ok()).collect();
        Some((of, delinearize(of, &known?)?))
    });
    let text = match &statements {
        Some((of, statements)) => Rule::new(statements.clone()).text(*of).to_string(),
        None => listed(&read),
    };
    TracedRule {
        text,
        rejects: read.iter().any(is_reject),
        statements: statements.map(|(_, statements)| statements).unwrap_or_default(),
        comment: raw.borrow().get(sys::NFTNL_RULE_USERDATA).and_then(userdata::comment_of),
    }
}

fn listed(read: &[Result<Expression, UnknownExpression>]) -> String {
    let text = |one: &Result<Expression, UnknownExpression>| match one {
        Ok(expression) => expression.to_string(),
        Err(unknown) => unknown.text.clone(),
    };
    read.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// An expression that rulegen never makes.
#[derive(Clone)]
struct UnknownExpression {
    text: String,
    rejects: bool,
}

fn unknown(raw: &Borrowed<'_, sys::nftnl_expr>) -> UnknownExpression {
    let name = raw.get_text(sys::NFTNL_EXPR_NAME).unwrap_or("expression");
    // Made by iptables-nft for its matches and targets.
    let extension = match name {
        "match" => raw.get_text(sys::NFTNL_EXPR_MT_NAME),
        "target" => raw.get_text(sys::NFTNL_EXPR_TG_NAME),
        _ => None,
    };
    match extension {
        Some(extension) => UnknownExpression {
            text: format!("[ {name} {extension} ]"),
            rejects: extension == "REJECT",
        },
        None => UnknownExpression { text: format!("[ {name} … ]"), rejects: name == "reject" },
    }
}
