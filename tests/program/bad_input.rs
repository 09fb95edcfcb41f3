//! Invalid input: each case has exactly one message. An invalid object affects only itself; a document
//! that cannot be read makes the whole input unusable. The table of cases is `bad-input.txt`; cases
//! that do not fit into the table are here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::common::{Scratch, UNUSABLE, good_path, is_compiled, rulegen, stderr, stdout};

#[test]
fn manifest_document_over_size_limit_is_an_error() {
    let scratch = Scratch::new("large");
    let mut text =
        String::from("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: large\ndata:\n  blob: ");
    text.push_str(&"x".repeat(200 << 20));
    text.push_str("\n---\n");
    text.push_str(&good_text());
    let file = scratch.write("large.yaml", text);
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
    let message = "document too large: 200 MiB (limit 160 MiB), split it";
    assert_unusable(&output, &format!("error: {file}: {message}\n"));
}

#[test]
fn manifest_file_unreadable_is_an_error() {
    let scratch = Scratch::new("unreadable");
    let good = good_path();
    let missing = scratch.0.join("missing.yaml").to_str().unwrap().to_owned();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &missing, "-f", &good]);
    let message = "cannot read file: No such file or directory (os error 2)";
    assert_unusable(&output, &format!("error: {missing}: {message}\n"));

    // Root can read files of any mode, so the unreadable file is one of /proc.
    let refusing = "/proc/self/mem";
    let output = rulegen(&scratch.0, &["--dry-run", "-f", refusing, "-f", &good]);
    assert!(
        stderr(&output).starts_with("error: /proc/self/mem: cannot read file: "),
        "{}",
        stderr(&output)
    );
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
}

#[test]
fn configuration_unreadable_is_an_error() {
    let scratch = Scratch::new("unreadable-config");
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &good_path(), "--config", "none.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("none.yaml: cannot read the configuration"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn manifest_file_empty_is_an_error() {
    let scratch = Scratch::new("empty");
    let file = scratch.write("empty.yaml", "");
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
    assert_unusable(&output, &format!("error: {file}: empty input\n"));
}

#[test]
fn manifest_folder_empty_is_an_error() {
    let scratch = Scratch::new("empty-folder");
    let folder = scratch.0.to_str().unwrap();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", folder, "-f", &good_path()]);
    assert_unusable(
        &output,
        &format!("error: {folder}: no *.yaml, *.yml or *.json file in this folder\n"),
    );
}

#[test]
fn manifest_binary_utf16_or_gzip_is_an_error() {
    let scratch = Scratch::new("junk");
    let mut junk = vec![0x7f, b'E', b'L', b'F', 0, 0xff, 0xfe, 0x80];
    junk.extend((0..=255).cycle().take(100_000));
    let wide = |mark: &[u8], order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = good_text();
        mark.iter().copied().chain(text.encode_utf16().flat_map(order)).collect()
    };
    let little: fn(u16) -> [u8; 2] = u16::to_le_bytes;
    let big: fn(u16) -> [u8; 2] = u16::to_be_bytes;
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0xaa; 100]].concat();
    for (bytes, message) in [
        (junk, "binary file, not text"),
        (b"kind: \xff".to_vec(), "not text: byte 6 is not UTF-8"),
        (b"kind: \0\0\0".to_vec(), "binary file, not text"),
        (gzip, "compressed with gzip: decompress it first (gzip -dc FILE | rulegen -f -)"),
        (
            wide(&[0xff, 0xfe], little),
            "unsupported encoding UTF-16 (byte order mark FF FE), probably",
        ),
        (wide(&[0xfe, 0xff], big), "unsupported encoding UTF-16 (byte order mark FE FF), probably"),
        (wide(&[], little), "unsupported encoding UTF-16, probably"),
        (wide(&[], big), "unsupported encoding UTF-16, probably"),
    ] {
        let file = scratch.write("junk.yaml", bytes);
        let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
        let start = format!("error: {file}: {message}");
        assert!(stderr(&output).starts_with(&start), "{start}: {}", stderr(&output));
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{message}");
    }
}

#[test]
fn manifest_with_utf8_bom_or_crlf_is_accepted() {
    let scratch = Scratch::new("windows");
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;
    for text in [
        format!("\u{feff}{}", good_text()),
        good_text().replace('\n', "\r\n"),
        format!("\u{feff}{json}\r\n---\r\n{}", good_text()),
    ] {
        let file = scratch.write("windows.yaml", &text);
        let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
        assert_eq!(stderr(&output), "");
        assert_compiled(&stdout(&output), &text);
    }
}

