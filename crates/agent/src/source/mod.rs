//! Sources of objects: the API server or a folder of manifests.

mod answer;
pub(crate) mod api;
mod bounded;
mod client;
mod encoding;
mod event_forwarder;
mod folder;
mod json_answer;
mod list;
mod list_version;
mod measured;
mod object;
mod pages;
mod protobuf_answer;
mod request;
mod streaming_lists;
mod throttle;
mod watch_failures;
mod watch_stream;

use std::path::PathBuf;

pub(crate) use crate::queue::Sink;
pub(crate) use api::watch as watch_api;
pub use client::ApiOptions;
pub(crate) use client::{ApiConnection, connect};
pub use folder::ReadFolder;
pub(crate) use folder::watch as watch_folder;
pub use list::list;

/// Where the agent gets objects: the API server or a folder of manifests.
#[derive(Debug, Clone)]
pub enum ObjectSource {
    /// The API server.
    Api(ApiOptions),
    /// Manifests in a folder.
    Folder(PathBuf),
}
