//! The C libraries.

/// A C library that rulegen is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Library {
    /// The name that pkg-config uses.
    pub name: &'static str,
    /// At build time, from pkg-config. None if pkg-config does not know it.
    pub version: Option<&'static str>,
}

/// The C libraries for netlink and nf_tables.
pub const LIBRARIES: [Library; 2] =
    [library("libmnl", env!("LIBMNL_VERSION")), library("libnftnl", env!("LIBNFTNL_VERSION"))];

const fn library(name: &'static str, version: &'static str) -> Library {
    Library { name, version: if version.is_empty() { None } else { Some(version) } }
}
