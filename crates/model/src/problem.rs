//! Problems with the input, for the user.

use std::fmt;
use std::sync::Arc;

use crate::problem_code::ProblemCode;

/// The source of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The file as the user named it, `-` for standard input.
    pub file: Arc<str>,
    /// Number of the document in the file, starting at 1.
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

/// Kind and name of an object: `Service default/web`, `Node node-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `Service`, `EndpointSlice`, `Node`, …
    pub kind: &'static str,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Empty if the object has no name.
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

/// Severity of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Not a fault, but worth knowing, for example a headless Service without rules.
    Note,
    /// An object or field was skipped and the rest is compiled; or it is used, but probably wrong.
    Warning,
    /// A document could not be read, or there is no Service. The input is not the complete desired
    /// state. It must not be applied, because Services would lose their rules.
    Incomplete,
    /// A file or setting could not be used. The input must not be applied.
    Error,
}

/// A problem with the input: its place, object, field and reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Whether the input may be applied all the same.
    pub severity: Severity,
    /// The file and document, if known.
    pub source: Option<Source>,
    /// The line in the file, from 1, of a document that cannot be read.
    pub line: Option<usize>,
    /// The object, if known.
    pub object: Option<ObjectName>,
    /// Path of the field: `spec.ports[0].port`.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
    /// Its kind; `None` for problems of the configuration and the command line.
    pub code: Option<ProblemCode>,
}

impl Problem {
    /// A warning about a field of an object.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message).field(field)
    }

    /// A problem without place, object and field.
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity, source: None, line: None, object: None, field: None, message, code: None }
    }

    /// Whether it is a note about a Service that needs no rules: a cluster has many of these.
    pub fn is_service_without_rules(&self) -> bool {
        self.severity == Severity::Note && self.code == Some(ProblemCode::NeedsNoRules)
    }

    /// The field with control characters escaped, cut at 400 characters: for a log or a terminal.
    pub fn shown_field(&self) -> Option<String> {
        self.field.as_ref().map(|field| Printable(field).to_string())
    }

    /// The message with control characters escaped, cut at 400 characters: for a log or a terminal.
    pub fn shown_message(&self) -> String {
        Printable(&self.message).to_string()
    }

    /// Sets the field.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into()).filter(|field| !field.is_empty() && field != ".");
        self
    }

    /// Sets the code.
    pub fn code(mut self, code: ProblemCode) -> Self {
        self.code = Some(code);
        self
    }

    /// Sets source and object.
    pub fn of(self, source: &Source, object: &ObjectName) -> Self {
        self.at(source).about(object)
    }

    /// Sets the object.
    pub fn about(mut self, object: &ObjectName) -> Self {
        self.object = Some(object.clone());
        self
    }

    /// Sets the source.
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

/// Collects the problems of one object.
pub(crate) struct ProblemCollector<'a> {
    /// Source of the object, if it was read from a file.
    pub(crate) source: Option<&'a Source>,
    pub(crate) object: &'a ObjectName,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl ProblemCollector<'_> {
    /// Warns about a field.
    pub(crate) fn warn(
        &mut self,
        code: ProblemCode,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.push(Problem::warning(field, message).code(code));
    }

    /// Adds a note about the object.
    pub(crate) fn note(&mut self, code: ProblemCode, message: impl Into<String>) {
        self.push(Problem::new(Severity::Note, message).code(code));
    }

    /// Adds a note about a field.
    pub(crate) fn note_of(
        &mut self,
        code: ProblemCode,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.push(Problem::new(Severity::Note, message).field(field).code(code));
    }

    fn push(&mut self, problem: Problem) {
        let problem = problem.about(self.object);
        self.problems.push(Problem { source: self.source.cloned(), ..problem });
    }

    /// Returns the value; warns about its field if it is missing.
    pub(crate) fn need<T>(
        &mut self,
        value: Option<T>,
        code: ProblemCode,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Option<T> {
        if value.is_none() {
            self.warn(code, field, message);
        }
        value
    }
}

/// Text from an object, safe for a terminal: control characters are escaped and long text is cut.
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

/// Control characters and those that change the text direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_names_file_object_and_field_and_escapes() {
        let source = Source { file: "a\x1b[31m.yaml".into(), document: 3 };
        let object =
            ObjectName { kind: "Service", namespace: "default".into(), name: "w\neb".into() };
        let problem = Problem::warning("spec.ports[0].port", "invalid port 0").of(&source, &object);
        assert_eq!(
            problem.to_string(),
            "a\\u{1b}[31m.yaml (document 3): Service default/w\\neb: spec.ports[0].port: invalid port 0"
        );
    }
}
