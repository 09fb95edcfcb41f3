//! Credentials and the way to the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::layer::layer_fn;

use super::bounded::Bounded;
use super::throttle::Throttle;
use crate::error::{Error, Result};

/// How the API server is reached.
#[derive(Debug, Clone, Default)]
pub struct ApiOptions {
    /// A kubeconfig; `KUBECONFIG`, `~/.kube/config` or the pod's own credentials if there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of it.
    pub context: Option<String>,
    /// The server's address, whatever the kubeconfig says.
    pub master: Option<String>,
}

/// A server that does not take a connection in this time is tried again.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing came for so long is given up. The API server sends bookmarks to
/// each watch once a minute (k8s.io/apiserver, storage/cacher, defaultBookmarkFrequency), and
/// answers everything else within one: two of them were lost. Without it, a list would be waited
/// for as long as the process lives, and a watch for 295 s, if the other side is gone silently.
pub(super) const SILENCE: Duration = Duration::from_secs(150);

/// The way to the API server.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// The server's address, for messages.
    pub(crate) address: String,
}

/// A client for the API server. Nothing is asked of it yet.
///
/// # Errors
/// What is wrong with the credentials.
pub(crate) async fn connect(options: &ApiOptions) -> Result<Connection> {
    let mut config = config(options).await?;
    if let Some(master) = &options.master {
        config.cluster_url = parse(master)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(SILENCE);
    // Else it would count from the answer before, however long ago that was.
    config.reset_reader_on_write = true;
    // Who watches tries again, and tells of it.
    config.default_retry = false;
    let address = config.cluster_url.to_string();
    let client = ClientBuilder::try_from(config);
    let failed = |source| Error::Credentials { server: address.clone(), source };
    let client = client.map_err(failed)?;
    let client = client.with_layer(&layer_fn(Throttle::new)).with_layer(&layer_fn(Bounded));
    Ok(Connection { client: client.build(), address })
}

async fn config(options: &ApiOptions) -> Result<Config> {
    let context = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    if let Some(path) = &options.kubeconfig {
        let file = path.display();
        let failed = |action: &str| {
            let action = format!("--kubeconfig: cannot {action} {file}");
            move |source| Error::Kubeconfig { action, source }
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed("read"))?;
        return Config::from_custom_kubeconfig(kubeconfig, &context).await.map_err(failed("use"));
    }
    if let (Some(master), None) = (&options.master, std::env::var_os("KUBECONFIG")) {
        let url = parse(master)?;
        return Ok(Config::incluster().unwrap_or_else(|_| Config::new(url)));
    }
    if options.context.is_some() {
        let action = "cannot use the kubeconfig".to_owned();
        let failed = |source| Error::Kubeconfig { action, source };
        return Config::from_kubeconfig(&context).await.map_err(failed);
    }
    Config::infer().await.map_err(Error::NoCredentials)
}

fn parse(master: &str) -> Result<hyper::Uri> {
    let invalid = |source: hyper::http::uri::InvalidUri| Error::MasterUrl {
        url: master.to_owned(),
        source: source.into(),
    };
    master.parse().map_err(invalid)
}
