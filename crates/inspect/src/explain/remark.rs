//! Why it is so, and what would change it, in sentences.

mod choice;
mod no_service;
mod refusal;
mod source;

use std::net::IpAddr;

use rulegen_compiler::{Plan, ServicePlan};
use rulegen_net::FrontendKind;
use rulegen_ruleset::Packet;
use serde::Serialize;

use super::way::Way;
use super::{Outcome, ReachedFrontend};
use crate::rule_role::Meaning;
use crate::words::Code;

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// What it is a reason for.
    pub about: About,
    /// The reason's code, which is stable.
    pub code: Code,
    /// The reason, in words.
    pub text: String,
    /// What would make it otherwise, if anything should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// Which endpoints come into question.
    Policy,
    /// How one of them is chosen.
    Choice,
    /// Whom the endpoint sees as the sender.
    Source,
    /// Why the packet goes nowhere for want of endpoints.
    NoEndpoints,
    /// Why it goes nowhere though there may be some.
    Refusal,
    /// Why no Service takes it.
    NoService,
}

impl Remark {
    /// A reason for something that need not be otherwise.
    pub fn new(about: About, code: Code, text: impl Into<String>) -> Self {
        Self { about, code, text: text.into(), change: None }
    }

    /// The same with what would change it.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }
}

/// What there is to speak of.
pub(super) struct Remarks<'a> {
    pub(super) packet: &'a Packet,
    /// The host's own addresses.
    pub(super) local: &'a [IpAddr],
    pub(super) ways: &'a [Way],
    pub(super) frontend: Option<&'a ReachedFrontend>,
    pub(super) service: Option<&'a ServicePlan>,
    pub(super) plan: Option<&'a Plan>,
}

impl Remarks<'_> {
    pub(super) fn all(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let refused = |way: &&Way| matches!(way.verdict, Outcome::Rejected | Outcome::Dropped);
        for refusal in self.ways.iter().filter(refused).map(|way| self.refusal(way)) {
            if !remarks.contains(&refusal) {
                remarks.push(refusal);
            }
        }
        let reaches = self.ways.iter().any(|way| matches!(way.verdict, Outcome::Endpoint { .. }));
        if reaches {
            remarks.extend(self.policy());
            remarks.extend(self.choice());
            remarks.extend(self.source());
        }
        if self.ways.iter().any(|way| matches!(way.verdict, Outcome::Passes { .. })) {
            remarks.push(if reaches { self.partly() } else { self.no_service() });
        }
        remarks
    }

    fn meanings(&self) -> impl Iterator<Item = &Meaning> {
        self.ways.iter().flat_map(Way::meanings)
    }

    /// The field of the Service that has the policy for this frontend.
    fn policy_field(&self) -> &'static str {
        match self.frontend.map(|frontend| frontend.kind) {
            Some(FrontendKind::ClusterIP) => "internalTrafficPolicy",
            _ => "externalTrafficPolicy",
        }
    }

    /// The Service whose cluster IP the address is.
    fn owner_there(&self) -> Option<String> {
        let mut services = self.plan?.services.iter();
        let found = services.find(|of| of.internal.address == self.packet.destination.ip())?;
        Some(format!("{}/{}", found.name.namespace, found.name.service))
    }

    /// The ports that Services have at the address.
    fn ports_there(&self) -> Option<String> {
        let services = self.plan?.services.iter();
        let ports: Vec<String> = services
            .filter(|service| service.internal.address == self.packet.destination.ip())
            .map(|service| format!("{}/{}", service.port, service.name.protocol.name()))
            .collect();
        (!ports.is_empty()).then(|| format!("its ports are {}", ports.join(", ")))
    }
}
