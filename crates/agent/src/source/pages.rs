//! The pages of a list, with a guarantee that it ends.

use kube::api::ListParams;

use super::answer::{ListPage, WrongAnswer};
use super::object::{ApiObject, Watched};

/// The page size: large enough for few requests, small enough to be cheap in memory.
pub(super) const PAGE: u32 = 500;

/// The maximum number of objects of a kind: etcd holds 8 GB at most, and Kubernetes supports
/// 150,000 pods.
pub(super) const MOST_OBJECTS: usize = 500_000;

/// The maximum number of consecutive empty pages: a selector may filter out a whole page.
const MOST_EMPTY: usize = 100;

/// The position in a list.
pub(super) struct ListPages {
    parameters: ListParams,
    objects: usize,
    empty: usize,
}

/// A page whose position was checked.
pub(super) struct CheckedPage<W> {
    pub(super) objects: Vec<ApiObject<W>>,
    /// The resource version from which to watch, if this is the last page.
    pub(super) end: Option<String>,
}

impl ListPages {
    pub(super) fn new(parameters: ListParams) -> Self {
        Self { parameters, objects: 0, empty: 0 }
    }

    /// The parameters of the next request.
    pub(super) fn parameters(&self) -> &ListParams {
        &self.parameters
    }

    /// Whether no page has been received yet.
    pub(super) fn is_first(&self) -> bool {
        self.parameters.continue_token.is_none()
    }

    /// Records a page.
    ///
    /// # Errors
    /// The list does not end.
    pub(super) fn turn<W: Watched>(
        &mut self,
        page: ListPage<W>,
    ) -> Result<CheckedPage<W>, WrongAnswer> {
        let ListPage { objects, version, next } = page;
        self.objects += objects.len();
        self.empty = if objects.is_empty() { self.empty + 1 } else { 0 };
        if self.objects > MOST_OBJECTS {
            return Err(WrongAnswer::Endless("more than 500,000 objects"));
        }
        let Some(next) = next else {
            let end = version.ok_or(WrongAnswer::Missing("metadata.resourceVersion"))?;
            return Ok(CheckedPage { objects, end: Some(end) });
        };
        if self.parameters.continue_token.as_ref() == Some(&next) {
            return Err(WrongAnswer::Endless("a page's continue token leads to itself"));
        }
        if self.empty > MOST_EMPTY {
            return Err(WrongAnswer::Endless("only empty pages"));
        }
        self.parameters.continue_token = Some(next);
        Ok(CheckedPage { objects, end: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::json_answer::page;
    use crate::source::object::Services;

    fn turn(
        pages: &mut ListPages,
        names: &[&str],
        next: &str,
    ) -> Result<Option<String>, WrongAnswer> {
        let items: Vec<String> =
            names.iter().map(|name| format!("{{\"metadata\":{{\"name\":{name:?}}}}}")).collect();
        let body = format!(
            "{{\"kind\":\"ServiceList\",\"apiVersion\":\"v1\",\"items\":[{}],\
             \"metadata\":{{\"resourceVersion\":\"7\",\"continue\":{next:?}}}}}",
            items.join(",")
        );
        let page = page::<Services>(body.as_bytes()).unwrap();
        pages.turn(page).map(|turned| turned.end)
    }

    #[test]
    fn list_pages_yield_resource_version_of_last_page() {
        let mut pages = ListPages::new(ListParams::default());
        assert!(pages.is_first());
        assert_eq!(turn(&mut pages, &["a"], "one").unwrap(), None);
        assert!(!pages.is_first());
        assert_eq!(pages.parameters().continue_token.as_deref(), Some("one"));
        assert_eq!(turn(&mut pages, &[], "two").unwrap(), None);
        assert_eq!(turn(&mut pages, &["b"], "").unwrap().as_deref(), Some("7"));
    }

    #[test]
    fn list_without_end_is_aborted() {
        let mut pages = ListPages::new(ListParams::default());
        turn(&mut pages, &["a"], "one").unwrap();
        assert!(matches!(turn(&mut pages, &["a"], "one"), Err(WrongAnswer::Endless(_))));

        let mut pages = ListPages::new(ListParams::default());
        let ended = (0..1000).find(|n| turn(&mut pages, &[], &n.to_string()).is_err());
        assert_eq!(ended, Some(MOST_EMPTY));

        let mut pages = ListPages::new(ListParams::default());
        let names = vec!["a"; 1000];
        let ended = (0..1000).find(|n| turn(&mut pages, &names, &n.to_string()).is_err());
        assert_eq!(ended, Some(MOST_OBJECTS / 1000));
    }
}
