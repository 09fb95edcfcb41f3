//! Free memory that the allocator keeps.
#![allow(unsafe_code, reason = "mimalloc has a C interface only")]

use std::io;

/// Disables transparent huge pages for this process. mimalloc requests them, and most of their
/// memory stays unused: 10,000 Services took 87 MB with them and take 75 MB without.
pub fn without_huge_pages() -> io::Result<()> {
    Ok(nix::sys::prctl::set_thp_disable(true)?)
}

/// Makes mimalloc return free memory to the kernel soon. By default it keeps it for a second, and
/// large parts for ten, and looks only when memory is allocated: an idle agent would keep what its
/// first sync freed. 10,000 Services took 84 MB with the default and 74 MB without delay. But then
/// what a change frees has to be got from the kernel again for the next change.
pub fn shorten_purge_delay() {
    /// `mi_option_purge_delay`, in milliseconds (mimalloc.h, the same in versions 2 and 3).
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: takes no pointer; an option is an atomic number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 20) }
}

/// Returns free pages to the kernel at once. After a whole cluster was loaded they are a third of
/// the memory: mimalloc keeps pages for later use, which may be months away.
pub fn release_free_pages() {
    // SAFETY: takes no pointer, and may be called by any thread at any time, whatever the program's
    // allocator is (mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) }
}
