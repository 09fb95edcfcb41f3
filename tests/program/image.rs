//! `deploy/Containerfile` builds the program and the image that `ci/static` and `ci/image` make.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::common::root;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap().replace("\\\n", " ")
}

/// The only text between two others.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let mut found = text.split(start).skip(1);
    let (Some(rest), None) = (found.next(), found.next()) else { panic!("{start} once") };
    rest.split_once(end).unwrap().0
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

/// Compiler flags, each with its value.
fn flags(script: &str) -> BTreeSet<String> {
    let flags = between(script, "RUSTFLAGS=\"", "\"").replace("-C ", "-C=");
    flags.split_whitespace().map(str::to_owned).collect()
}

/// For debug information in a file of its own, and equal bytes in each folder.
const ONLY_IN_RELEASES: [&str; 4] = [
    "--remap-path-prefix=$cargo_home=/cargo",
    "--remap-path-prefix=$folder=/rulegen",
    "-C=link-arg=-Wl,--build-id=sha1",
    "-C=llvm-args=-force-dwarf-frame-section",
];

#[test]
fn containerfile_builds_with_the_packages_and_flags_of_ci_static() {
    let (script, file) = (read("ci/static"), read("deploy/Containerfile"));
    let suite = between(&script, "\nsuite=", "\n");
    assert!(file.contains(&format!("FROM docker.io/library/debian:{suite}-slim AS build")));

    let (build, _) = file.split_once(" AS rulegen-iptables").unwrap();
    let installed = words(between(build, "--no-install-recommends", "&&"));
    let mut wanted = words(between(&script, "\npackages=\"", "\""));
    // Docker builds for the machine's own architecture.
    wanted.retain(|package| !package.ends_with(":arm64") && !package.contains("aarch64"));
    // To fetch the crates, which ci/static does outside.
    wanted.insert("ca-certificates");
    assert_eq!(installed, wanted);

    let (mut of_release, of_image) = (flags(&script), flags(&file));
    for flag in ONLY_IN_RELEASES {
        assert!(of_release.remove(flag), "{flag}");
    }
    assert_eq!(of_image, of_release);
    assert!(of_image.len() > 4, "{of_image:?}");

    for text in [&script, &file] {
        assert!(text.contains("PKG_CONFIG_ALL_STATIC=1"));
        let command = between(text, "cargo build ", "\n").split("&&").next().unwrap();
        let mut arguments = words(command);
        arguments.retain(|word| !["--offline", "--quiet", "\"$target\""].contains(word));
        arguments.retain(|word| !word.contains("uname") && *word != "-m)-unknown-linux-gnu\"");
        assert_eq!(
            arguments,
            BTreeSet::from(["--locked", "--release", "--target", "-p", "rulegen"])
        );
    }
    assert!(script.contains("target=$1-unknown-linux-gnu\n"));
    assert!(script.contains("build x86_64 amd64\nbuild aarch64 arm64\n"));
    assert!(file.contains("--target \"$(uname -m)-unknown-linux-gnu\""));
}

#[test]
fn containerfile_image_has_the_configuration_of_ci_image() {
    let (script, file) = (read("ci/image"), read("deploy/Containerfile"));
    let config: Value =
        serde_json::from_str(&format!("{{{}}}", between(&script, "\n  \"config\": {", "\n  },")))
            .unwrap();
    let (_, stage) = file.split_once("FROM scratch AS rulegen\n").unwrap();
    let line = |name: &str| -> &str {
        let line = stage.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}")).strip_prefix(name).unwrap().trim()
    };
    for (name, field) in [("ENTRYPOINT", "Entrypoint"), ("CMD", "Cmd")] {
        assert_eq!(serde_json::from_str::<Value>(line(name)).unwrap(), config[field], "{name}");
    }
    let environment = config["Env"].as_array().unwrap();
    assert_eq!(environment.len(), 1);
    assert_eq!(environment[0], line("ENV"));
    let labels = line("LABEL");
    for (label, value) in config["Labels"].as_object().unwrap() {
        let value = match value.as_str().unwrap() {
            "$version" => "${VERSION}",
            "$commit" => "${REVISION}",
            text => text,
        };
        assert!(labels.contains(&format!("{label}=\"{value}\"")), "{label}: {labels}");
    }
    assert_eq!(labels.matches("org.opencontainers.image.").count(), 5);
    // The program is the only file, at the same place with the same mode.
    assert_eq!(line("COPY"), "--from=build /out/ /");
    let [program, mode] = ["/usr/bin/rulegen", "install -D"];
    assert!(between(&file, mode, "\n").ends_with(&format!("/out{program}")));
    assert!(between(&script, mode, "\n").contains(&format!("\"$files{program}\"")));
    let versions: BTreeSet<&str> =
        file.lines().filter_map(|line| line.strip_prefix("ARG VERSION=")).collect();
    assert_eq!(versions, BTreeSet::from([env!("CARGO_PKG_VERSION")]));
}
