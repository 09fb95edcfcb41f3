//! Structures of xtables, byte by byte.

/// A structure of fixed length that is being written.
pub(super) struct Info(Vec<u8>);

impl Info {
    /// `length` zero bytes.
    pub(super) fn zero(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// Writes bytes at an offset. Those that do not fit are left out; the offsets are constants.
    #[must_use]
    pub(super) fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        let places = self.0.iter_mut().skip(at);
        places.zip(bytes).for_each(|(place, byte)| *place = *byte);
        self
    }

    #[must_use]
    pub(super) fn u16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_ne_bytes())
    }

    #[must_use]
    pub(super) fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_ne_bytes())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The bytes at an offset.
pub(super) fn array<const N: usize>(info: &[u8], at: usize) -> Option<[u8; N]> {
    info.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A number of the host's byte order.
pub(super) fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    array(info, at).map(u16::from_ne_bytes)
}

/// A number of the host's byte order.
pub(super) fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    array(info, at).map(u32::from_ne_bytes)
}

/// A port, in network byte order.
pub(super) fn port_at(info: &[u8], at: usize) -> Option<u16> {
    array(info, at).map(u16::from_be_bytes)
}
