//! Attributes of a received message (struct nlattr of linux/netlink.h).

/// Length of the netlink and nfnetlink headers in bytes.
const HEADERS: usize = 16 + 4;

/// Flag bits of the type (NLA_F_NESTED and NLA_F_NET_BYTEORDER).
const FLAGS: u16 = 0xc000;

/// The first attribute of a type.
pub(crate) fn find(message: &[u8], wanted: u16) -> Option<&[u8]> {
    find_behind(message, HEADERS, wanted)
}

/// The first attribute of a type, after headers of this length.
pub(crate) fn find_behind(message: &[u8], headers: usize, wanted: u16) -> Option<&[u8]> {
    let (_, value) = each(message.get(headers..)?).find(|(kind, _)| *kind == wanted)?;
    Some(value)
}

/// Nested attributes with their types.
pub(crate) fn each(nested: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = nested;
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !FLAGS, value))
    })
}

/// A big-endian number.
pub(crate) fn be32(message: &[u8], wanted: u16) -> Option<u32> {
    find(message, wanted)?.try_into().ok().map(u32::from_be_bytes)
}

/// A NUL-terminated string.
pub(crate) fn text(message: &[u8], wanted: u16) -> Option<String> {
    find(message, wanted).map(string)
}

/// The string up to its NUL.
pub(crate) fn string(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
