//! Whether the rules of the other mode were left. Of all nat chains the first that translates
//! settles a connection, and what is refused is refused by either.

use anyhow::Result;
use rulegen_config::ProxyMode;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{DEFAULT_TABLE, HeldIptables, Rim};

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    let ours = [rim.table().as_str(), DEFAULT_TABLE];
    let tables = rim.tables()?.iter().filter(|(_, name)| ours.contains(&name.as_str()));
    let tables: Vec<String> =
        tables.map(|(family, name)| format!("{} {name}", family.nft_name())).collect();
    let chains = match rim.config().mode {
        ProxyMode::Iptables => Vec::new(),
        ProxyMode::Nftables => {
            let held = rim.iptables()?.iter().filter(|held| held.holds_services());
            held.map(HeldIptables::words).collect()
        }
    };
    Ok(Outcome::Found(check(rim.config().mode, &tables, &chains)))
}

/// The tables of nftables mode that are there, and the programs that show chains of iptables mode.
fn check(mode: ProxyMode, tables: &[String], chains: &[String]) -> Vec<Finding> {
    match mode {
        ProxyMode::Nftables => chains
            .iter()
            .map(|program| {
                Finding::warning(
                    format!("{program} holds KUBE-* chains: they translate and refuse too"),
                    "restart the agent, which removes them once its own rules are in; without an \
                     agent, rulegen cleanup, then apply again",
                )
            })
            .collect(),
        ProxyMode::Iptables => tables
            .iter()
            .map(|table| {
                Finding::warning(
                    format!("the nftables table {table} is there: it translates and refuses too"),
                    format!("nft delete table {table}; an agent in iptables mode does it itself"),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_minds_the_other() {
        let table = ["ip rulegen".to_owned()];
        let program = ["iptables-nft".to_owned()];
        let told = |mode, tables: &[String], chains: &[String]| {
            check(mode, tables, chains).into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(told(ProxyMode::Nftables, &table, &[]), Vec::<String>::new());
        assert_eq!(told(ProxyMode::Iptables, &[], &program), Vec::<String>::new());
        assert!(told(ProxyMode::Nftables, &table, &program)[0].starts_with("iptables-nft holds"));
        assert!(told(ProxyMode::Iptables, &table, &program)[0].contains("table ip rulegen"));
    }
}
