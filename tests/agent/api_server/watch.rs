//! Watches: changes since a list, as lines.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::connection::Connection;
use super::http::{self, Request};
use super::kind::Kind;
use super::list::Parameters;
use super::protobuf;
use super::selector::Selection;
use super::state::State;
use super::status::{self, Status};
use super::store::{Change, event};

/// An open watch.
pub(super) struct Watch {
    selection: Selection,
    takes_bookmarks: bool,
    /// Lines to send.
    queue: Vec<String>,
    /// The watch ends after these lines.
    is_over: bool,
    /// If the server keeps lists: the key of the list with which the watch begins.
    list: Option<ListKey>,
}

/// Key of the encoded events of a streaming list: equal requests have equal lists, until the version
/// changes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ListKey {
    request: String,
    version: u64,
}

impl ListKey {
    fn new(state: &State, request: &Request) -> Self {
        let part = |name| request.parameter(name).unwrap_or_default();
        let (labels, fields) = (part("labelSelector"), part("fieldSelector"));
        let accept = request.header("accept").unwrap_or_default();
        let request = format!("{}?{labels}&{fields} {accept}", request.path);
        Self { request, version: state.store.version }
    }
}

/// Duration of a watch without timeoutSeconds: at least the API server's
/// --min-request-timeout.
const LONGEST: Duration = Duration::from_secs(1800);

impl Watch {
    pub(super) fn kind(&self) -> Kind {
        self.selection.kind
    }

    pub(super) fn tell(&mut self, change: &Change) {
        if change.key.0 == self.kind() && !self.is_over {
            self.queue.extend(change.event(&self.selection));
        }
    }

    pub(super) fn tell_bookmark(&mut self, version: u64) {
        if self.takes_bookmarks && !self.is_over {
            self.queue.push(bookmark(self.kind(), version, &json!({})));
        }
    }

    /// Queues any line.
    pub(super) fn tell_line(&mut self, line: &str) {
        self.queue.push(format!("{line}\n"));
    }

    /// Queues the error 410 Expired, and ends the watch.
    pub(super) fn expire(&mut self, version: u64) {
        self.queue.push(too_old(version, version + 1));
        self.is_over = true;
    }
}

/// Starts a watch on a connection. Returns its deadline.
pub(super) fn begin(
    state: &mut State,
    connection: u64,
    request: &Request,
    selection: Selection,
    parameters: &Parameters,
) -> Result<Instant, Status> {
    check(state, parameters)?;
    let list = (state.keeps_lists && parameters.initial_events == Some(true))
        .then(|| ListKey::new(state, request));
    let is_kept = list.as_ref().is_some_and(|list| state.kept_lists.contains_key(list));
    let events = if is_kept { Ok(Vec::new()) } else { first(state, &selection, parameters) };
    let (queue, is_over) = match events {
        _ if parameters.initial_events == Some(true) && state.lacks_watch_progress => {
            (vec![event("ERROR", status::no_watch_progress().object())], true)
        }
        Ok(mut lines) if parameters.initial_events == Some(true) && state.ignores_watch_lists => {
            lines.pop();
            lines.push(bookmark(selection.kind, state.store.version, &json!({})));
            (lines, true)
        }
        Ok(lines) => (lines, state.ends_watches),
        Err(expired) if state.says_gone_by_code => return Err(expired),
        // The watch cache reports this only after the start of the response.
        Err(expired) => (vec![event("ERROR", expired.object())], true),
    };
    let takes_bookmarks = parameters.takes_bookmarks;
    state.watches.insert(connection, Watch { selection, takes_bookmarks, queue, is_over, list });
    Ok(Instant::now() + parameters.timeout.unwrap_or(LONGEST))
}

/// Writes a watch's events until its deadline.
pub(super) fn run(
    connection: &Connection,
    deadline: Instant,
    is_last: bool,
    is_protobuf: bool,
) -> io::Result<()> {
    let media_type =
        if is_protobuf { &format!("{};stream=watch", http::PROTOBUF) } else { http::JSON };
    let head = http::head(200, media_type, is_last) + "Transfer-Encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes())?;
    connection.expect_hangup()?;
    let chunk =
        |line: String| http::chunk(&if is_protobuf { frame(&line) } else { line.into_bytes() });
    send_kept_list(connection, chunk)?;
    loop {
        let (lines, is_over) = lines(connection, deadline)?;
        for line in lines {
            connection.send(&chunk(line))?;
        }
        if is_over {
            return connection.send(&http::chunk(b""));
        }
    }
}

