//! Attributes of expressions.

use nftnl::nftnl_sys as sys;
use rulegen_ruleset::nftables::Register;

use crate::nftables::raw::Borrowed;

pub(super) type Raw<'a> = Borrowed<'a, sys::nftnl_expr>;

/// Checks that an expression has only these attributes.
pub(super) fn has_only(raw: &Raw<'_>, attributes: &[u32]) -> Option<()> {
    // libnftnl stores them as bits of a 32-bit word.
    let other = |attribute: &u32| !attributes.contains(attribute) && raw.has(*attribute);
    (!(sys::NFTNL_EXPR_BASE..32).any(|attribute| other(&attribute))).then_some(())
}

pub(super) fn register(raw: &Raw<'_>, attribute: u32) -> Option<Register> {
    raw.get_u32(attribute).map(Register)
}

/// The kernel's number for a value, from the full list.
pub(super) fn number_of<T: PartialEq>(numbers: &[(u32, T)], value: T) -> u32 {
    numbers.iter().find(|(_, other)| *other == value).map_or(u32::MAX, |(number, _)| *number)
}

/// The value for the kernel's number.
pub(super) fn of_number<T: Copy>(numbers: &[(u32, T)], number: u32) -> Option<T> {
    numbers.iter().find(|(other, _)| *other == number).map(|(_, value)| *value)
}
