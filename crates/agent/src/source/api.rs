//! Watches the API server like kube-proxy: the same selectors, paged lists, bookmarks, and retries
//! with exponential backoff and jitter.
//!
//! ```text
//!        ┌────────── version too old, or invalid response ────────────────┐
//!        ▼                                                                │
//! list ──version──▶ watch from there ──end or failure──▶ watch again ─────┘
//! ```
//!
//! A list is the beginning of a watch that starts with all objects (streaming list, KEP-3157), which
//! neither the server nor the agent holds as a whole. A server without streaming lists is asked for
//! pages. Known objects stay until a list is complete.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::join4;
use kube::api::{ListParams, WatchParams};
use kube::runtime::watcher::DefaultBackoff;
use rulegen_model::Kind;
use tokio::time::{sleep, timeout};

use super::Sink;
use super::answer::{StreamEvent, WrongAnswer};
use super::client::{ApiConnection, CONNECT_TIMEOUT, SILENCE};
use super::event_forwarder::EventForwarder;
use super::list_version::ListVersion;
use super::object::{EndpointSlices, Nodes, ServiceCidrs, Services, Watched};
use super::pages::{ListPages, MOST_OBJECTS};
use super::request::{self, RequestError};
use super::streaming_lists::{AfterStream, StreamingLists};
use super::watch_failures::{ApiServer, LONGEST_PAUSE, WatchFailures};
use super::watch_stream::{self, EventStream};
use crate::input;
use crate::queue::Ended;

/// The interval of requests for a missing kind.
const ABSENCE: Duration = Duration::from_secs(300);

/// The longest pause after a failed list or watch. Unlike other kinds, forbidden ServiceCIDRs do not
/// delay the start, so the failure would not be noticed otherwise.
fn longest_pause(kind: Kind) -> Duration {
    match kind {
        Kind::ServiceCidr => Duration::from_secs(10),
        _ => Duration::MAX,
    }
}

/// After this time a slow page is logged, long before it times out.
const SLOW: Duration = Duration::from_secs(10);

/// Services without the label `service-proxy-name`.
pub(super) const SERVICES_LABELS: &str = "!service.kubernetes.io/service-proxy-name";
/// Services that are not headless.
pub(super) const SERVICES_FIELDS: &str = "spec.clusterIP!=None";
/// EndpointSlices of such Services.
pub(super) const SLICES_LABELS: &str = "!service.kubernetes.io/headless";

/// Counts watch restarts by kind, for metrics.
pub(crate) trait Watches: Clone + Send + Sync + 'static {
    /// A watch was restarted.
    fn restarted(&self, kind: Kind);
}

/// Watches all kinds until the agent exits.
pub(crate) async fn watch(
    connection: ApiConnection,
    node: String,
    sink: Sink,
    metrics: impl Watches,
) {
    let server = ApiServer::new(connection.address.clone());
    let own = Selectors { labels: None, fields: Some(format!("metadata.name={node}")) };
    let services = Selectors::new(Some(SERVICES_LABELS), Some(SERVICES_FIELDS));
    let slices = Selectors::new(Some(SLICES_LABELS), None);
    join4(
        Watch::<Services, _>::new(&connection, &server, &sink, &metrics, services).run(),
        Watch::<EndpointSlices, _>::new(&connection, &server, &sink, &metrics, slices).run(),
        Watch::<Nodes, _>::new(&connection, &server, &sink, &metrics, own).run(),
        Watch::<ServiceCidrs, _>::new(&connection, &server, &sink, &metrics, Selectors::default())
            .run(),
    )
    .await;
}

/// The selectors of a kind.
#[derive(Debug, Default)]
struct Selectors {
    labels: Option<String>,
    fields: Option<String>,
}

impl Selectors {
    fn new(labels: Option<&str>, fields: Option<&str>) -> Self {
        Self { labels: labels.map(str::to_owned), fields: fields.map(str::to_owned) }
    }

    fn list(&self) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..WatchParams::default()
        }
    }
}

