//! Netlink attributes (struct nlattr of linux/netlink.h).

/// NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const NESTED: u16 = 0x8000;
const FLAGS: u16 = 0xc000;

/// Length of an attribute's header in bytes.
const HEADER: usize = 4;

/// Attributes that are being written.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    /// Adds an attribute. A value longer than 64 KiB is cut; none is.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + HEADER).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
    }

    /// Adds a string with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(value.len() + HEADER + 1).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.pad();
    }

    /// Adds a big-endian number.
    pub(super) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Adds nested attributes.
    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Attributes with their types.
pub(super) fn each(nested: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = nested;
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !FLAGS, value))
    })
}

/// The first attribute of a type.
pub(super) fn find(nested: &[u8], wanted: u16) -> Option<&[u8]> {
    each(nested).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A big-endian number.
pub(super) fn be32(nested: &[u8], wanted: u16) -> Option<u32> {
    find(nested, wanted)?.try_into().ok().map(u32::from_be_bytes)
}

/// A string up to its NUL; `None` if it is not UTF-8 or has control characters.
pub(super) fn text(nested: &[u8], wanted: u16) -> Option<&str> {
    string(find(nested, wanted)?)
}

/// The string up to the first NUL; `None` if it is not UTF-8 or has control characters, which would
/// break the lines of the rule's text.
pub(super) fn string(value: &[u8]) -> Option<&str> {
    printable(value.split(|byte| *byte == 0).next()?)
}

/// The text; `None` if it is not UTF-8 or has control characters.
pub(super) fn printable(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.contains(char::is_control))
}

/// The part behind the last whole attribute, which is empty unless the bytes are malformed.
pub(super) fn rest(nested: &[u8]) -> &[u8] {
    let whole = each(nested).map(|(_, value)| (HEADER + value.len()).next_multiple_of(4)).sum();
    nested.get(whole..).unwrap_or_default()
}
