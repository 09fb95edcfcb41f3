//! Codes of problems with Kubernetes objects.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The kind of a problem with manifests or objects. Its name is in kebab-case (`invalid-address`) and
/// stable across versions, while sentences may change. `docs/linting.md` explains each.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ProblemCode {
    /// A file or standard input cannot be read.
    UnreadableInput,
    /// A document is not text, YAML or JSON, or is too large or nested too deep.
    InvalidDocument,
    /// A document or list item is not a Kubernetes object.
    NotAnObject,
    /// There is no object, or no Service.
    EmptyInput,
    /// A field has a value of another type.
    InvalidObject,
    /// An object has an API version that is not supported.
    UnsupportedVersion,
    /// Two objects have the same kind and name.
    DuplicateObject,
    /// A name is missing or not a DNS label.
    InvalidName,
    /// A required field is missing.
    MissingField,
    /// A field has a value that the API does not define.
    UnsupportedValue,
    /// An IP address is invalid, or of a kind that cannot be used there.
    InvalidAddress,
    /// A network is not a valid CIDR.
    InvalidNetwork,
    /// A port number is out of range.
    InvalidPort,
    /// A Service has two ports with the same name or number and protocol.
    DuplicatePort,
    /// The timeout of session affinity is out of range.
    InvalidAffinityTimeout,
    /// Two fields contradict each other, and one is used.
    ContradictoryFields,
    /// A Service has no cluster IP yet.
    ClusterIpMissing,
    /// A headless or ExternalName Service, which needs no rules.
    NeedsNoRules,
    /// Another proxy handles the Service.
    OtherProxy,
    /// An EndpointSlice has host names.
    HostNameSlice,
    /// An EndpointSlice has no label that names its Service.
    MissingServiceLabel,
    /// An Endpoints object has more addresses than are used.
    TooManyAddresses,
    /// The input has no EndpointSlice.
    NoSlices,
    /// No source range is valid, so all clients are allowed.
    SourceRangesOpen,
    /// The configuration does not allow the external IP.
    ExternalIpNotAllowed,
    /// An external or load-balancer IP is the Service's own cluster IP.
    OwnClusterIp,
    /// An external or load-balancer IP is the cluster IP of another Service.
    OtherClusterIp,
    /// An external or load-balancer IP is an address of the node, and these are excluded.
    NodeAddressRefused,
    /// An external or load-balancer IP is in a ServiceCIDR.
    AddressInServiceCidr,
    /// A Service exceeds the maximum size.
    ServiceTooLarge,
    /// Several Services claim one address and port.
    FrontendConflict,
    /// A service port has no EndpointSlice.
    NoEndpointSlice,
    /// The EndpointSlices have no endpoints.
    EmptyEndpointSlices,
    /// No endpoint has the port.
    NoSuchEndpointPort,
    /// No endpoint is ready.
    NoReadyEndpoints,
    /// Only terminating endpoints are left.
    OnlyTerminatingEndpoints,
    /// No endpoint is where the traffic policy Local needs one.
    NoLocalEndpoints,
    /// The kernel may assign node ports to outgoing connections.
    NodePortsEphemeral,
    /// The API does not define a field.
    UnknownField,
    /// A field, value or annotation is deprecated.
    DeprecatedField,
    /// A kind or version is deprecated.
    DeprecatedApi,
    /// The API server rejects a field for this type of Service.
    FieldNotAllowed,
    /// No proxy uses a field that is set.
    FieldWithoutEffect,
    /// No client can have an address in the source ranges.
    SourceRangesExcludeAll,
    /// The source ranges are of one IP family, and the Service has another.
    SourceRangesOfOneFamily,
    /// A cluster IP is in no ServiceCIDR.
    ClusterIpOutsideCidrs,
    /// An EndpointSlice belongs to a Service that is not in the input.
    UnknownService,
    /// An endpoint is on a Node that is not in the input.
    UnknownNode,
    /// A comment or annotation ignores a code that does not exist.
    UnknownCode,
}

impl ProblemCode {
    /// All codes.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in kebab-case.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_code_has_one_name_in_text_and_json() {
        for code in ProblemCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert_eq!(code.name().parse(), Ok(*code));
        }
    }
}