/// The watch of one kind.
struct Watch<'a, W, T> {
    connection: &'a ApiConnection,
    metrics: &'a T,
    forwarder: EventForwarder<'a>,
    troubles: WatchFailures,
    selection: Selectors,
    list_version: ListVersion,
    /// The backoff before a list after a failed watch. It is reset after two minutes without a
    /// failure, so that a server that fails after each list does not cause a list each second.
    lists: DefaultBackoff,
    streaming_lists: StreamingLists,
    was_absent: bool,
    watched: std::marker::PhantomData<W>,
}

/// What follows a list.
struct WatchStart {
    /// The resource version from which to watch.
    version: String,
    /// The watch that began with the list.
    stream: Option<EventStream>,
}

impl<'a, W: Watched, T: Watches> Watch<'a, W, T> {
    fn new(
        connection: &'a ApiConnection,
        server: &ApiServer,
        sink: &'a Sink,
        metrics: &'a T,
        selection: Selectors,
    ) -> Self {
        Self {
            connection,
            metrics,
            forwarder: EventForwarder::new(sink),
            troubles: WatchFailures::new(W::KIND, server.clone()),
            selection,
            list_version: ListVersion::new(),
            lists: DefaultBackoff::default(),
            streaming_lists: StreamingLists::default(),
            was_absent: false,
            watched: std::marker::PhantomData,
        }
    }

    async fn run(mut self) {
        // The agent is exiting if the receiver is gone.
        while let Ok(pause) = self.round().await {
            sleep(pause).await;
        }
    }

    /// Lists, then watches until another list is needed. Returns the pause before it.
    async fn round(&mut self) -> Result<Duration, Ended> {
        match self.list().await? {
            Ok(listed) => self.follow(listed).await,
            Err(error) => self.after_list(&error).await,
        }
    }

    /// Lists all objects.
    async fn list(&mut self) -> Result<Result<WatchStart, RequestError>, Ended> {
        if self.streaming_lists.are_used(Instant::now()) {
            match self.streamed_list().await? {
                Err(error) if self.needs_pages(&error) => {}
                done => return Ok(done),
            }
        }
        self.paged_list().await
    }

    /// Lists all objects by a watch that begins with them.
    async fn streamed_list(&mut self) -> Result<Result<WatchStart, RequestError>, Ended> {
        let parameters = WatchParams { send_initial_events: true, ..self.selection.watch() };
        let version = self.list_version.of_stream();
        let connection = self.connection;
        let stream = watch_stream::watch(connection, W::PATH, &parameters, &version);
        let mut stream = match self.answer(stream).await? {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        let (mut objects, mut progress) = (0_usize, Instant::now());
        loop {
            let event = match self.answer(stream.event::<W>()).await? {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Err(WrongAnswer::EndsEarly.into())),
                Err(error) => return Ok(Err(error)),
            };
            if objects == 0 && !matches!(event, StreamEvent::Failed(_)) {
                self.forwarder.list_begins(W::KIND).await?;
            }
            objects += 1;
            if objects > MOST_OBJECTS {
                return Ok(Err(WrongAnswer::Endless("more than 500,000 objects").into()));
            }
            match event {
                StreamEvent::Put(object, version) => {
                    progress = Instant::now();
                    self.list_version.saw(&version);
                    self.forwarder.put(object, false).await?;
                }
                // Deleted since the first events.
                StreamEvent::Gone(object, version) => {
                    progress = Instant::now();
                    self.list_version.saw(&version);
                    self.forwarder.gone(object).await?;
                }
                // A server that ignores the request for a list sends only these.
                StreamEvent::Bookmark { ends_list: false, .. } if progress.elapsed() > SILENCE => {
                    return Ok(Err(WrongAnswer::EndsEarly.into()));
                }
                StreamEvent::Bookmark { ends_list: false, .. } => {}
                StreamEvent::Bookmark { version, ends_list: true } => {
                    self.list_ended(&version).await?;
                    return Ok(Ok(WatchStart { version, stream: Some(stream) }));
                }
                StreamEvent::Failed(status) => return Ok(Err(RequestError::Refused(status))),
            }
        }
    }

