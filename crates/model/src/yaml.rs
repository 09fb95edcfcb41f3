//! YAML for others to read.

use std::io;

use serde::Serialize;

/// Writes a value as one YAML document: the crates above know nothing of YAML.
///
/// # Errors
/// What `out` answers.
pub fn write_yaml(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    use serde_saphyr::ser::Error;
    serde_saphyr::to_io_writer(out, value).map_err(|error| match error {
        Error::IO { error } => error,
        other => io::Error::other(other.to_string()),
    })
}
