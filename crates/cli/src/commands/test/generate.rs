//! `rulegen test --generate`: writes tests that a cluster passes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rulegen_model::write_yaml;
use rulegen_packet_tests::{GeneratedTests, InputFiles, generate};

use super::inputs::InputReader;
use crate::args::TestArgs;
use crate::commands::print;
use crate::plural::counted;
use crate::problems::{self, say};

pub(super) fn run(args: &TestArgs) -> Result<()> {
    let [file] = args.files.as_slice() else { bail!("--generate writes one file: give one FILE") };
    if args.filename.iter().any(|path| path.as_os_str() == "-") {
        bail!("-f -: the test file names its manifests, so write standard input to a file first");
    }
    let mut files = InputFiles {
        manifests: args.filename.iter().map(|path| path.display().to_string()).collect(),
        config: args.config.as_ref().map(|path| path.display().to_string()),
        configuration: None,
        node: args.hostname_override.clone(),
    };
    let mut reader = InputReader::default();
    let inputs = match reader.load(&files, Path::new("")) {
        Ok(inputs) => inputs,
        Err(problems) => {
            let lines: Vec<String> = problems.into_iter().map(|of| of.message).collect();
            bail!("{}", lines.join("\n"));
        }
    };
    problems::print(&reader.warnings);
    let is_printed = file.as_os_str() == "-";
    if !is_printed {
        let folder = file.parent().unwrap_or(Path::new(""));
        for path in files.manifests.iter_mut().chain(&mut files.config) {
            *path = seen_from(folder, Path::new(path))?.display().to_string();
        }
    }
    let GeneratedTests { tests, left_out } = match generate(&inputs, files) {
        Ok(generated) => generated,
        Err(problem) => bail!("{}: set --hostname-override", problem.message),
    };
    if tests.cases.is_empty() {
        bail!("the manifests have no Service with rules, so there is nothing to test");
    }
    left_out.iter().for_each(|case| say(&format!("note: no test for {case}")));
    let mut text = Vec::new();
    write_yaml(&mut text, &tests).context("cannot write the tests as YAML")?;
    if is_printed {
        return print(&String::from_utf8_lossy(&text));
    }
    write_new(file, &text)?;
    say(&format!("{}: {} written", file.display(), counted(tests.cases.len(), "case")));
    Ok(())
}

fn write_new(file: &Path, text: &[u8]) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let mut out = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists: remove it, or choose another name", file.display())
        }
        opened => opened.with_context(|| format!("{}: cannot write file", file.display()))?,
    };
    out.write_all(text).with_context(|| format!("{}: cannot write file", file.display()))
}

/// A path relative to the working directory, as a path relative to a folder.
fn seen_from(folder: &Path, path: &Path) -> Result<PathBuf> {
    if path.is_absolute() || folder.as_os_str().is_empty() {
        return Ok(path.to_owned());
    }
    let real = |path: &Path| {
        path.canonicalize().with_context(|| format!("{}: cannot find it", path.display()))
    };
    Ok(relative(&real(folder)?, &real(path)?))
}

/// The way from a folder to a path. Both are absolute.
fn relative(folder: &Path, path: &Path) -> PathBuf {
    let common = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_relative_to_a_folder() {
        let way = |folder: &str, path: &str| relative(Path::new(folder), Path::new(path));
        assert_eq!(way("/a/b", "/a/b/c.yaml"), Path::new("c.yaml"));
        assert_eq!(way("/a/b/d", "/a/c/e.yaml"), Path::new("../../c/e.yaml"));
    }
}