    /// Whether a list must be repeated in pages after its stream failed.
    fn needs_pages(&mut self, error: &RequestError) -> bool {
        let next = self.streaming_lists.failed(error, Instant::now());
        if next == AfterStream::PagesFromNow {
            let kind = W::KIND.name();
            tracing::info!(kind, %error, "no streaming list from the API server, listing in pages");
        }
        next != AfterStream::Retry
    }

    /// Lists all objects in pages.
    async fn paged_list(&mut self) -> Result<Result<WatchStart, RequestError>, Ended> {
        let mut pages = ListPages::new(self.list_version.set(self.selection.list()));
        loop {
            let is_first = pages.is_first();
            let page = request::list::<W>(self.connection, pages.parameters());
            let page = self.answer(page).await?;
            let page = match page.and_then(|page| Ok(pages.turn(page)?)) {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            if is_first {
                self.forwarder.list_begins(W::KIND).await?;
            }
            for object in page.objects {
                self.forwarder.put(object, false).await?;
            }
            if let Some(version) = page.end {
                self.list_ended(&version).await?;
                return Ok(Ok(WatchStart { version, stream: None }));
            }
        }
    }

    async fn list_ended(&mut self, version: &str) -> Result<(), Ended> {
        self.list_version.listed(version);
        self.works().await?;
        self.forwarder.list_ends(W::KIND).await
    }

    /// Waits for a part of a list. A slow one is reported.
    async fn answer<A>(
        &mut self,
        answer: impl Future<Output = Result<A, RequestError>>,
    ) -> Result<Result<A, RequestError>, Ended> {
        let mut answer = pin!(answer);
        if let Ok(answer) = timeout(SLOW, &mut answer).await {
            return Ok(answer);
        }
        let trouble = input::SourceError { why: self.troubles.waits(SLOW), until: None };
        self.forwarder.source(W::KIND, Some(trouble)).await?;
        Ok(answer.await)
    }

    async fn after_list(&mut self, error: &RequestError) -> Result<Duration, Ended> {
        if W::KIND == Kind::ServiceCidr && is_absence(error, self.forwarder.has_list) {
            if !std::mem::replace(&mut self.was_absent, true) {
                tracing::info!("no ServiceCIDR API; unused cluster IPs are not rejected");
            }
            self.forwarder.none(W::KIND).await?;
            return Ok(ABSENCE);
        }
        if self.list_version.failed(error) {
            let kind = W::KIND.name();
            tracing::info!(kind, %error, "resource version refused, listing the newest version");
            return Ok(Duration::ZERO);
        }
        if W::KIND == Kind::Service && is_unselectable(error) && self.selection.fields.is_some() {
            // Headless Services are filtered out here instead.
            tracing::info!(
                "API server does not support the headless field selector, filtering here"
            );
            self.selection.fields = None;
            return Ok(Duration::ZERO);
        }
        let pause = self.failed(error).await?;
        // Roles written for older clusters do not allow ServiceCIDRs. Other errors are temporary,
        // so the watch waits.
        if W::KIND == Kind::ServiceCidr && is_forbidden(error) {
            self.forwarder.service_cidrs_unknown().await?;
        }
        Ok(pause)
    }

    /// Watches what follows a list, repeatedly, until another list is needed.
    async fn follow(&mut self, listed: WatchStart) -> Result<Duration, Ended> {
        let WatchStart { mut version, mut stream } = listed;
        loop {
            match self.watch(&mut version, stream.take()).await? {
                Ok(()) => {}
                Err(error) if needs_list(&error) => {
                    if let RequestError::Wrong(_) = error {
                        self.list_version.doubt();
                    }
                    self.failed(&error).await?;
                    let pause = self.lists.next().unwrap_or(LONGEST_PAUSE);
                    return Ok(pause.min(longest_pause(W::KIND)));
                }
                Err(error) => {
                    let pause = self.failed(&error).await?;
                    sleep(pause).await;
                }
            }
        }
    }

    /// Runs one watch to its end, which may be open already, and updates the resource version.
    async fn watch(
        &mut self,
        version: &mut String,
        open: Option<EventStream>,
    ) -> Result<Result<(), RequestError>, Ended> {
        let parameters = self.selection.watch();
        let stream = match open {
            Some(stream) => Ok(stream),
            None => watch_stream::watch(self.connection, W::PATH, &parameters, version).await,
        };
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let event = match stream.event::<W>().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Ok(())),
                // Handled like a normal end: if the server is gone, the next attempt reports it.
                Err(error @ (RequestError::Unreachable(_) | RequestError::Silent(_))) => {
                    tracing::debug!(kind = W::KIND.name(), %error, "watch closed, restarting");
                    return Ok(Ok(()));
                }
                Err(error) => return Ok(Err(error)),
            };
            match event {
                StreamEvent::Put(object, newer) => {
                    self.list_version.saw(&newer);
                    *version = newer;
                    self.works().await?;
                    self.forwarder.put(object, true).await?;
                }
                StreamEvent::Gone(object, newer) => {
                    self.list_version.saw(&newer);
                    *version = newer;
                    self.works().await?;
                    self.forwarder.gone(object).await?;
                }
                StreamEvent::Bookmark { version: newer, .. } => {
                    self.list_version.saw(&newer);
                    *version = newer;
                    self.works().await?;
                }
                StreamEvent::Failed(status) => return Ok(Err(RequestError::Refused(status))),
            }
        }
    }

    async fn works(&mut self) -> Result<(), Ended> {
        if self.troubles.over() { self.forwarder.source(W::KIND, None).await } else { Ok(()) }
    }

    async fn failed(&mut self, error: &RequestError) -> Result<Duration, Ended> {
        self.metrics.restarted(W::KIND);
        let pause = self.troubles.failed(error).min(longest_pause(W::KIND));
        let until = Instant::now() + pause + CONNECT_TIMEOUT + CONNECT_TIMEOUT;
        let trouble = input::SourceError { why: self.troubles.why(error), until: Some(until) };
        self.forwarder.source(W::KIND, Some(trouble)).await?;
        Ok(pause)
    }
}

