/// A mark of which some bits may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialMark {
    /// The bits. Unknown bits are zero.
    value: u32,
    /// Ones for known bits.
    known: u32,
}

impl PartialMark {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { value: 0, known: 0 };

    /// A known mark.
    pub const fn of(value: u32) -> Self {
        Self { value, known: u32::MAX }
    }

    /// The mark, if all bits are known.
    pub fn exact(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }

    /// Whether all of these bits are set; `None` if that is not known.
    pub fn has(self, bits: u32) -> Option<bool> {
        let known = self.known & bits;
        match self.value & bits == bits {
            true => Some(true),
            // A bit that is known to be zero.
            false => (self.value & bits != known).then_some(false),
        }
    }

    /// The mark after a change.
    #[must_use]
    pub fn changed(self, change: MarkChange) -> Self {
        let known = (self.known | !change.keep) & !change.unknown;
        Self { value: ((self.value & change.keep) ^ change.flip) & known, known }
    }

    /// The mark after a change that may not happen.
    #[must_use]
    pub fn perhaps_changed(self, change: MarkChange) -> Self {
        let after = self.changed(change);
        let known = self.known & after.known & !(self.value ^ after.value);
        Self { value: self.value & known, known }
    }

    pub(super) fn bytes(self) -> ([u8; 4], [u8; 4]) {
        (self.value.to_be_bytes(), self.known.to_be_bytes())
    }
}

/// A change of a mark to `(mark & keep) ^ flip`, apart from unknown bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkChange {
    keep: u32,
    flip: u32,
    unknown: u32,
}

impl MarkChange {
    /// To any mark.
    pub const UNKNOWN: Self = Self { keep: 0, flip: 0, unknown: u32::MAX };
    /// To the same mark.
    pub const NONE: Self = Self { keep: u32::MAX, flip: 0, unknown: 0 };

    /// To `(mark & keep) ^ flip`.
    pub const fn to(keep: u32, flip: u32) -> Self {
        Self { keep, flip, unknown: 0 }
    }

    /// This change, and then another to `(mark & keep) ^ flip`.
    #[must_use]
    pub const fn then(self, keep: u32, flip: u32) -> Self {
        Self {
            keep: self.keep & keep,
            flip: (self.flip & keep) ^ flip,
            unknown: self.unknown & keep,
        }
    }

    /// The bits that may be set by it.
    pub const fn sets(self) -> u32 {
        self.flip | self.unknown
    }

    /// The bits that may be cleared by it.
    pub const fn clears(self) -> u32 {
        !(self.keep ^ self.flip) | self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_mark_after_changes_of_bits() {
        let (set, clear) = (MarkChange::to(!0x4000, 0x4000), MarkChange::to(!0x4000, 0));
        let zero = PartialMark::of(0);
        for (mark, expected) in [
            (zero, Some(false)),
            (PartialMark::UNKNOWN, None),
            (zero.changed(set), Some(true)),
            (zero.changed(set).changed(clear), Some(false)),
            (PartialMark::UNKNOWN.changed(set), Some(true)),
            (zero.changed(MarkChange::UNKNOWN), None),
            (zero.perhaps_changed(set), None),
            (zero.perhaps_changed(clear), Some(false)),
            (zero.perhaps_changed(MarkChange::to(0, 0x10)), Some(false)),
            (zero.changed(MarkChange::NONE.then(0, 0x4001)), Some(true)),
            (zero.changed(MarkChange::UNKNOWN.then(0xff, 0)), Some(false)),
        ] {
            assert_eq!(mark.has(0x4000), expected, "{mark:?}");
        }
        assert_eq!(zero.perhaps_changed(set).exact(), None);
        assert_eq!(zero.changed(set).exact(), Some(0x4000));
        assert_eq!((set.sets(), set.clears()), (0x4000, 0));
        assert_eq!((clear.sets(), clear.clears()), (0, 0x4000));
        assert_eq!((MarkChange::NONE.sets(), MarkChange::NONE.clears()), (0, 0));
        let toggle = MarkChange::to(u32::MAX, 0x4000);
        assert_eq!((toggle.sets(), toggle.clears()), (0x4000, 0x4000));
    }
}
