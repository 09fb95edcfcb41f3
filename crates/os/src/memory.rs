//! Free memory that the allocator keeps.
#![allow(unsafe_code, reason = "mimalloc has a C interface only")]

use std::io;

/// Disables transparent huge pages for this process. mimalloc requests them, and most of their
/// memory stays unused: 10,000 Services took 87 MB with them and take 75 MB without.
pub fn without_huge_pages() -> io::Result<()> {
    Ok(nix::sys::prctl::set_thp_disable(true)?)
}

/// Returns free pages to the kernel at once. After a whole cluster was loaded they are a third of
/// the memory: mimalloc keeps pages for later use, which may be months away.
pub fn release_free_pages() {
    // SAFETY: takes no pointer, and may be called by any thread at any time, whatever the program's
    // allocator is (mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) }
}
