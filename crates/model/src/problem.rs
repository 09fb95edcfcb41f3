//! What was wrong with the input, said so that a person can mend it.

use std::fmt;
use std::sync::Arc;

/// Where an object was read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The file as the user named it, `-` for standard input.
    pub file: Arc<str>,
    /// Which document of the file, counted from 1.
    pub document: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(&self.file))?;
        if self.document > 1 {
            write!(f, " (document {})", self.document)?;
        }
        Ok(())
    }
}

/// What an object is called: `Service default/web`, or `Node node-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `Service`, `EndpointSlice`, `Node`, …
    pub kind: &'static str,
    /// Empty for what is not in a namespace.
    pub namespace: String,
    /// Empty where the object has none, which is a problem of its own.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => Ok(()),
            ("", name) => write!(f, " {}", Printable(name)),
            (namespace, "") => write!(f, " {}/(no name)", Printable(namespace)),
            (namespace, name) => write!(f, " {}/{}", Printable(namespace), Printable(name)),
        }
    }
}

/// How much a [`Problem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong, but a user may wonder: a headless Service makes no rules.
    Note,
    /// Something was left out, and the rest is compiled as if it were absent; or it is used, but
    /// is probably a mistake.
    Warning,
    /// A whole document could not be read, or no Service is there at all: the rest is not the
    /// whole wanted state, so it must not be applied, for it might take away what works.
    Unread,
    /// A file or setting could not be used at all: the same, and it is a failure.
    Error,
}

/// One thing that is wrong with the input: where, with what, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The file and document, where known.
    pub source: Option<Source>,
    /// The object, where it could be told.
    pub object: Option<ObjectName>,
    /// The field in the object's own words: `spec.ports[0].port`.
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A warning about a field of an object.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message).field(field)
    }

    /// A problem of a severity, without a place yet.
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, source: None, object: None, field: None, message: message.into() }
    }

    /// The same problem, of this field.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into()).filter(|field| !field.is_empty() && field != ".");
        self
    }

    /// The same problem, of this object read from there.
    pub fn of(self, source: &Source, object: &ObjectName) -> Self {
        self.at(source).about(object)
    }

    /// The same problem, of this object.
    pub fn about(mut self, object: &ObjectName) -> Self {
        self.object = Some(object.clone());
        self
    }

    /// The same problem, in a place where no object can be told.
    pub fn at(mut self, source: &Source) -> Self {
        self.source = Some(source.clone());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{}: ", Printable(field))?;
        }
        write!(f, "{}", Printable(&self.message))
    }
}

/// Collects what is wrong with one object while it is read.
pub(crate) struct Report<'a> {
    /// Where it was read, if from a file.
    pub(crate) source: Option<&'a Source>,
    pub(crate) object: &'a ObjectName,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    /// A field is unusable and left out.
    pub(crate) fn warn(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(Problem::warning(field, message));
    }

    /// Nothing is wrong, but the user may wonder.
    pub(crate) fn note(&mut self, message: impl Into<String>) {
        self.push(Problem::new(Severity::Note, message));
    }

    /// The same of a field.
    pub(crate) fn note_of(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(Problem::new(Severity::Note, message).field(field));
    }

    fn push(&mut self, problem: Problem) {
        let problem = problem.about(self.object);
        self.problems.push(Problem { source: self.source.cloned(), ..problem });
    }

    /// The value if there is one, else a warning about the field it should have come from.
    pub(crate) fn need<T>(
        &mut self,
        value: Option<T>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Option<T> {
        if value.is_none() {
            self.warn(field, message);
        }
        value
    }
}

/// Text from an object, made safe for a terminal: control characters are escaped and what is
/// long is cut, since a manifest may hold anything.
struct Printable<'a>(&'a str);

const PRINTED_CHARACTERS: usize = 400;

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, c) in self.0.chars().enumerate() {
            if n == PRINTED_CHARACTERS {
                return write!(f, "…");
            }
            if is_unprintable(c) { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// Control characters, and those that turn the direction of what follows.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_file_object_and_field_and_escapes() {
        let source = Source { file: "a\x1b[31m.yaml".into(), document: 3 };
        let object =
            ObjectName { kind: "Service", namespace: "default".into(), name: "w\neb".into() };
        let problem = Problem::warning("spec.ports[0].port", "0 is no port").of(&source, &object);
        assert_eq!(
            problem.to_string(),
            "a\\u{1b}[31m.yaml (document 3): Service default/w\\neb: spec.ports[0].port: 0 is no port"
        );
    }
}
