//! Tables of consistent hashing, in the manner of Maglev (NSDI 2016): a hash of the client selects a
//! slot of a table of fixed prime size, and all nodes with the same endpoints compute the same table.
//!
//! Maglev fills its table in turns, which makes shares equal but moves many clients: at 30 endpoints
//! and 4,093 slots, up to 1.6/n of them when one endpoint goes. Here each slot has its own order of
//! preference of the endpoints (rendezvous hashing), and an endpoint accepts a bounded number of
//! slots, those that rate it highest. So nearly only the slots of the removed endpoint move.
//!
//! The size depends on the number of endpoints in few wide steps, because almost all clients move
//! when it changes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rulegen_model::Endpoint;
use sha2::{Digest, Sha256};

/// Up to this number of endpoints, the table has this number of slots, a prime: at least 128 for
/// each.
const SIZES: [(usize, usize); 3] = [(32, 4_093), (128, 16_381), (512, 65_521)];

/// The number of slots for a number of endpoints. `None` if there is no choice, or if there are more
/// endpoints than the largest table is for.
pub(super) fn size(endpoints: usize) -> Option<usize> {
    let size = SIZES.into_iter().find(|(most, _)| endpoints <= *most);
    size.map(|(_, size)| size).filter(|_| endpoints > 1)
}

/// The index of the endpoint of each slot. It depends on the addresses of the endpoints, not on
/// their order. The time is the product of both numbers.
pub(super) fn table(endpoints: &[Endpoint], size: usize) -> Vec<u32> {
    let matching = Matching {
        ids: endpoints.iter().map(id).collect(),
        most: most_slots(size, endpoints.len()),
        accepted: vec![BinaryHeap::new(); endpoints.len()],
    };
    matching.of_slots(size)
}

/// The number of slots that an endpoint accepts: the mean, plus 2.5 times its standard deviation if
/// slots chose freely.
fn most_slots(size: usize, endpoints: usize) -> usize {
    let product = size.saturating_mul(endpoints);
    let deviation = (product.saturating_mul(25) / 4).isqrt();
    size.saturating_add(deviation).div_ceil(endpoints.max(1))
}