/// An empty List is what kubectl prints for a mistyped namespace.
#[test]
fn manifest_without_service_needs_allow_empty() {
    let scratch = Scratch::new("no-service");
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;
    let node = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}"#;
    for text in [list.to_owned(), format!("{list}\n{node}")] {
        let file = scratch.write("empty.json", text);
        for command in [&["--dry-run"][..], &["apply"], &["list", "--dry-run"], &["doctor"]] {
            let output = rulegen(&scratch.0, &[command, &["-f", &file]].concat());
            assert_eq!(output.status.code(), Some(1), "{command:?}");
            assert_eq!(stdout(&output), "", "{command:?}");
            assert!(stderr(&output).contains("no Service in the input"), "{}", stderr(&output));
        }
        assert_eq!(rulegen(&scratch.0, &["diff", "-f", &file]).status.code(), Some(2));
        let output = rulegen(&scratch.0, &["--dry-run", "--allow-empty", "-f", &file]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains(":KUBE-SERVICES"), "{}", stdout(&output));
    }
    // explain also works on a node without Services.
    let explain = |text: &str| {
        let file = scratch.write("explain.json", text);
        let packet = ["explain", "--from", "192.0.2.1", "--to", "192.0.2.2:80", "-f", &file];
        rulegen(&scratch.0, &packet).status.code()
    };
    assert_eq!((explain(list), explain(node)), (Some(1), Some(0)));
}

/// One warning, regardless of the number of Services.
#[test]
fn manifest_of_services_without_endpoint_slices_gets_one_warning() {
    let scratch = Scratch::new("no-slices");
    let service = |n: usize| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\n\
             spec: {{clusterIP: 10.96.0.{n}, ports: [{{port: 80}}]}}\n"
        )
    };
    let file = scratch.write("services.yaml", [1, 2, 3].map(service).concat());
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
    let messages = stderr(&output);
    assert!(output.status.success(), "{messages}");
    assert_eq!(messages.lines().count(), 1, "{messages}");
    assert!(
        messages.contains("kubectl get nodes,services,endpointslices -A -o json"),
        "{messages}"
    );
    assert!(stdout(&output).contains("has no endpoints"), "{}", stdout(&output));
}

#[test]
fn strict_flag_turns_warning_into_failure_and_prints_rules() {
    let scratch = Scratch::new("strict");
    let file = scratch.write("old.yaml", "{apiVersion: v2, kind: Service, metadata: {name: old}}");
    let output = rulegen(&scratch.0, &["--dry-run", "--strict", "-f", &file, "-f", &good_path()]);
    assert_eq!(output.status.code(), Some(1));
    assert_compiled(&stdout(&output), "strict");
}

#[test]
fn apply_refuses_incomplete_input() {
    // Refused before it looks for iptables, so nothing in the kernel is changed.
    let scratch = Scratch::new("incomplete");
    let folder = scratch.0.join("folder");
    fs::create_dir(&folder).unwrap();
    let empty = scratch.write("empty.yaml", "");
    let cut = scratch
        .write("cut.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\":");
    let broken = scratch.write("broken.yaml", format!("{}---\na: [\n", good_text()));
    let junk = scratch.write("junk.yaml", [0xff; 9]);
    let comments = scratch.write("comments.yaml", "# soon\n");
    let folder = folder.to_str().unwrap();
    for input in ["missing.yaml", folder, &empty, &cut, &broken, &junk, &comments, "-"] {
        let output = rulegen(&scratch.0, &["apply", "-f", input, "-f", &good_path()]);
        assert_eq!(output.status.code(), Some(1), "{input}");
        assert!(stderr(&output).contains("nothing is applied"), "{input}: {}", stderr(&output));
    }
}

#[test]
fn manifest_deeply_nested_does_not_overflow_the_stack() {
    let scratch = Scratch::new("deep");
    for (name, unit) in [
        ("lists.json", "{\"a\":["),
        ("flow.yaml", "["),
        ("maps.yaml", "{a: "),
        ("block.yaml", "- "),
    ] {
        let file = scratch.write(name, unit.repeat(100_000));
        let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        let start = format!("error: {file}: ");
        assert!(stderr(&output).starts_with(&start), "{name}: {}", stderr(&output));
    }
}

#[test]
fn manifest_without_read_permission_is_an_error_except_for_root() {
    let scratch = Scratch::new("permission");
    let file = scratch.write("secret.yaml", good_text());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
    if output.status.success() {
        assert_compiled(&stdout(&output), "root");
    } else {
        assert!(
            stderr(&output).contains("cannot read file: Permission denied"),
            "{}",
            stderr(&output)
        );
    }
}

fn assert_unusable(output: &Output, message: &str) {
    assert_eq!(stderr(output), format!("{message}{UNUSABLE}\n"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(output), "");
}

fn good_text() -> String {
    fs::read_to_string(good_path()).unwrap()
}

fn assert_compiled(rules: &str, what: &str) {
    assert!(is_compiled(rules), "default/good is missing with {what}");
}
