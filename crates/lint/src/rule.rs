//! What each code means: `rulegen lint --list`, docs/linting.md and SARIF's rules.

use rulegen_model::ProblemCode;

use crate::severity::FindingSeverity;

/// The meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LintRule {
    /// The stable code that findings carry.
    pub code: ProblemCode,
    /// The severity of its findings.
    pub severity: FindingSeverity,
    /// What is wrong.
    pub about: &'static str,
    /// How to fix it.
    pub remedy: &'static str,
}

/// The meaning of a code.
pub fn rule(code: ProblemCode) -> LintRule {
    use FindingSeverity::{Error, Note, Warning};
    use ProblemCode as Code;
    let (severity, about, remedy) = match code {
        Code::UnreadableInput => {
            (Error, "a file or standard input cannot be read", "check the path and its permissions")
        }
        Code::InvalidDocument => (
            Error,
            "a document is not text, YAML or JSON, or too large or nested too deep",
            "correct the syntax",
        ),
        Code::NotAnObject => (
            Error,
            "a document or list item is not a Kubernetes object",
            "give manifests, or the output of `kubectl get -o yaml` or `-o json`",
        ),
        Code::EmptyInput => {
            (Warning, "a file has no object", "remove the file, or add the objects")
        }
        Code::InvalidObject => (
            Error,
            "a field has a value of another type than in the API",
            "correct the value; `kubectl explain` shows the type",
        ),
        Code::UnsupportedVersion => (
            Error,
            "an object has an API version that is not supported",
            "use the version that the message names",
        ),
        Code::DuplicateObject => (
            Error,
            "two objects have the same kind, namespace and name",
            "remove or rename one of them",
        ),
        Code::InvalidName => (
            Error,
            "a name is missing, or not a DNS label",
            "use a-z, 0-9 and '-', at most 63 characters",
        ),
        Code::MissingField => (Error, "a required field is missing", "set the field"),
        Code::UnsupportedValue => (
            Error,
            "a field has a value that the API does not define",
            "use one of the values that the message names",
        ),
        Code::InvalidAddress => (
            Error,
            "an IP address is invalid, or cannot be used in this field",
            "use an address of the family of the object that is not loopback, link-local or multicast",
        ),
        Code::InvalidNetwork => {
            (Error, "a network is not a valid CIDR", "write it as address/length")
        }
        Code::InvalidPort => {
            (Error, "a port number is out of range", "use a number from 1 to 65535")
        }
        Code::DuplicatePort => (
            Error,
            "two ports of a Service have the same name, or the same number and protocol",
            "give each port its own name and number",
        ),
        Code::InvalidAffinityTimeout => {
            (Error, "the timeout of session affinity is out of range", "use 1 to 86400 seconds")
        }
        Code::ContradictoryFields => (
            Error,
            "two fields contradict each other, and one of them is used",
            "make the fields agree, or remove one",
        ),
        Code::ClusterIpMissing => (
            Note,
            "a Service has no cluster IP yet: the API server assigns it",
            "none needed before the manifest is applied; to compile rules, use the output of \
             `kubectl get -o yaml`",
        ),
        Code::NeedsNoRules => {
            (Note, "a headless or ExternalName Service, which needs no rules", "none needed")
        }
        Code::OtherProxy => (
            Note,
            "the label service.kubernetes.io/service-proxy-name gives the Service to another proxy",
            "remove the label if kube-proxy or rulegen should handle the Service",
        ),
        Code::HostNameSlice => (
            Warning,
            "an EndpointSlice has host names (addressType FQDN), which no proxy uses",
            "use IP addresses, or a Service of type ExternalName",
        ),
        Code::MissingServiceLabel => (
            Warning,
            "an EndpointSlice has no label with the name of its Service",
            "set the label kubernetes.io/service-name",
        ),
        Code::TooManyAddresses => (
            Warning,
            "an Endpoints object has more than 1000 addresses, and the rest is not used",
            "use EndpointSlices",
        ),
        Code::NoSlices => (
            Note,
            "the input has no EndpointSlice, so endpoints are not checked",
            "add EndpointSlices to the input to check the endpoints too",
        ),
        Code::SourceRangesOpen => (
            Error,
            "no source range is valid, so all clients may use the load balancer",
            "correct the ranges",
        ),
        Code::ExternalIpNotAllowed => (
            Warning,
            "rulegen.externalIPs of the configuration does not allow an external IP",
            "use another address, or allow it in the configuration",
        ),
        Code::OwnClusterIp => (
            Note,
            "an external or load-balancer IP is the Service's own cluster IP, and has no effect",
            "remove the address",
        ),
        Code::OtherClusterIp => (
            Error,
            "an external or load-balancer IP is the cluster IP of another Service (CVE-2020-8554)",
            "choose another address",
        ),
        Code::NodeAddressRefused => (
            Warning,
            "an external or load-balancer IP is an address of the node, and the configuration \
             excludes these",
            "choose another address",
        ),
        Code::AddressInServiceCidr => (
            Warning,
            "an external or load-balancer IP is in a ServiceCIDR, so a Service may get it as cluster IP",
            "choose an address outside of the ServiceCIDRs",
        ),
        Code::ServiceTooLarge => (
            Error,
            "a Service exceeds the maximum size, and has no rules",
            "split it into several Services, or increase rulegen.maxServiceSize",
        ),
        Code::FrontendConflict => (
            Warning,
            "several Services claim one address and port",
            "give all but one of them another address or port",
        ),
        Code::NoEndpointSlice => (
            Warning,
            "a service port has no EndpointSlice",
            "check the selector, or add an EndpointSlice",
        ),
        Code::EmptyEndpointSlices => (
            Warning,
            "the EndpointSlices of a service port have no endpoints",
            "check the selector, or start pods",
        ),
        Code::NoSuchEndpointPort => (
            Warning,
            "the endpoints of a Service have no port with the name of the Service's port",
            "use the same name in spec.ports[].name and in ports[].name of the EndpointSlice",
        ),
        Code::NoReadyEndpoints => {
            (Warning, "no endpoint of a service port is ready", "check why pods are not ready")
        }
        Code::OnlyTerminatingEndpoints => (
            Note,
            "a service port has no ready endpoint, and terminating endpoints still get its traffic",
            "check why no new pods start",
        ),
        Code::NoLocalEndpoints => (
            Warning,
            "a traffic policy is Local, and no endpoint is on a known node",
            "set endpoints[].nodeName, or set the policy to Cluster",
        ),
        Code::NodePortsEphemeral => (
            Note,
            "the kernel may use a node port for outgoing connections (32768 to 60999 by default)",
            "choose a port below 32768, or reserve it on each node",
        ),
        Code::UnknownField => (
            Warning,
            "the API does not define a field: kubectl rejects it, other clients drop it",
            "correct or remove the field; `kubectl explain` lists the fields",
        ),
        Code::DeprecatedField => (
            Warning,
            "a field or annotation is deprecated",
            "use the replacement that the message names",
        ),
        Code::DeprecatedApi => (
            Warning,
            "a kind or version is deprecated",
            "use the replacement that the message names",
        ),
        Code::FieldNotAllowed => (
            Error,
            "the API server rejects a field for this type of Service",
            "remove the field, or change spec.type",
        ),
        Code::FieldWithoutEffect => {
            (Warning, "no proxy uses a field that is set", "remove the field")
        }
        Code::SourceRangesExcludeAll => (
            Error,
            "no client can have an address in the source ranges, so all are dropped",
            "list the networks of the clients",
        ),
        Code::SourceRangesOfOneFamily => (
            Warning,
            "the source ranges are of one IP family, and clients of the other are not restricted",
            "add ranges of the other family",
        ),
        Code::ClusterIpOutsideCidrs => (
            Error,
            "a cluster IP is in no ServiceCIDR, so the API server rejects it",
            "remove spec.clusterIP and spec.clusterIPs, or use an address of a ServiceCIDR",
        ),
        Code::UnknownService => (
            Warning,
            "an EndpointSlice belongs to a Service that is not in the input",
            "correct the label kubernetes.io/service-name, or add the Service",
        ),
        Code::UnknownNode => (
            Warning,
            "an endpoint is on a Node that is not in the input",
            "correct nodeName: policy Local and topology hints depend on it",
        ),
        Code::UnknownCode => (
            Warning,
            "a comment or annotation ignores a code that does not exist",
            "use one of the codes of `rulegen lint --list`",
        ),
    };
    LintRule { code, severity, about, remedy }
}
