//! What this program was built from.

/// The git commit; none if the build did not set it, as `ci/static` does.
pub(crate) const COMMIT: Option<&str> = option_env!("RULEGEN_COMMIT");

/// The commit's date, in RFC 3339.
pub(crate) const DATE: Option<&str> = option_env!("RULEGEN_COMMIT_DATE");

/// `rulegen`'s own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How the C libraries are linked.
pub(crate) const LINKING: &str =
    if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
