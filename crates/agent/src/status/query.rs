//! The parameters of a request for a page.

use rulegen_model::ObjectKey;

use crate::http::Request;

/// The parameters of all pages. Invalid values are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) json: bool,
    /// The search text.
    pub(super) text: String,
    /// The namespace to search; empty for all.
    pub(super) namespace: String,
    pub(super) show: ServiceFilter,
    /// The page number, from 1.
    pub(super) page: usize,
    /// The packet's source address.
    pub(super) from: String,
    /// The packet's incoming interface.
    pub(super) interface: String,
    /// The packet's destination.
    pub(super) to: String,
}

/// Selects Services for the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ServiceFilter {
    #[default]
    All,
    /// With a port that has no usable endpoint.
    NoUsableEndpoint,
    /// With a port that has traffic policy Local and no endpoint on this node.
    NoLocalEndpoint,
    /// With an external frontend.
    Outside,
}

impl ServiceFilter {
    pub(super) const ALL: [ServiceFilter; 4] = [
        ServiceFilter::All,
        ServiceFilter::NoUsableEndpoint,
        ServiceFilter::NoLocalEndpoint,
        ServiceFilter::Outside,
    ];

    /// The value of the parameter.
    pub(super) fn name(self) -> &'static str {
        match self {
            ServiceFilter::All => "all",
            ServiceFilter::NoUsableEndpoint => "no-usable-endpoint",
            ServiceFilter::NoLocalEndpoint => "no-local-endpoint",
            ServiceFilter::Outside => "outside",
        }
    }

    /// The label on the page.
    pub(super) fn words(self) -> &'static str {
        match self {
            ServiceFilter::All => "All",
            ServiceFilter::NoUsableEndpoint => "No usable endpoint",
            ServiceFilter::NoLocalEndpoint => "No local endpoint",
            ServiceFilter::Outside => "Externally accessible",
        }
    }
}

/// A parameter is too long.
#[derive(Debug, thiserror::Error)]
#[error("parameter {name} has {length} characters (maximum {LONGEST})")]
pub(super) struct ParameterTooLong {
    /// Its name, escaped and cut.
    name: String,
    length: usize,
}

/// The maximum length of a parameter, in characters.
const LONGEST: usize = 200;

impl Query {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, ParameterTooLong> {
        let mut query = Self { json: request.wants_json, page: 1, ..Self::default() };
        for (name, value) in form_urlencoded::parse(request.query.as_bytes()) {
            let length = value.trim().chars().count();
            if length > LONGEST {
                let name: String = name.escape_debug().take(LONGEST).collect();
                return Err(ParameterTooLong { name, length });
            }
            let text = || value.trim().to_owned();
            match &*name {
                "format" => query.json = value == "json",
                "q" => query.text = text(),
                "namespace" => query.namespace = text(),
                "from" => query.from = text(),
                "interface" => query.interface = text(),
                "to" => query.to = text(),
                "show" => {
                    let named = ServiceFilter::ALL.into_iter().find(|show| show.name() == value);
                    query.show = named.unwrap_or_default();
                }
                "page" => query.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        Ok(query)
    }

    /// The path of the list with these parameters.
    pub(super) fn href(&self) -> String {
        let show = if self.show == ServiceFilter::All { "" } else { self.show.name() };
        let page = if self.page > 1 { self.page.to_string() } else { String::new() };
        let fields =
            [("q", &*self.text), ("namespace", &self.namespace), ("show", show), ("page", &page)];
        href("/services", &fields)
    }

    /// The path of the list as JSON.
    pub(super) fn json_href(&self) -> String {
        let href = self.href();
        let separator = if href.contains('?') { '&' } else { '?' };
        format!("{href}{separator}format=json")
    }
}

/// The path of a page with its parameters, except empty ones.
pub(super) fn href(path: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
    match query.finish() {
        none if none.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// The Service that a path names.
pub(super) fn service(path: &str) -> Option<ObjectKey> {
    let (namespace, name) = path.strip_prefix("/services/")?.split_once('/')?;
    let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    is_whole.then(|| ObjectKey::new(&decoded(namespace), &decoded(name)))
}

/// The path of a Service.
pub(super) fn path(key: &ObjectKey) -> String {
    format!("/services/{}/{}", encoded(&key.namespace), encoded(&key.name))
}

/// Decodes a path segment: like a query, except that a plus is literal.
fn decoded(part: &str) -> String {
    let part = part.replace('+', "%2B");
    form_urlencoded::parse(part.as_bytes())
        .map(|(name, _)| name.into_owned())
        .next()
        .unwrap_or_default()
}

fn encoded(part: &str) -> String {
    form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20")
}
