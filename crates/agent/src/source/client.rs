//! Credentials and the connection to the API server.

use std::env::consts::OS;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderValue, USER_AGENT};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rulegen_config::ContentType;
use tower::layer::layer_fn;

use super::bounded::Bounded;
use super::encoding::Accept;
use super::measured::Measured;
use super::throttle::Throttle;
use crate::error::{Error, Result};
use crate::metrics::{RestClient, go_architecture};

/// How to reach the API server.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// A kubeconfig; `KUBECONFIG`, `~/.kube/config` or the pod's own credentials if there is none.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig.
    pub context: Option<String>,
    /// The server's URL, overrides the kubeconfig.
    pub master: Option<String>,
    /// The encodings of lists and watches, the first preferably.
    pub content_types: Vec<ContentType>,
}

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection without data for this long is closed. The API server sends a bookmark to each watch
/// once a minute (k8s.io/apiserver, storage/cacher, defaultBookmarkFrequency) and responds to
/// everything else within a minute, so two bookmarks were lost. Without this limit, a peer that
/// disappears silently would block a list forever and a watch for 295 s.
pub(super) const SILENCE: Duration = Duration::from_secs(150);

/// A client with its server.
pub(crate) struct ApiConnection {
    pub(crate) client: Client,
    /// The server's address, for messages.
    pub(crate) address: String,
    pub(super) accept: Accept,
    pub(crate) metrics: RestClient,
}

/// Makes a client for the API server, without sending a request.
///
/// # Errors
/// The URL, the kubeconfig or the credentials are missing or invalid.
pub(crate) async fn connect(options: &ApiOptions) -> Result<ApiConnection> {
    let mut config = config(options).await?;
    if let Some(master) = &options.master {
        config.cluster_url = parse(master)?;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(SILENCE);
    // Otherwise the time since the previous response would count.
    config.reset_reader_on_write = true;
    // The watches retry and log by themselves.
    config.default_retry = false;
    config.headers.push((USER_AGENT, user_agent()));
    let address = config.cluster_url.to_string();
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let metrics = RestClient::new(host)?;
    let client = ClientBuilder::try_from(config);
    let failed = |source| Error::Credentials { server: address.clone(), source };
    let client = client.map_err(failed)?;
    let client = client
        .with_layer(&layer_fn(|inner| Measured { inner, metrics: metrics.clone() }))
        .with_layer(&layer_fn(|inner| Throttle::new(inner, metrics.clone())))
        .with_layer(&layer_fn(Bounded))
        .build();
    let accept = Accept::new(&options.content_types);
    Ok(ApiConnection { client, address, accept, metrics })
}

/// The format of client-go, by which audit logs and metrics of the API server distinguish clients.
fn user_agent() -> HeaderValue {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("rulegen/{version} ({OS}/{})", go_architecture());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("rulegen"))
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
