//! Damage to rulegen's table by another program, through netlink: the program `nft` takes a minute for
//! a change of a table of 50,000 Services, because it reads all of it first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use rulegen_compiler::nftables::table;
use rulegen_compiler::plan;
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{
    Element, Key, Name, Operation, Set, Table, TablePart, Transaction, Value, diff_compared,
};

use crate::namespace::Namespace;
use crate::nftables::{config, read};

/// Number of deleted elements of a damage. One more is added.
const DELETED: usize = 5;

/// Another program.
pub(crate) struct Damager {
    kernel: NfTables,
    /// The table for IPv4 as the agent writes it.
    desired: Table,
}

impl Damager {
    pub(crate) fn new(namespace: &Namespace, cluster: &str) -> Self {
        let plan = plan(&read(cluster), &config(), IpFamily::Ipv4);
        let desired = table(&plan, &Name::from("rulegen"));
        Self { kernel: namespace.inside(|| NfTables::open().unwrap()), desired }
    }

    /// The netlink port of its commits.
    pub(crate) fn port(&self) -> u32 {
        self.kernel.port()
    }

    /// The set `hairpins`, which has an element for each endpoint's address.
    pub(crate) fn hairpins(&self) -> &Set {
        &self.desired.sets[&Name::from("hairpins")]
    }

    /// Deletes a few frontends and adds a foreign element, others in each round.
    pub(crate) fn change_elements(&mut self, round: usize) {
        let Self { kernel, desired } = self;
        let (services, hairpins) = (Name::from("services"), Name::from("hairpins"));
        let (foreign, element) = (foreign(round), Element { data: None, comment: None });
        let operations = vec![
            Operation::DeleteElements(
                &services,
                &desired.sets[&services],
                frontends(desired, round).collect(),
            ),
            Operation::AddElements(&hairpins, &desired.sets[&hairpins], vec![(&foreign, &element)]),
        ];
        let transaction = Transaction { family: desired.family, table: &desired.name, operations };
        kernel.commit(None, &[transaction]).unwrap();
    }

    /// Whether these elements are as before.
    pub(crate) fn are_elements_repaired(&mut self, round: usize) -> bool {
        let frontends = frontends(&self.desired, round).map(|(key, _)| key.clone());
        let keys = BTreeMap::from([
            (Name::from("services"), frontends.collect()),
            (Name::from("hairpins"), BTreeSet::from([foreign(round)])),
        ]);
        let part = [TablePart::new(&self.desired, false, keys).unwrap()];
        let (_, compared) = self.kernel.compare_parts(&part).unwrap();
        let compared = compared.unwrap();
        diff_compared(Some(&compared[0]), &part[0].desired).is_empty()
    }

    /// Deletes all tables, as `nft flush ruleset` does.
    pub(crate) fn flush_ruleset(&mut self) {
        let tables = [IpFamily::Ipv4, IpFamily::Ipv6].map(|family| (family, "rulegen".into()));
        assert_eq!(self.kernel.delete(&tables).unwrap().len(), 2);
    }
}

fn frontends(desired: &Table, round: usize) -> impl Iterator<Item = (&Key, &Element)> {
    desired.sets[&Name::from("services")].elements.iter().skip(DELETED * round).take(DELETED)
}

fn foreign(round: usize) -> Key {
    let address = Value::Address(IpAddr::from(Ipv4Addr::new(10, 250, 0, round as u8)));
    let mut key = Key::default();
    key.push(address);
    key.with(address)
}
