//! The kernel's hash of an address, which always selects the same number for a client.

use std::net::IpAddr;

use super::linearize::HASH_SEED;

/// The result of `jhash ip saddr mod … seed …` for a source, as in nft_jhash_eval() of
/// net/netfilter/nft_hash.c.
pub(super) fn of_source(source: IpAddr, below: u32) -> u32 {
    let hash = match source {
        IpAddr::V4(ip) => jhash(&ip.octets()),
        IpAddr::V6(ip) => jhash(&ip.octets()),
    };
    // reciprocal_scale() of linux/kernel.h.
    let scaled = (u64::from(hash) * u64::from(below)) >> u32::BITS;
    u32::try_from(scaled).unwrap_or_default()
}

/// Bob Jenkins' lookup3 as in linux/jhash.h: native-endian words while more than twelve bytes are
/// left, then little-endian words. Addresses reach the latter with one word.
fn jhash<const N: usize>(octets: &[u8; N]) -> u32 {
    const BASE: u32 = 0xdead_beef;
    let length = u32::try_from(N).unwrap_or_default();
    let begin = BASE.wrapping_add(length).wrapping_add(HASH_SEED);
    let [mut a, mut b, mut c] = [begin; 3];
    let mut rest = octets.as_slice();
    while let Some((first, behind)) = rest.split_first_chunk::<12>().filter(|(_, r)| !r.is_empty())
    {
        let [one, two, three] = words(first).map(u32::from_ne_bytes);
        [a, b, c] = mixed(a.wrapping_add(one), b.wrapping_add(two), c.wrapping_add(three));
        rest = behind;
    }
    if let Some(last) = rest.first_chunk::<4>() {
        a = a.wrapping_add(u32::from_le_bytes(*last));
    }
    last(a, b, c)
}

fn words(bytes: &[u8; 12]) -> [[u8; 4]; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]]
}

/// `__jhash_mix`
fn mixed(mut a: u32, mut b: u32, mut c: u32) -> [u32; 3] {
    let step = |x: &mut u32, y: &mut u32, z: u32, bits: u32| {
        *x = x.wrapping_sub(*y) ^ y.rotate_left(bits);
        *y = y.wrapping_add(z);
    };
    step(&mut a, &mut c, b, 4);
    step(&mut b, &mut a, c, 6);
    step(&mut c, &mut b, a, 8);
    step(&mut a, &mut c, b, 16);
    step(&mut b, &mut a, c, 19);
    step(&mut c, &mut b, a, 4);
    [a, b, c]
}

/// `__jhash_final`
fn last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    let step = |x: &mut u32, y: u32, bits: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(bits));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    c
}
