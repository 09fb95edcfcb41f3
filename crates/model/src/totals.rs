//! Totals over all Services, updated with each change.

use crate::availability::Availability;
use crate::service_port::ServicePort;

/// Numbers of parts of all Services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceTotals {
    /// Service ports, counted per family.
    pub service_ports: usize,
    /// Endpoints of all service ports.
    pub endpoints: usize,
    /// Services with a port that has no usable endpoint.
    pub without_endpoints: usize,
    /// Services with a port that has no endpoint on this node because of policy Local, although
    /// other nodes have some.
    pub without_local_endpoints: usize,
}

impl ServiceTotals {
    /// Replaces the ports of one Service.
    pub(crate) fn replace(&mut self, before: &[ServicePort], after: &[ServicePort]) {
        let (less, more) = (Self::of(before), Self::of(after));
        let update = |total: &mut usize, less: usize, more: usize| {
            *total = total.saturating_sub(less).saturating_add(more);
        };
        update(&mut self.service_ports, less.service_ports, more.service_ports);
        update(&mut self.endpoints, less.endpoints, more.endpoints);
        update(&mut self.without_endpoints, less.without_endpoints, more.without_endpoints);
        update(
            &mut self.without_local_endpoints,
            less.without_local_endpoints,
            more.without_local_endpoints,
        );
    }

    /// The totals of one Service.
    fn of(ports: &[ServicePort]) -> Self {
        let any = |is: fn(Availability) -> bool| {
            usize::from(ports.iter().any(|port| is(Availability::of(port))))
        };
        Self {
            service_ports: ports.len(),
            endpoints: ports.iter().map(|port| port.endpoints.len()).sum(),
            without_endpoints: any(|of| !of.has_usable()),
            without_local_endpoints: any(|of| of.lacks_local().is_some()),
        }
    }
}