/// A hash of the endpoint's address and port.
fn id(endpoint: &Endpoint) -> u64 {
    let digest = Sha256::digest(endpoint.address.to_string());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// How much a slot prefers an endpoint: the mixing function of MurmurHash3 over both.
fn preference(slot: u32, id: u64) -> u64 {
    mixed(id ^ mixed(u64::from(slot) + 1))
}

fn mixed(mut of: u64) -> u64 {
    of = (of ^ (of >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    of = (of ^ (of >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    of ^ (of >> 33)
}

/// A stable matching of slots and endpoints, by deferred acceptance (Gale and Shapley): the result
/// does not depend on the order in which slots ask.
struct Matching {
    ids: Vec<u64>,
    /// The number of slots that an endpoint accepts.
    most: usize,
    /// The slots that each endpoint accepts, the one with the least preference first.
    accepted: Vec<BinaryHeap<Reverse<(u64, u32)>>>,
}

impl Matching {
    fn of_slots(mut self, size: usize) -> Vec<u32> {
        (0..u32::try_from(size).unwrap_or(u32::MAX)).for_each(|slot| self.place(slot));
        let mut table = vec![0; size];
        for (endpoint, slots) in (0..).zip(self.accepted) {
            for Reverse((_, slot)) in slots {
                if let Some(of) = table.get_mut(usize::try_from(slot).unwrap_or(usize::MAX)) {
                    *of = endpoint;
                }
            }
        }
        table
    }

    /// Places a slot, then the slot that an endpoint gave up for it, and so on.
    fn place(&mut self, slot: u32) {
        let mut waiting = (slot, None);
        while let Some((preferred, endpoint)) = self.next_choice(waiting) {
            let Some(accepted) = self.accepted.get_mut(endpoint) else { return };
            accepted.push(Reverse((preferred, waiting.0)));
            if accepted.len() <= self.most {
                return;
            }
            let Some(Reverse((refused, slot))) = accepted.pop() else { return };
            waiting = (slot, Some((refused, endpoint)));
        }
    }

    /// The endpoint that a slot prefers most, after the one that refused it.
    fn next_choice(&self, (slot, refused): (u32, Option<(u64, usize)>)) -> Option<(u64, usize)> {
        let choices = self.ids.iter().zip(0..).map(|(id, at)| (preference(slot, *id), at));
        choices.filter(|choice| refused.is_none_or(|refused| *choice < refused)).max()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rulegen_model::Hint;

    use super::*;

    fn endpoint(n: usize) -> Endpoint {
        let ip = [10, 244, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250 + 1).unwrap()];
        Endpoint {
            address: (ip, 8080).into(),
            local: false,
            has_node: true,
            ready: true,
            serving: true,
            terminating: false,
            zone_hint: Hint::Absent,
            node_hint: Hint::Absent,
        }
    }

    fn endpoints(first: usize, count: usize) -> Vec<Endpoint> {
        (first..first + count).map(endpoint).collect()
    }

    /// The part of the clients that move, times the number of endpoints, when this one goes.
    fn moved(endpoints: &[Endpoint], size: usize, gone: usize) -> f64 {
        let before = table(endpoints, size);
        let mut left = endpoints.to_vec();
        left.remove(gone);
        let after = table(&left, size);
        let same = |(old, new): &(&u32, &u32)| {
            endpoints[**old as usize].address == left[**new as usize].address
        };
        let same = before.iter().zip(&after).filter(same).count();
        (size - same) as f64 / size as f64 * endpoints.len() as f64
    }

    #[test]
    fn maglev_removed_endpoint_moves_at_most_one_fifth_more_clients_than_it_had() {
        for (count, rounds) in
            [(2, 30), (3, 30), (5, 20), (10, 10), (20, 5), (32, 4), (128, 1), (512, 1)]
        {
            let size = size(count).unwrap();
            for round in 0..rounds {
                let endpoints = endpoints(round * 7, count);
                for gone in (0..count).step_by(count.div_ceil(if count < 100 { 6 } else { 2 })) {
                    let moved = moved(&endpoints, size, gone);
                    assert!(moved <= 1.2, "{count} endpoints: {moved}/n");
                }
            }
        }
    }

    #[test]
    fn maglev_shares_are_within_a_quarter_of_the_mean() {
        for count in [2, 3, 5, 10, 20, 32, 33, 128, 512] {
            let size = size(count).unwrap();
            let mut shares = vec![0_usize; count];
            table(&endpoints(3, count), size).iter().for_each(|at| shares[*at as usize] += 1);
            let mean = size as f64 / count as f64;
            for share in &shares {
                let of_mean = *share as f64 / mean;
                assert!((0.75..=1.25).contains(&of_mean), "{count} endpoints: {of_mean}");
            }
        }
    }

    #[test]
    fn maglev_table_does_not_depend_on_order_of_endpoints() {
        let endpoints = endpoints(0, 20);
        let mut turned = endpoints.clone();
        turned.rotate_left(7);
        turned.swap(2, 11);
        let of = |endpoints: &[Endpoint]| -> Vec<std::net::SocketAddr> {
            let table = table(endpoints, 4_093);
            table.iter().map(|at| endpoints[*at as usize].address).collect()
        };
        assert_eq!(of(&endpoints), of(&turned));
    }

    #[test]
    fn maglev_sizes_are_primes_with_128_slots_per_endpoint() {
        let mut sizes = HashSet::new();
        for endpoints in 2..=512 {
            let size = size(endpoints).unwrap();
            assert!(size + 3 >= 128 * endpoints || size >= 127 * endpoints, "{endpoints}: {size}");
            sizes.insert(size);
        }
        assert_eq!(sizes.len(), SIZES.len());
        for size in sizes {
            assert!((2..).take_while(|of| of * of <= size).all(|of| size % of != 0), "{size}");
        }
        assert_eq!([0, 1, 513].map(size), [None; 3]);
    }
}
