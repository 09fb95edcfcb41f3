//! The resource version that a list asks for, as client-go's reflector does.
//!
//! | | asks for | answered from |
//! |---|---|---|
//! | before anything was seen | 0: any version | watch cache |
//! | later | not older than the newest version seen | watch cache |
//! | the server refused that version, or events are doubtful | none: the newest version | etcd |
//!
//! Lists from the watch cache do not load etcd when all nodes list at the same time: after a rollout,
//! or when an API server comes back. They never go back in time: 0 is asked for only once, and a
//! server whose cache is behind waits or refuses.

use kube::api::ListParams;

use super::answer::WrongAnswer;
use super::pages::PAGE;
use super::request::RequestError;

/// The choice of the next list's version, for one kind.
#[derive(Debug)]
pub(super) struct ListVersion {
    /// The newest version seen.
    seen: Option<u64>,
    /// The next list reads the newest version.
    reads_newest: bool,
    /// A list from the watch cache, which has no pages, exceeds the limit.
    needs_pages: bool,
    /// The page size.
    limit: u32,
}

impl ListVersion {
    pub(super) fn new() -> Self {
        Self { seen: None, reads_newest: false, needs_pages: false, limit: PAGE }
    }

    /// The resource version of a streaming list, which the server always answers from its watch
    /// cache; empty for the newest.
    pub(super) fn of_stream(&self) -> String {
        match self.seen {
            _ if self.reads_newest => String::new(),
            seen => seen.unwrap_or(0).to_string(),
        }
    }

    /// Sets limit and resource version of a list.
    pub(super) fn set(&self, parameters: ListParams) -> ListParams {
        let (limit, version) = match self.seen {
            _ if !self.is_cached() => (Some(self.limit), None),
            None => (Some(self.limit), Some(0)),
            // With a limit, the server would read exactly this version, from etcd.
            Some(version) => (None, Some(version)),
        };
        let resource_version = version.map(|version: u64| version.to_string());
        ListParams { limit, resource_version, ..parameters }
    }

    /// Records the version of a complete list.
    pub(super) fn listed(&mut self, version: &str) {
        // The newest version may be older than one seen, after a restore of etcd.
        if !self.is_cached() {
            self.seen = None;
        }
        self.reads_newest = false;
        self.saw(version);
    }

    /// Records the version of an event.
    pub(super) fn saw(&mut self, version: &str) {
        match version.parse() {
            Ok(version) => self.seen = self.seen.max(Some(version)),
            Err(_) => self.doubt(),
        }
    }

    /// What was received may be wrong.
    pub(super) fn doubt(&mut self) {
        self.reads_newest = true;
    }

    /// Records the failure of a list. Returns true if the next list asks for another version, so
    /// that it can be sent at once.
    pub(super) fn failed(&mut self, error: &RequestError) -> bool {
        match error {
            RequestError::Wrong(WrongAnswer::TooLong { .. }) if self.is_cached() => {
                self.needs_pages = true;
                false
            }
            RequestError::Wrong(WrongAnswer::TooLong { .. }) => {
                self.limit = (self.limit / 10).max(1);
                false
            }
            // Also a stream asks for the version seen, where a list in pages does not.
            error if self.seen.is_some() && !self.reads_newest && is_of_version(error) => {
                self.reads_newest = true;
                true
            }
            _ => false,
        }
    }

    fn is_cached(&self) -> bool {
        !self.reads_newest && !self.needs_pages
    }
}

/// Whether the server refused the resource version: it is compacted, newer than any that the server
/// has (another server, or a restored etcd), or not one of its versions.
pub(super) fn is_of_version(error: &RequestError) -> bool {
    const TOO_LARGE: &str = "ResourceVersionTooLarge";
    let RequestError::Refused(status) = error else { return false };
    let causes = || status.details.iter().flat_map(|details| &details.causes);
    match status.code {
        400 | 410 => true,
        504 => causes().any(|cause| cause.reason == TOO_LARGE),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn asked(version: &ListVersion) -> (Option<u32>, Option<String>) {
        let parameters = version.set(ListParams::default());
        (parameters.limit, parameters.resource_version)
    }

    fn not_older_than(version: &str) -> (Option<u32>, Option<String>) {
        (None, Some(version.to_owned()))
    }

    fn refused(code: u16, cause: &str) -> RequestError {
        let status = serde_json::json!({
            "code": code, "message": "refused", "details": {"causes": [{"reason": cause}]},
        });
        RequestError::Refused(Box::new(serde_json::from_value::<Status>(status).unwrap()))
    }

    #[test]
    fn list_version_is_0_at_first_and_then_the_newest_seen() {
        let mut version = ListVersion::new();
        let first = (Some(PAGE), Some("0".to_owned()));
        assert_eq!(asked(&version), first);
        assert!(!version.failed(&refused(500, "")));
        assert_eq!(asked(&version), first);
        version.listed("90");
        assert_eq!(asked(&version), not_older_than("90"));
        version.saw("1000");
        version.saw("5");
        assert_eq!(asked(&version), not_older_than("1000"), "never back in time");
    }

    #[test]
    fn list_version_that_the_server_refuses_is_left_out_once() {
        for error in [refused(410, ""), refused(504, "ResourceVersionTooLarge"), refused(400, "")] {
            let mut version = ListVersion::new();
            version.listed("90");
            assert!(version.failed(&error), "{error}");
            assert_eq!(asked(&version), (Some(PAGE), None), "{error}");
            assert!(!version.failed(&error), "the next waits");
            version.listed("50");
            assert_eq!(asked(&version), not_older_than("50"), "a restored etcd");
        }
        let mut version = ListVersion::new();
        version.listed("90");
        for error in [refused(504, ""), refused(500, ""), refused(429, ""), refused(403, "")] {
            assert!(!version.failed(&error));
            assert_eq!(asked(&version), not_older_than("90"), "{error}");
        }
    }

    #[test]
    fn list_after_doubtful_answers_reads_the_newest_version() {
        let mut version = ListVersion::new();
        version.listed("90");
        version.doubt();
        assert_eq!(asked(&version), (Some(PAGE), None));
        version.listed("91");
        version.saw("not a number");
        assert_eq!(asked(&version), (Some(PAGE), None));
    }

    #[test]
    fn list_that_is_too_long_is_read_in_smaller_and_smaller_pages() {
        let too_long = || RequestError::Wrong(WrongAnswer::TooLong { what: "the list", limit: 1 });
        let mut version = ListVersion::new();
        version.failed(&too_long());
        assert_eq!(asked(&version), (Some(PAGE), None));
        version.failed(&too_long());
        assert_eq!(asked(&version), (Some(PAGE / 10), None));
        version.listed("90");
        assert_eq!(asked(&version), (Some(PAGE / 10), None), "for good");
    }
}
