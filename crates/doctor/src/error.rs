//! Facts that cannot be read.

use std::io;
use std::sync::Arc;

use rulegen_kernel::{iptables, nftables};

pub(crate) type FactResult<T, E = FactError> = std::result::Result<T, E>;

/// A fact cannot be read. Several checks may need the same fact, so an error can be cloned.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FactError {
    /// A file in /proc or /sys.
    #[error(transparent)]
    Os(Arc<io::Error>),
    #[error(transparent)]
    Nftables(Arc<nftables::DataplaneError>),
    #[error("cannot read the iptables rules")]
    Iptables(#[source] Arc<iptables::IptablesError>),
}

impl FactError {
    /// The error with its causes.
    pub(crate) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

impl From<io::Error> for FactError {
    fn from(error: io::Error) -> Self {
        Self::Os(Arc::new(error))
    }
}

impl From<nftables::DataplaneError> for FactError {
    fn from(error: nftables::DataplaneError) -> Self {
        Self::Nftables(Arc::new(error))
    }
}

impl From<iptables::IptablesError> for FactError {
    fn from(error: iptables::IptablesError) -> Self {
        Self::Iptables(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doctor_error_text_names_the_cause() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = iptables::IptablesError::Run { program: "iptables-save".to_owned(), source };
        assert_eq!(
            FactError::from(error).text(),
            "cannot read the iptables rules: cannot run iptables-save: permission denied"
        );
    }
}
