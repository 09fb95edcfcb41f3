//! What a request asks of a page.

use rulegen_model::ObjectKey;

use crate::http::Request;

/// The parameters of all pages. What makes no sense counts as if it were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) json: bool,
    /// What is looked for.
    pub(super) text: String,
    /// In which namespace; empty for all.
    pub(super) namespace: String,
    pub(super) show: ServiceFilter,
    /// From 1 on.
    pub(super) page: usize,
    /// A packet's source.
    pub(super) from: String,
    /// Where the packet comes in.
    pub(super) interface: String,
    /// A packet's destination.
    pub(super) to: String,
}

/// Which Services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ServiceFilter {
    #[default]
    All,
    /// With a port that has no endpoint that traffic could go to.
    WithoutEndpoints,
    /// With a port whose policy wants an endpoint on this node, where there is none.
    NoneHere,
    /// With an address beside the cluster IP.
    Outside,
}

impl ServiceFilter {
    pub(super) const ALL: [ServiceFilter; 4] = [
        ServiceFilter::All,
        ServiceFilter::WithoutEndpoints,
        ServiceFilter::NoneHere,
        ServiceFilter::Outside,
    ];

    /// As a parameter.
    pub(super) fn name(self) -> &'static str {
        match self {
            ServiceFilter::All => "all",
            ServiceFilter::WithoutEndpoints => "without-endpoints",
            ServiceFilter::NoneHere => "none-here",
            ServiceFilter::Outside => "outside",
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            ServiceFilter::All => "All",
            ServiceFilter::WithoutEndpoints => "Without endpoints",
            ServiceFilter::NoneHere => "None on this node",
            ServiceFilter::Outside => "Open to the outside",
        }
    }
}

/// More of a text is no search.
const LONGEST: usize = 200;

impl Query {
    /// # Errors
    /// What to answer: a parameter is too long.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, String> {
        let mut query = Self { json: request.wants_json, page: 1, ..Self::default() };
        for (name, value) in form_urlencoded::parse(request.query.as_bytes()) {
            let length = value.trim().chars().count();
            if length > LONGEST {
                let name: String = name.escape_debug().take(LONGEST).collect();
                return Err(format!(
                    "400 bad request: the parameter {name} has {length} characters, and {LONGEST} \
                     are the most\n"
                ));
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

    /// The address of the list that shows this.
    pub(super) fn href(&self) -> String {
        let show = if self.show == ServiceFilter::All { "" } else { self.show.name() };
        let page = if self.page > 1 { self.page.to_string() } else { String::new() };
        let fields =
            [("q", &*self.text), ("namespace", &self.namespace), ("show", show), ("page", &page)];
        href("/services", &fields)
    }

    /// The same as JSON.
    pub(super) fn json_href(&self) -> String {
        let href = self.href();
        let between = if href.contains('?') { '&' } else { '?' };
        format!("{href}{between}format=json")
    }
}

/// The address of a page with those of its parameters that are not empty.
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

/// In a path a plus is a plus; else it is spelled as in a query.
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
