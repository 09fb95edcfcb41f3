//! The slots of a policy: for each number below their count, the endpoint that a connection with
//! this number gets. The kernel generates the number.

mod consistent;

use std::sync::Arc;

use rulegen_model::{Endpoint, LoadBalancing};

/// Maximum number of slots of all ports of a Service, for one family and policy. A Service with so
/// many ports or endpoints that its tables would be larger has one slot per endpoint.
const MOST_SLOTS: usize = 262_144;

/// How many slots each endpoint of a policy has, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Slots {
    /// One per endpoint, in the order of the endpoints.
    #[default]
    OnePerEndpoint,
    /// The index of the endpoint of each slot. Every index is that of an endpoint.
    Table(Arc<[u32]>),
}

impl Slots {
    /// The slots of endpoints. `ports` is the number of ports of the Service.
    pub(super) fn new(method: LoadBalancing, endpoints: &[Endpoint], ports: usize) -> Self {
        let allowed = MOST_SLOTS / ports.max(1);
        match method {
            LoadBalancing::Random | LoadBalancing::RoundRobin => Self::OnePerEndpoint,
            LoadBalancing::Maglev | LoadBalancing::Maglev5Tuple => {
                let size = consistent::size(endpoints.len()).filter(|size| *size <= allowed);
                size.map_or(Self::OnePerEndpoint, |size| {
                    Self::Table(consistent::table(endpoints, size).into())
                })
            }
        }
    }

    /// The number of slots for this number of endpoints.
    pub fn count(&self, endpoints: usize) -> usize {
        match self {
            Self::OnePerEndpoint => endpoints,
            Self::Table(table) => table.len(),
        }
    }

    /// The endpoint of each slot.
    pub fn endpoints<'a>(&'a self, of: &'a [Endpoint]) -> impl Iterator<Item = &'a Endpoint> {
        let (all, table) = match self {
            Self::OnePerEndpoint => (of, [].as_slice()),
            Self::Table(table) => ([].as_slice(), &**table),
        };
        let at = |index: &u32| of.get(usize::try_from(*index).ok()?);
        all.iter().chain(table.iter().filter_map(at))
    }

    /// The number of slots of each endpoint, in the order of the endpoints.
    pub fn shares(&self, endpoints: usize) -> Vec<usize> {
        match self {
            Self::OnePerEndpoint => vec![1; endpoints],
            Self::Table(table) => {
                let mut shares = vec![0; endpoints];
                for index in table.iter() {
                    let index = usize::try_from(*index).unwrap_or(usize::MAX);
                    if let Some(share) = shares.get_mut(index) {
                        *share += 1;
                    }
                }
                shares
            }
        }
    }
}
