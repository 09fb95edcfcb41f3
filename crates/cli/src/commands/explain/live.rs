//! Follows packets through the rules in the kernel, also for `rulegen test --live`.

use std::cell::OnceCell;

use anyhow::Error;
use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_doctor::live::ActualRules;
use rulegen_inspect::explain::Explanation;
use rulegen_model::Host;
use rulegen_net::IpFamily;
use rulegen_packet_tests::{LivePacket, LiveRules};
use rulegen_ruleset::iptables::{Origin, Packet};
use rulegen_ruleset::nftables::Name;

use super::rules::actual;
use crate::args::KernelArgs;
use crate::input;

/// The rules in the kernel of this network namespace, read once per family.
pub(crate) struct KernelRules<'a> {
    args: &'a KernelArgs,
    table: &'a Name,
    mode: ProxyMode,
    host: Host,
    families: [OnceCell<Result<ActualRules, String>>; 2],
}

impl<'a> KernelRules<'a> {
    /// Nothing is read yet except the addresses of the host.
    pub(crate) fn new(args: &'a KernelArgs, table: &'a Name, mode: ProxyMode) -> Self {
        let host = input::host();
        Self { args, table, mode, host, families: Default::default() }
    }

    fn of_family(&self, family: IpFamily) -> Result<&ActualRules, String> {
        let [ipv4, ipv6] = &self.families;
        let cell = match family {
            IpFamily::Ipv4 => ipv4,
            IpFamily::Ipv6 => ipv6,
        };
        let read = cell.get_or_init(|| {
            actual(self.args, self.table, self.mode, family).map_err(|error| format!("{error:#}"))
        });
        read.as_ref().map_err(Clone::clone)
    }
}

impl LiveRules for KernelRules<'_> {
    fn mode(&self) -> ProxyMode {
        self.mode
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn explain(
        &self,
        packet: &LivePacket,
        plan: &Plan,
        complete: &dyn Fn(&mut Explanation),
    ) -> Result<Explanation, String> {
        let LivePacket { from, interface, to, protocol } = packet.clone();
        let rules = self.of_family(IpFamily::of(from))?;
        let origin = match interface {
            _ if from.is_loopback() || self.host.addresses.contains(&from) => Origin::Host,
            Some(interface) => {
                let input =
                    rules.input(&interface).map_err(|of| format!("{:#}", Error::from(of)))?;
                Origin::Interface(input.interface)
            }
            None => rules.origin(from, to.ip()),
        };
        let packet = Packet { origin, source: from, destination: to, protocol };
        Ok(rules.explain(&self.host.addresses, &packet, Some(plan), complete))
    }
}
