//! Formats of values in files: functions for serde's `with`.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use crate::bind_address::{BindAddress, parse_bind_address};
use crate::choice::NamedChoice;
use crate::content_type::parse_content_types;
use crate::detect_local::{parse_cluster_cidrs, parse_interface};
use crate::duration::{format_duration, parse_duration};
use crate::value_error::ValueError;

/// Reads a string; an empty one means that the value is not set.
fn optional<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, ValueError>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    parse(&text).map(Some).map_err(D::Error::custom)
}

/// A kube-proxy field that has no effect here. Only its type is checked.
pub(crate) fn unused<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(), D::Error> {
    T::deserialize(deserializer).map(drop)
}

/// A number without effect.
pub(crate) fn unused_number<'de, const LEAST: i64, const MOST: i64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(), D::Error> {
    number::<LEAST, MOST, i64, D>(deserializer).map(drop)
}

/// A duration without effect.
pub(crate) fn unused_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    duration::deserialize(deserializer).map(drop)
}

/// An object. serde would also accept a list and assign its items to fields by position.
pub(crate) fn section<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct SectionVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields))
        }
    }

    deserializer.deserialize_map(SectionVisitor(PhantomData))
}

/// An integer from `LEAST` to `MOST`.
pub(crate) fn number<'de, const LEAST: i64, const MOST: i64, T, D>(
    deserializer: D,
) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    struct InRange<T, const LEAST: i64, const MOST: i64>(PhantomData<T>);

    impl<T: TryFrom<i64>, const LEAST: i64, const MOST: i64> Visitor<'_> for InRange<T, LEAST, MOST> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number from {LEAST} to {MOST}")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            let fits = Some(number).filter(|number| (LEAST..=MOST).contains(number));
            fits.and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            match i64::try_from(number) {
                Ok(number) => self.visit_i64(number),
                Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
            }
        }
    }

    deserializer.deserialize_i64(InRange::<T, LEAST, MOST>(PhantomData))
}

/// An optional integer from `LEAST` to `MOST`.
pub(crate) fn optional_number<'de, const LEAST: i64, const MOST: i64, T, D>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    number::<LEAST, MOST, T, D>(deserializer).map(Some)
}

/// A value as a string; empty if there is none.
pub(crate) fn text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str(""),
    }
}

/// A path. Invalid Unicode is replaced.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// An IP address.
pub(crate) fn ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    optional(deserializer, parse_bind_address)
}

/// `IP` or `IP:PORT`.
pub(crate) fn address<'de, const DEFAULT_PORT: u16, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BindAddress>, D::Error> {
    optional(deserializer, |text| BindAddress::parse(text, DEFAULT_PORT))
}

/// The name of an interface, or a prefix of one.
pub(crate) fn interface<'de, const LONGEST: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    optional(deserializer, |text| parse_interface(text, LONGEST))
}

/// One of several names; an empty string means the default.
pub(crate) mod choice {
    use super::{Deserializer, NamedChoice, Serializer, optional};

    pub(crate) fn deserialize<'de, T: NamedChoice, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        optional(deserializer, T::parse).map(Option::unwrap_or_default)
    }

    pub(crate) fn serialize<T: NamedChoice, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_str())
    }
}

/// The same, where the default depends on other things.
pub(crate) mod optional_choice {
    use super::{Deserializer, NamedChoice, Serializer, optional};

    pub(crate) fn deserialize<'de, T: NamedChoice, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        optional(deserializer, T::parse)
    }

    pub(crate) fn serialize<T: NamedChoice, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.map(T::as_str).unwrap_or_default())
    }
}

/// A duration in Go's form.
pub(crate) mod duration {
    use serde::Deserialize;

    use super::{Deserializer, Duration, Error, Serializer, format_duration, parse_duration};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*value))
    }
}

/// A duration in Go's form; zero means the default, as in kube-proxy.
pub(crate) mod period {
    use super::{Deserializer, Duration, Serializer, duration};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(|period| Some(period).filter(|p| !p.is_zero()))
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration::serialize(&value.unwrap_or_default(), serializer)
    }
}

/// One network, or one per family, comma-separated.
pub(crate) mod cluster_cidrs {
    use super::{Deserializer, IpNet, Serializer, optional, parse_cluster_cidrs};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<IpNet>, D::Error> {
        optional(deserializer, parse_cluster_cidrs).map(Option::unwrap_or_default)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &[IpNet],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = value.iter().map(ToString::to_string).collect();
        serializer.serialize_str(&texts.join(","))
    }
}

/// Media types, comma-separated.
pub(crate) mod content_types {
    use super::{Deserializer, NamedChoice, Serializer, optional, parse_content_types};
    use crate::content_type::ContentType;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<ContentType>, D::Error> {
        optional(deserializer, parse_content_types).map(Option::unwrap_or_default)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &[ContentType],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names: Vec<&str> = value.iter().map(|of| of.as_str()).collect();
        serializer.serialize_str(&names.join(","))
    }
}

/// A list of networks, or only the word `primary`.
pub(crate) mod node_port_addresses {
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Error, Serializer};
    use crate::node_port_addresses::NodePortAddresses;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<NodePortAddresses, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        NodePortAddresses::parse(texts.iter().map(String::as_str)).map_err(D::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &NodePortAddresses,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = match value {
            NodePortAddresses::Unset => Vec::new(),
            NodePortAddresses::Primary => vec!["primary".to_owned()],
            NodePortAddresses::Networks(networks) => {
                networks.iter().map(ToString::to_string).collect()
            }
        };
        texts.serialize(serializer)
    }
}

/// A list of networks, or only the word `all` or `none`.
pub(crate) mod external_ips {
    use rulegen_model::ExternalIps;
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Error, Serializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ExternalIps>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let external_ips = ExternalIps::parse(texts.iter().map(String::as_str));
        external_ips.map(Some).map_err(D::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<ExternalIps>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Option<Vec<String>> = value.as_ref().map(|value| match value {
            ExternalIps::All => vec!["all".to_owned()],
            ExternalIps::None => vec!["none".to_owned()],
            ExternalIps::Within(networks) => networks.iter().map(ToString::to_string).collect(),
        });
        texts.serialize(serializer)
    }
}
