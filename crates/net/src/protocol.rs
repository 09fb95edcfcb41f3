use serde::Serialize;

/// A transport protocol that a Service can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
    /// SCTP, number 132.
    Sctp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Reads the `protocol` field of a Kubernetes object: `TCP`, `UDP` or `SCTP`. An absent or
    /// empty field means TCP. `None` for other protocols.
    pub fn from_api(field: Option<&str>) -> Option<Self> {
        match field.unwrap_or_default() {
            "" => Some(Protocol::Tcp),
            name => Self::ALL.into_iter().find(|protocol| protocol.api_name() == name),
        }
    }

    /// Reads the name in rules: `tcp`, `udp` or `sctp`. `None` for others.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Reads the protocol number of an IP header (IANA). `None` for protocols that Services cannot
    /// use.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }

    /// The name in rules, which is also the iptables match for its ports.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The name in the Kubernetes API.
    pub fn api_name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}
