//! Memory of this process that is free, but not for others.
#![allow(unsafe_code, reason = "mimalloc has a C interface only")]

/// Gives pages that are free back to the kernel at once. After a whole cluster was taken in, that is
/// a third of all: mimalloc keeps pages for the next time, which is months away.
pub fn give_back() {
    // SAFETY: it takes no pointer, and any thread may call it at any time, whichever allocator the
    // program has (mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) }
}