/// Whether a new list is needed: an invalid line may have hidden an event, and an expired version
/// stays expired.
fn needs_list(error: &RequestError) -> bool {
    match error {
        RequestError::Wrong(_) => true,
        RequestError::Refused(status) => status.code == 410,
        RequestError::Unreachable(_) | RequestError::Silent(_) => false,
    }
}

/// Whether the server does not support the field selector `spec.clusterIP`.
pub(super) fn is_unselectable(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused(status) if status.code == 400)
}

/// Whether the role does not allow a request.
pub(super) fn is_forbidden(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused(status) if status.code == 403)
}

/// Whether the cluster does not have a kind. If it could be listed before, it does exist: another
/// server responds.
pub(super) fn is_absence(error: &RequestError, was_shown: bool) -> bool {
    matches!(error, RequestError::Refused(status) if status.code == 404) && !was_shown
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn status(code: u16) -> RequestError {
        RequestError::Refused(Box::new(Status { code, ..Status::default() }))
    }

    #[test]
    fn watch_failure_that_may_lose_events_needs_a_new_list() {
        assert!(needs_list(&RequestError::Wrong(WrongAnswer::EventType("X".to_owned()))));
        assert!(needs_list(&status(410)));
        // Continues from the last reported version.
        assert!(!needs_list(&status(500)));
        assert!(!needs_list(&RequestError::Silent(Duration::ZERO)));
    }

    #[test]
    fn kind_counts_as_absent_after_404_or_403_only_if_never_listed() {
        for (code, was_shown, expected) in [
            (404, false, true),
            (404, true, false),
            (403, false, false),
            (403, true, false),
            (500, false, false),
        ] {
            assert_eq!(is_absence(&status(code), was_shown), expected, "{code}, {was_shown}");
        }
    }
}
