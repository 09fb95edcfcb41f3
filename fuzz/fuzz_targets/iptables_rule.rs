//! Decodes any bytes as the expressions of a rule of iptables-nft, as the kernel answers them. The
//! first byte chooses the IP family. Nothing may panic, a rule that is understood must be written and
//! read as the same rule, and the text of a foreign one must be a single line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Rule;
use rulegen_ruleset::iptables::nf_tables::{decode, encode};

fuzz_target!(|input: &[u8]| {
    let Some((first, expressions)) = input.split_first() else { return };
    let family = if first % 2 == 0 { IpFamily::Ipv4 } else { IpFamily::Ipv6 };
    let read = decode(family, expressions);
    assert_eq!(decode(family, expressions), read);
    match read {
        Rule::Known(spec) => {
            if let Ok(encoded) = encode(family, &spec) {
                assert_eq!(decode(family, &encoded.expressions), Rule::Known(spec));
            }
        }
        Rule::Foreign { text, .. } => assert!(!text.contains(char::is_control), "{text:?}"),
    }
});
