//! The error type of this crate.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;

use rulegen_kernel::nftables::Missing;
use rulegen_kernel::{addresses, iptables, nftables};
use rulegen_net::IpFamily;
use rulegen_os::namespace_lock::Holder;

/// A result with the [`Error`] of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the agent cannot start, cannot sync, or had to exit. The message does not repeat the
/// `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// tokio could not create a runtime.
    #[error("cannot start the async runtime")]
    Runtime(#[source] io::Error),
    /// `pthread_create` failed.
    #[error("cannot start thread {name}")]
    Thread {
        /// The thread's name.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// SIGTERM or SIGINT cannot be handled.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
    /// The socket for address changes (rtnetlink) cannot be opened.
    #[error("cannot watch addresses")]
    Addresses(#[source] addresses::AddressError),
    /// A port cannot be opened, and `bindAddressHardFail` is set.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// The error of `bind(2)` or `listen(2)`.
        source: io::Error,
    },
    /// nf_tables failed.
    #[error(transparent)]
    Nftables(#[from] nftables::DataplaneError),
    /// The kernel does not support an expression or set type that the ruleset needs.
    #[error("this kernel does not support the ruleset: {}", joined(.0))]
    UnsupportedKernel(Vec<Missing>),
    /// iptables cannot be used.
    #[error(transparent)]
    Iptables(#[from] iptables::IptablesError),
    /// iptables failed for these IP families; the others are done.
    #[error("{}", of_families(.0))]
    IptablesFamilies(Vec<(IpFamily, iptables::IptablesError)>),
    /// Two metrics have the same name.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// `--master` is not a URL.
    #[error("--master: invalid URL {url:?} (for example https://10.0.0.1:6443)")]
    MasterUrl {
        /// The value of the flag.
        url: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The kubeconfig is missing or invalid.
    #[error("{action}")]
    Kubeconfig {
        /// What failed, with the file if one was given.
        action: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "no credentials for the API server: use --kubeconfig, set KUBECONFIG, or run in a pod \
         with a service account"
    )]
    NoCredentials(#[source] kube::config::InferConfigError),
    /// The TLS or authentication settings are invalid.
    #[error("cannot use the credentials for {server}")]
    Credentials {
        /// The URL of the API server.
        server: String,
        /// Why.
        source: kube::Error,
    },
    /// The API server did not return a list.
    #[error("cannot list {resource}")]
    List {
        /// The resource in the plural, such as `services`.
        resource: &'static str,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Another agent holds the lock of this network namespace.
    #[error("another rulegen agent ({0}) is running in this network namespace; stop it first")]
    AlreadyRunning(Holder),
    /// [`init_only`](crate::init_only) failed in part; each failure is logged.
    #[error("some settings could not be applied (see the log above)")]
    Settings,
    /// The configuration file changed. The agent exits so that it is restarted.
    #[error("configuration changed, exiting so that the agent restarts")]
    ConfigurationChanged,
    /// The reconciler thread exited, which it must not.
    #[error("internal error: reconciler exited")]
    ReconcilerExited,
}

fn joined(missing: &[Missing]) -> String {
    missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("; ")
}

fn of_families(failed: &[(IpFamily, iptables::IptablesError)]) -> String {
    let of_family = |(family, error): &(IpFamily, iptables::IptablesError)| {
        format!("{}: {}", family.api_name(), with_causes(error))
    };
    failed.iter().map(of_family).collect::<Vec<_>>().join("; ")
}

/// The message of an error, followed by those of its sources that it does not contain.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_has_each_cause_once() {
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let error = Error::Listen { address: SocketAddr::from(([127, 0, 0, 1], 80)), source };
        let text = with_causes(&error);
        assert_eq!(text, "cannot listen on 127.0.0.1:80: address in use");
        let not_installed =
            |_| iptables::IptablesError::NotInstalled { program: "iptables".to_owned() };
        let failed = IpFamily::BOTH.map(|family| (family, not_installed(family)));
        let text = with_causes(&Error::IptablesFamilies(failed.into()));
        assert!(text.starts_with("IPv4: iptables is not installed"), "{text}");
        assert!(text.contains("; IPv6: iptables is not installed"), "{text}");
    }
}
