//! What is said about a service port's endpoints is what its plan does.

use proptest::prelude::*;
use rulegen_compiler::{Refusal, Treatment, plan_service};
use rulegen_model::Availability;
use rulegen_net::IpFamily;

use crate::cluster::{config, objects, snapshot_of};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn availability_agrees_with_plan(objects in objects(), config in config()) {
        let snapshot = snapshot_of(&objects, &config);
        for port in IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family)) {
            let plan = plan_service(port, &snapshot.node, &config, port.family());
            let availability = Availability::of(port);
            let refusal = |is_in_scope| match availability.lacks_local() {
                _ if !availability.has_usable() => Some(Refusal::NoEndpoints),
                Some(_) if is_in_scope => Some(Refusal::NoLocalEndpoints),
                _ => None,
            };
            let scope = availability.lacks_local();
            let internal = refusal(scope.is_some_and(|scope| scope.is_internal()));
            prop_assert_eq!(refused(plan.internal.outcome), internal, "{:?}", port);
            if let Some(external) = &plan.external {
                let expected = refusal(scope.is_some_and(|scope| scope.is_external()));
                prop_assert_eq!(refused(external.outcome), expected, "{:?}", port);
            }
        }
    }
}

fn refused(treatment: Treatment) -> Option<Refusal> {
    match treatment {
        Treatment::Forward(_) => None,
        Treatment::Refuse(refusal) => Some(refusal),
    }
}
