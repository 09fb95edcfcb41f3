//! Lists, whole or in pages.

use std::borrow::Cow;
use std::ops::Bound;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::Request;
use super::kind::Kind;
use super::selector::Selection;
use super::status::{self, Status};
use super::store::{Key, Store};

/// The parameters of lists and watches (meta/v1 ListOptions), without selectors.
pub(super) struct Parameters {
    /// 0 is any version, `None` the newest.
    pub(super) version: Option<u64>,
    pub(super) version_match: String,
    pub(super) takes_bookmarks: bool,
    pub(super) initial_events: Option<bool>,
    pub(super) timeout: Option<Duration>,
    limit: Option<usize>,
    token: Option<Token>,
}

/// The start of the next page.
struct Token {
    /// All pages have the same version, unless it is compacted.
    version: Option<u64>,
    after: Key,
}

impl Parameters {
    pub(super) fn new(kind: Kind, request: &Request) -> Result<Self, Status> {
        let text = |name: &'static str| request.parameter(name).filter(|text| !text.is_empty());
        let number = |name: &'static str| match text(name).map(str::parse::<u64>) {
            Some(Err(_)) => Err(status::bad_request(&format!("{name}: not a number"))),
            Some(Ok(number)) => Ok(Some(number)),
            None => Ok(None),
        };
        let token = text("continue").map(|text| Token::parse(kind, text));
        if token.is_some() && number("resourceVersion")?.is_some_and(|version| version > 0) {
            let message = "specifying resource version is not allowed when using continue";
            return Err(status::bad_request(message));
        }
        Ok(Self {
            version: number("resourceVersion")?,
            version_match: text("resourceVersionMatch").unwrap_or_default().to_owned(),
            takes_bookmarks: text("allowWatchBookmarks").is_some_and(is_true),
            initial_events: text("sendInitialEvents").map(is_true),
            timeout: number("timeoutSeconds")?.filter(|s| *s > 0).map(Duration::from_secs),
            limit: number("limit")?.filter(|limit| *limit > 0).map(|limit| limit as usize),
            token: token.transpose()?,
        })
    }
}

/// Like Go's strconv.ParseBool.
pub(super) fn is_true(text: &str) -> bool {
    ["true", "1", "True", "TRUE", "t"].contains(&text)
}

pub(super) fn list(
    store: &Store,
    selection: &Selection,
    parameters: &Parameters,
) -> Result<Value, Status> {
    let kind = selection.kind;
    let version = version(store, parameters)?;
    let (objects, begin) = match &parameters.token {
        None => (Cow::Borrowed(&store.objects), Bound::Unbounded),
        Some(Token { after, .. }) => {
            let objects = store.at(version).ok_or_else(|| gone(after))?;
            (Cow::Owned(objects), Bound::Excluded(after))
        }
    };
    let mut found = objects
        .range((begin, Bound::Unbounded))
        .filter(|((of, ..), object)| *of == kind && selection.matches(object));
    // The watch cache, which answers requests for any version, has no pages.
    let limit = parameters.limit.filter(|_| parameters.version != Some(0)).unwrap_or(usize::MAX);
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let remaining = found.count();

    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((key, _)) = page.last().filter(|_| remaining > 0) {
        let token = Token { version: Some(version), after: (*key).clone() };
        metadata["continue"] = token.text().into();
        // With a selector, the server does not report the number of remaining items.
        if !selection.is_selective() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let items: Vec<&Value> = page.into_iter().map(|(_, object)| &**object).collect();
    Ok(json!({
        "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(),
        "metadata": metadata, "items": items,
    }))
}

/// The version of a list.
fn version(store: &Store, parameters: &Parameters) -> Result<u64, Status> {
    if let Some(token) = &parameters.token {
        return Ok(token.version.unwrap_or(store.version));
    }
    match parameters.version {
        Some(wanted) if wanted > store.version => {
            Err(status::too_large_version(wanted, store.version))
        }
        // The newest version is at least as new as any version that a client saw.
        _ => Ok(store.version),
    }
}

fn gone(after: &Key) -> Status {
    let inconsistent = Token { version: None, after: after.clone() };
    status::expired_token(&inconsistent.text())
}

impl Token {
    fn text(&self) -> String {
        let (_, namespace, name) = &self.after;
        format!("{}/{namespace}/{name}", self.version.unwrap_or(0))
    }

    fn parse(kind: Kind, text: &str) -> Result<Self, Status> {
        let invalid = || status::bad_request("continue key is not valid");
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().ok_or_else(invalid);
        let version: u64 = part()?.parse().map_err(|_| invalid())?;
        let after = (kind, part()?.to_owned(), part()?.to_owned());
        Ok(Self { version: (version > 0).then_some(version), after })
    }
}
