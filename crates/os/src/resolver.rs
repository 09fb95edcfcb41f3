//! Host names in a statically linked program.
#![allow(unsafe_code, reason = "glibc has a C interface only")]

/// Looks up hosts and users in /etc/hosts, DNS and /etc/passwd alone, whatever /etc/nsswitch.conf
/// says. A static glibc contains these sources. For all others it loads a library of the host, which
/// is for another version of glibc, and crashes. Does nothing in a dynamically linked program.
///
/// Call it before any thread starts.
pub fn use_built_in_sources() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, sources) in [(c"hosts", c"files dns"), (c"passwd", c"files")] {
        // SAFETY: both are strings that end with a null byte and live as long as the program. No other
        // thread runs yet.
        unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) };
    }
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
unsafe extern "C" {
    /// glibc's nss.h.
    fn __nss_configure_lookup(
        database: *const std::ffi::c_char,
        sources: *const std::ffi::c_char,
    ) -> std::ffi::c_int;
}
