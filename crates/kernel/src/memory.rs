//! Memory of this process that is free, but not for others.
#![allow(unsafe_code, reason = "mimalloc has a C interface only")]

use std::io;

/// Has this process use small pages alone, from now on. mimalloc asks for huge ones, of which most
/// stays unused: 10,000 Services took 87 MB with them, and take 75 MB without.
pub fn without_huge_pages() -> io::Result<()> {
    Ok(nix::sys::prctl::set_thp_disable(true)?)
}

/// Gives pages that are free back to the kernel at once. After a whole cluster was taken in, that is
/// a third of all: mimalloc keeps pages for the next time, which is months away.
pub fn release_free_pages() {
    // SAFETY: it takes no pointer, and any thread may call it at any time, whichever allocator the
    // program has (mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) }
}