/// Sends a list that is kept, or to be kept.
fn send_kept_list(connection: &Connection, chunk: impl Fn(String) -> Vec<u8>) -> io::Result<()> {
    let (number, shared) = (connection.number, &connection.shared);
    let first = shared.change(|state| {
        let watch = state.watches.get_mut(&number)?;
        let list = watch.list.take()?;
        let lines = std::mem::take(&mut watch.queue);
        let kept = state.kept_lists.get(&list).cloned();
        Some((list, lines, kept))
    });
    let Some((list, lines, kept)) = first else { return Ok(()) };
    let bytes = kept.unwrap_or_else(|| {
        let bytes = Arc::new(lines.into_iter().flat_map(chunk).collect::<Vec<u8>>());
        shared.change(|state| {
            state.kept_lists.retain(|older, _| older.request != list.request);
            state.kept_lists.insert(list, Arc::clone(&bytes));
        });
        bytes
    });
    connection.send(&bytes)
}

/// An event in protobuf. A line that is not an event is sent as it is, with its length.
fn frame(line: &str) -> Vec<u8> {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    match (event["type"].as_str(), event["object"]["kind"].as_str()) {
        (Some(kind), Some(of)) if protobuf::is_known(of) => protobuf::event(kind, &event["object"]),
        _ => [&(line.len() as u32).to_be_bytes()[..], line.as_bytes()].concat(),
    }
}

/// The next lines, and whether they are the last. The last line is a bookmark, so
/// that the next watch starts where this one ended.
fn lines(connection: &Connection, deadline: Instant) -> io::Result<(Vec<String>, bool)> {
    let number = connection.number;
    let lines = connection.shared.wait(deadline, |state| match state.watches.get_mut(&number) {
        Some(watch) if watch.queue.is_empty() && !watch.is_over => None,
        Some(watch) => Some((std::mem::take(&mut watch.queue), watch.is_over)),
        None => Some((Vec::new(), true)),
    });
    let (lines, is_over) = lines.unwrap_or_default();
    // Also if there are always new lines.
    if !is_over && Instant::now() < deadline {
        return Ok((lines, false));
    }
    let rest = connection.shared.change(|state| {
        let mut watch = state.watches.remove(&number)?;
        watch.tell_bookmark(state.store.version);
        Some(watch.queue)
    });
    let rest = rest.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok(([lines, rest].concat(), true))
}

/// Whether the server has streaming lists.
pub(super) fn check_support(state: &State) -> Result<(), Status> {
    let message =
        "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
    match state.lacks_watch_lists {
        true => Err(status::invalid_options("sendInitialEvents", message)),
        false => Ok(()),
    }
}

/// Like apimachinery's ValidateListOptions.
fn check(state: &State, parameters: &Parameters) -> Result<(), Status> {
    if parameters.initial_events.is_some() {
        check_support(state)?;
    }
    match (parameters.initial_events, &*parameters.version_match) {
        (Some(_), "NotOlderThan") | (None, "") => Ok(()),
        (Some(_), _) => Err(status::invalid_options(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (None, _) => Err(status::invalid_options(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
    }
}

/// The first lines of a watch: all objects if it has no version, otherwise the changes since it.
fn first(
    state: &State,
    selection: &Selection,
    parameters: &Parameters,
) -> Result<Vec<String>, Status> {
    let store = &state.store;
    let kind = selection.kind;
    let version = parameters.version.unwrap_or(0);
    match parameters.initial_events {
        Some(false) if version == 0 => Ok(Vec::new()),
        None | Some(false) if version > 0 => {
            let changes = store.since(version);
            let changes = changes
                .ok_or_else(|| status::expired(&too_old_message(version, store.oldest)))?
                .iter()
                .filter(|change| change.key.0 == kind);
            Ok(changes.filter_map(|change| change.event(selection)).collect())
        }
        with_end => {
            let objects = store.objects.iter().filter(|((of, ..), _)| *of == kind);
            let objects =
                objects.map(|(_, object)| object).filter(|object| selection.matches(object));
            let added = objects.map(|object| event("ADDED", &kind.named(object)));
            let end = json!({"k8s.io/initial-events-end": "true"});
            let end = (with_end == Some(true) && parameters.takes_bookmarks)
                .then(|| bookmark(kind, store.version, &json!({"annotations": end})));
            Ok(added.chain(end).collect())
        }
    }
}

fn bookmark(kind: Kind, version: u64, metadata: &Value) -> String {
    let mut metadata = metadata.clone();
    metadata["resourceVersion"] = version.to_string().into();
    event("BOOKMARK", &kind.named(&kind.hollow(metadata)))
}

fn too_old(version: u64, oldest: u64) -> String {
    event("ERROR", status::expired(&too_old_message(version, oldest)).object())
}

fn too_old_message(version: u64, oldest: u64) -> String {
    format!("too old resource version: {version} ({oldest})")
}
