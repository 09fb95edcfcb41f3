//! Lists all objects of a cluster once, for commands other than the agent.

use std::sync::Arc;

use kube::api::ListParams;
use rulegen_model::{Kind, Object, Objects, Problem, Severity, Source, Sourced};

use super::api::{is_absence, is_forbidden, is_unselectable};
use super::client::{ApiConnection, ApiOptions, connect};
use super::object::{
    ApiObject, EndpointSlices, LabelledServices, Nodes, ServiceCidrs, Services, Watched,
};
use super::pages::{ListPages, PAGE};
use super::request;
use crate::error::{Error, Result};

/// Lists the objects that the agent of this node would watch. Returns those that cannot be parsed.
///
/// # Errors
/// The API server is unreachable or does not allow the request.
pub fn list(options: &ApiOptions, node: &str, objects: &mut Objects) -> Result<Vec<Problem>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::Runtime)?;
    runtime.block_on(async {
        let connection = connect(options).await?;
        let mut listed = ListedObjects { objects, problems: Vec::new() };
        let services = match listed.objects.details {
            Some(_) => listed.services::<LabelledServices>(&connection).await,
            None => listed.services::<Services>(&connection).await,
        };
        services.map_err(cannot("services"))?;
        let slices = ListParams::default().labels(super::api::SLICES_LABELS);
        listed
            .kind::<EndpointSlices>(&connection, slices)
            .await
            .map_err(cannot("endpointslices"))?;
        let own = ListParams::default().fields(&format!("metadata.name={node}"));
        listed.kind::<Nodes>(&connection, own).await.map_err(cannot("nodes"))?;
        match listed.kind::<ServiceCidrs>(&connection, ListParams::default()).await {
            // Older clusters do not have them.
            Err(error) if is_absence(&error, false) => {}
            // Roles written for older clusters do not allow them.
            Err(error) if is_forbidden(&error) => {
                let message = format!("cannot list servicecidrs, taken as none: {error}");
                listed.problems.push(Problem::new(Severity::Warning, message));
            }
            done => done.map_err(cannot("servicecidrs"))?,
        }
        Ok(listed.problems)
    })
}

fn cannot(resource: &'static str) -> impl FnOnce(request::RequestError) -> Error {
    move |source| Error::List { resource, source: source.into() }
}

struct ListedObjects<'a> {
    objects: &'a mut Objects,
    problems: Vec<Problem>,
}

/// The maximum number of attempts if the continue token expires (410 Gone).
const ATTEMPTS: usize = 3;

impl ListedObjects<'_> {
    async fn services<W: Watched>(
        &mut self,
        connection: &ApiConnection,
    ) -> Result<(), request::RequestError> {
        let services = ListParams::default().labels(super::api::SERVICES_LABELS);
        let selected = services.clone().fields(super::api::SERVICES_FIELDS);
        match self.kind::<W>(connection, selected).await {
            Err(error) if is_unselectable(&error) => self.kind::<W>(connection, services).await,
            done => done,
        }
    }

    async fn kind<W: Watched>(
        &mut self,
        connection: &ApiConnection,
        parameters: ListParams,
    ) -> Result<(), request::RequestError> {
        let parameters = parameters.limit(PAGE);
        let mut attempts = ATTEMPTS;
        let items = loop {
            attempts -= 1;
            match all::<W>(connection, parameters.clone()).await {
                Err(request::RequestError::Refused(status))
                    if status.code == 410 && attempts > 0 => {}
                done => break done?,
            }
        };
        for item in items {
            if let (true, Some(details)) = (W::HAS_LABELS, &mut self.objects.details) {
                details.service_labels.insert(item.key, item.labels);
            }
            self.put(W::KIND, item.object);
        }
        Ok(())
    }

    fn put(&mut self, kind: Kind, object: Result<Object, Box<Problem>>) {
        let file = format!("{} from the API server", kind.name());
        let source = Arc::new(Source { file: file.into(), document: 1 });
        let objects = &mut *self.objects;
        match object {
            Ok(Object::Service(object)) => objects.services.push(Sourced { source, object }),
            Ok(Object::EndpointSlice(object)) => objects.slices.push(Sourced { source, object }),
            Ok(Object::Node(object)) => objects.nodes.push(Sourced { source, object }),
            Ok(Object::ServiceCidr(object)) => {
                objects.service_cidrs.push(Sourced { source, object });
            }
            Err(problem) => self.problems.push(*problem),
        }
    }
}

async fn all<W: Watched>(
    connection: &ApiConnection,
    parameters: ListParams,
) -> Result<Vec<ApiObject<W>>, request::RequestError> {
    let mut pages = ListPages::new(parameters);
    let mut objects = Vec::new();
    loop {
        let page = pages.turn(request::list::<W>(connection, pages.parameters()).await?)?;
        objects.extend(page.objects);
        if page.end.is_some() {
            return Ok(objects);
        }
    }
}
