//! Splits a Service's ports and endpoints into pages.

use std::ops::Range;

use rulegen_model::ServicePort;

/// A range of endpoints of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointRange {
    /// The index of the service port.
    pub(super) port: usize,
    /// The index of the first endpoint.
    pub(super) first: usize,
}

impl EndpointRange {
    /// The maximum number of endpoints per part.
    pub(super) const ENDPOINTS: usize = 100;

    pub(super) fn range(&self, endpoints: usize) -> Range<usize> {
        let end = self.first.saturating_add(Self::ENDPOINTS).min(endpoints);
        self.first.min(end)..end
    }
}

/// The parts on one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) parts: Vec<EndpointRange>,
}

/// The maximum number of parts per page: 2,000 endpoints.
const PARTS: usize = 20;

impl Parts {
    /// The parts of a page, or of the last page if there are fewer.
    pub(super) fn of(ports: &[ServicePort], page: usize) -> Self {
        Self::of_lengths(ports.iter().map(|port| port.endpoints.len()), page)
    }

    fn of_lengths(endpoints: impl Iterator<Item = usize> + Clone, page: usize) -> Self {
        let count = |endpoints: usize| endpoints.div_ceil(EndpointRange::ENDPOINTS).max(1);
        let all: usize = endpoints.clone().map(count).sum();
        let pages = all.div_ceil(PARTS).max(1);
        let page = page.clamp(1, pages);
        let parts = endpoints.enumerate().flat_map(|(port, endpoints)| {
            (0..count(endpoints))
                .map(move |n| EndpointRange { port, first: n * EndpointRange::ENDPOINTS })
        });
        let parts = parts.skip((page - 1) * PARTS).take(PARTS).collect();
        Self { page, pages, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_page_parts_contain_each_endpoint_once() {
        for lengths in
            [vec![], vec![0], vec![0; 41], vec![100, 101, 0], vec![10_000, 3], vec![100; 1000]]
        {
            let of = |page| Parts::of_lengths(lengths.iter().copied(), page);
            let mut seen = vec![0; lengths.len()];
            let mut ports = vec![false; lengths.len()];
            for page in 1..=of(1).pages {
                let parts = of(page).parts;
                assert!(parts.len() <= PARTS && (!parts.is_empty() || lengths.is_empty()));
                for part in parts {
                    let range = part.range(lengths[part.port]);
                    assert_eq!(range.start, seen[part.port], "in order and without gaps");
                    seen[part.port] = range.end;
                    ports[part.port] = true;
                }
            }
            assert_eq!(seen, lengths);
            assert!(ports.iter().all(|seen| *seen), "{lengths:?}");
            let last = of(1).pages;
            assert_eq!((of(usize::MAX), of(0)), (of(last), of(1)));
        }
    }
}
