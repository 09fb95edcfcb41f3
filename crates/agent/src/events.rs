//! Kubernetes Events about the Node and about Services, shown by `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use rulegen_model::ObjectKey;
use tokio::sync::mpsc;

use crate::left_out::LeftOutReason;

/// The content of an Event, with kube-proxy's reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The agent started.
    Starting,
    /// The health port cannot be opened.
    FailedToStartProxierHealthcheck(String),
    /// The port for metrics cannot be opened.
    FailedToStartMetricServer(String),
    /// A health-check node port cannot be opened.
    FailedToStartServiceHealthcheck {
        /// The Service's namespace.
        namespace: String,
        name: String,
        /// The address and the error.
        message: String,
    },
    /// A Service uses an address of the node on which a process listens.
    NodeAddressTaken {
        /// The Service's namespace.
        namespace: String,
        name: String,
        /// The address and the process.
        message: String,
    },
    /// A Service is left out of the rules.
    ServiceLeftOut { service: ObjectKey, why: LeftOutReason },
}

/// A sender of notices. Without an API server they are dropped.
#[derive(Debug, Clone)]
pub(crate) struct Notices(mpsc::Sender<Notice>);

/// The queue length while the API server is unreachable; further notices are dropped.
const WAITING: usize = 100;

impl Notices {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, notice: Notice) {
        if let Err(error) = self.0.try_send(notice) {
            tracing::debug!(%error, "dropped an Event");
        }
    }
}

/// How long to retry: the API server may be unreachable while a node starts.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::ZERO];

/// Writes notices as Events until all senders are gone.
pub(crate) async fn record(client: Client, node: String, mut notices: mpsc::Receiver<Notice>) {
    let reporter = Reporter { controller: "rulegen".to_owned(), instance: Some(node.clone()) };
    let recorder = Recorder::new(client, reporter);
    while let Some(notice) = notices.recv().await {
        let (event, about) = event(&notice, &node);
        for pause in PAUSES {
            let Err(error) = recorder.publish(&event, &about).await else { break };
            tracing::debug!(%error, ?notice, "cannot write Event");
            tokio::time::sleep(pause).await;
        }
    }
}

/// The API server's limit for the message, in bytes.
const LONGEST_NOTE: usize = 1000;

fn about_service(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Service".to_owned()),
        api_version: Some("v1".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

fn event(notice: &Notice, node: &str) -> (Event, ObjectReference) {
    let of_node = ObjectReference {
        kind: Some("Node".to_owned()),
        api_version: Some("v1".to_owned()),
        name: Some(node.to_owned()),
        // kubelet uses the name of a Node as its UID in Events.
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    };
    let (kind, reason, action, note, about) = match notice {
        Notice::Starting => (EventType::Normal, "Starting", "StartKubeProxy", None, of_node),
        Notice::FailedToStartProxierHealthcheck(message) => {
            let reason = "FailedToStartProxierHealthcheck";
            (EventType::Warning, reason, "StartKubeProxy", Some(message), of_node)
        }
        Notice::FailedToStartMetricServer(message) => {
            let reason = "FailedToStartMetricServer";
            (EventType::Warning, reason, "StartKubeProxy", Some(message), of_node)
        }
        Notice::FailedToStartServiceHealthcheck { namespace, name, message } => {
            let reason = "FailedToStartServiceHealthcheck";
            (EventType::Warning, reason, "Listen", Some(message), about_service(namespace, name))
        }
        Notice::NodeAddressTaken { namespace, name, message } => {
            let about = about_service(namespace, name);
            (EventType::Warning, "NodeAddressTaken", "SyncRules", Some(message), about)
        }
        Notice::ServiceLeftOut { service, why } => {
            let about = about_service(&service.namespace, &service.name);
            (EventType::Warning, why.reason.event(), "SyncRules", Some(&why.message), about)
        }
    };
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: note.map(|note| note.chars().take(LONGEST_NOTE).collect()),
        action: action.to_owned(),
        secondary: None,
    };
    (event, about)
}
