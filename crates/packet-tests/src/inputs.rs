use rulegen_config::ProxyConfig;
use rulegen_model::Objects;

use crate::file::InputFiles;
use crate::no_node::no_node;
use crate::problem::FileProblem;

/// The inputs of a test file, read.
#[derive(Debug, Clone)]
pub struct CaseInputs {
    /// The objects, with details (`Objects::with_details`) if cases may name pods.
    pub objects: Objects,
    /// The configuration. Its mode is not used.
    pub config: ProxyConfig,
}

impl CaseInputs {
    /// The name of the node whose rules are tested: that of the case, else of the file, else of the
    /// configuration, else of the only Node.
    pub(crate) fn node(
        &self,
        of_case: Option<&str>,
        files: &InputFiles,
    ) -> Result<String, FileProblem> {
        let nodes = || self.objects.nodes.iter().map(|node| node.object.metadata.name.as_str());
        let of_config = self.config.hostname_override.as_deref();
        let (field, named) = match (of_case, files.node.as_deref()) {
            (Some(node), _) => ("node", Some(node)),
            (None, of_file) => ("inputs.node", of_file.or(of_config)),
        };
        let Some(name) = named else {
            let mut nodes = nodes();
            let first = nodes.next().unwrap_or_default().to_owned();
            let message = "missing: the input has several Nodes, name the one to test";
            return match nodes.next() {
                None => Ok(first),
                Some(_) => Err(FileProblem::of(field, message)),
            };
        };
        match self.objects.nodes.is_empty() || nodes().any(|of| of == name) {
            true => Ok(name.to_owned()),
            false => Err(FileProblem::of(field, no_node(name, &self.objects))),
        }
    }
}
