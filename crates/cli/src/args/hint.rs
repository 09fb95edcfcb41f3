//! Hints for wrong command lines that clap cannot give.

use std::path::Path;

use clap::Error;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rulegen_model::is_manifest;

/// Adds a hint if a manifest is given without -f.
pub(crate) fn with_hint(mut error: Error) -> Error {
    let (kind, is_command) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, true),
        ErrorKind::ArgumentConflict => (ContextKind::InvalidSubcommand, false),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, false),
        _ => return error,
    };
    let Some(ContextValue::String(given)) = error.get(kind) else { return error };
    if !is_manifest_path(given) {
        return error;
    }
    let hints = match is_command {
        true => vec![
            format!("to apply manifests, use 'rulegen apply -f {given}'"),
            format!("to show the changes, use 'rulegen diff -f {given}'"),
            format!("to print the rules, use 'rulegen --dry-run -f {given}'"),
        ],
        false => vec![format!("to read manifests, use '-f {given}', with one -f for each")],
    };
    let hints = hints.into_iter().map(StyledStr::from).collect();
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(hints));
    error
}

fn is_manifest_path(text: &str) -> bool {
    let path = Path::new(text);
    text == "-" || is_manifest(path) || path.exists()
}
