//! Parsers for flags with a fixed set of values, and for flags that accept an empty string.

use std::ffi::OsStr;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use rulegen_config::NamedChoice;

/// The value of a flag. Like kube-proxy, an empty string counts as not given.
#[derive(Debug, Clone)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

/// Wraps a parser so that an empty string counts as not given.
pub(super) fn given<T, E>(
    parse: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<Given<T>, E> + Clone {
    move |text| match text {
        "" => Ok(Given(None)),
        text => parse(text).map(Some).map(Given),
    }
}

/// Parses a name of a [`NamedChoice`]. `--help` and completions list the names.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneOf<T>(PhantomData<T>);

pub(super) fn one_of<T>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: NamedChoice + Send + Sync> TypedValueParser for OneOf<T> {
    type Value = Given<T>;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Given<T>, Error> {
        if value.is_empty() {
            return Ok(Given(None));
        }
        if let Some((name, _)) = value.to_str().and_then(|name| Some((name, T::replacement(name)?)))
        {
            let error = T::parse(name).map(|known| Given(Some(known)));
            let parser = StringValueParser::new().try_map(move |_| error.clone());
            return parser.parse_ref(command, argument, value);
        }
        let values = T::ALL.iter().map(|value| {
            let aliases = T::ALIASES.iter().map(|(name, value)| (*name, value.as_str()));
            let of_value = aliases.filter(|(_, of)| *of == value.as_str()).map(|(name, _)| name);
            PossibleValue::new(value.as_str()).aliases(of_value)
        });
        let names = PossibleValuesParser::new(values);
        let name = names.parse_ref(command, argument, value)?;
        Ok(Given(T::parse(&name).ok()))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(T::ALL.iter().map(|value| PossibleValue::new(value.as_str()))))
    }
}
