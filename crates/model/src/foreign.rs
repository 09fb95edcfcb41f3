//! Guesses the format of unreadable documents, for an error message that says what to do.

use crate::complete::FETCH;

/// Recognises common formats that are not UTF-8.
pub(crate) fn recognise_bytes(bytes: &[u8]) -> Option<String> {
    let packed = |what: &str, unpack: &str| {
        Some(format!("compressed with {what}: decompress it first ({unpack})"))
    };
    match bytes {
        [0x1f, 0x8b, ..] => packed("gzip", "gzip -dc FILE | rulegen -f -"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => packed("zstd", "zstd -dc FILE | rulegen -f -"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => packed("xz", "xz -dc FILE | rulegen -f -"),
        [b'B', b'Z', b'h', ..] => packed("bzip2", "bzip2 -dc FILE | rulegen -f -"),
        [b'P', b'K', 3, 4, ..] => packed("zip", "unzip -p FILE | rulegen -f -"),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some(wide("UTF-32", "")),
        [0xff, 0xfe, ..] => Some(wide("UTF-16", " (byte order mark FF FE)")),
        [0xfe, 0xff, ..] => Some(wide("UTF-16", " (byte order mark FE FF)")),
        _ => without_mark(bytes),
    }
}

fn wide(encoding: &str, mark: &str) -> String {
    format!(
        "unsupported encoding {encoding}{mark}, probably from `>` in Windows PowerShell: use UTF-8 \
         (`kubectl … | Out-File -Encoding utf8 FILE`, or `iconv -f {encoding} -t UTF-8 FILE`)"
    )
}

/// ASCII in UTF-16 has a zero in every other byte.
fn without_mark(bytes: &[u8]) -> Option<String> {
    match bytes {
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a != 0 && *b != 0 => Some(wide("UTF-16", "")),
        _ => bytes.contains(&0).then(|| "binary file, not text".to_owned()),
    }
}

/// Recognises API responses that hold no objects. `None` for other kinds.
pub(crate) fn instead_of_objects(api_version: &str, kind: &str) -> Option<String> {
    let instead = match (api_version, kind) {
        ("v1", "Status") => return Some("error from the API server".to_owned()),
        (version, "Table") if version.starts_with("meta.k8s.io/") => "a Table, not objects",
        (version, kind)
            if version.starts_with("meta.k8s.io/") && kind.starts_with("PartialObjectMetadata") =>
        {
            "only the metadata of objects"
        }
        _ => return None,
    };
    Some(format!("{instead}: use the output of `{FETCH}`"))
}

/// Recognises text that is not a manifest.
pub(crate) fn recognise(text: &str) -> Option<String> {
    let first = text.lines().find(|line| !line.trim().is_empty())?.trim();
    let fetch = format!("use the output of `{FETCH}`");
    if text.contains('\0') {
        return without_mark(text.as_bytes());
    }
    if is_html(first) {
        return Some(format!("HTML, for example a proxy's login page: {fetch}"));
    }
    if is_message(first) {
        return Some(format!(
            "starts with a message from kubectl, {first:?}: fix its cause, and do not redirect \
             standard error into the input (2>&1)"
        ));
    }
    if is_table(first) {
        return Some(format!("the table output of kubectl: {fetch}"));
    }
    if text.split_whitespace().all(is_resource_name) {
        return Some(format!("only names of objects, as from `kubectl get -o name`: {fetch}"));
    }
    if first.starts_with("Name:") && text.lines().any(|line| line.starts_with("Namespace:")) {
        return Some(format!("the output of `kubectl describe`: {fetch}"));
    }
    if is_base64(text) {
        return Some("looks like base64: decode it first (base64 -d)".to_owned());
    }
    let is_template = text.contains("{{") && text.contains("}}");
    is_template.then(|| {
        "contains template markers {{ }}: render it first, for example with `helm template`"
            .to_owned()
    })
}

fn is_html(first: &str) -> bool {
    let first: String = first.chars().take(16).flat_map(char::to_lowercase).collect();
    ["<!doctype", "<html", "<head", "<?xml"].iter().any(|start| first.starts_with(start))
}

fn is_message(first: &str) -> bool {
    let starts = [
        "Error from server",
        "error: ",
        "Error: ",
        "Unable to connect to the server",
        "The connection to the server",
        "No resources found",
        "Warning: ",
        "Unable to use a TTY",
    ];
    starts.iter().any(|start| first.starts_with(start)) || is_klog(first)
}

/// A klog line starts with severity and date: `E1127 03:57:10.123456`.
fn is_klog(first: &str) -> bool {
    let Some((head, rest)) = first.split_once(' ') else { return false };
    let mut letters = head.chars();
    letters.next().is_some_and(|letter| "IWEF".contains(letter))
        && head.len() == 5
        && letters.all(|digit| digit.is_ascii_digit())
        && rest.starts_with(|digit: char| digit.is_ascii_digit())
}

/// Recognises the header of kubectl's table, or a row (--no-headers).
fn is_table(first: &str) -> bool {
    let words: Vec<&str> = first.split_whitespace().collect();
    let is_heading =
        |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase() || !b.is_ascii_alphabetic());
    let is_cell = |word: &&str| {
        matches!(*word, "<none>" | "<unset>" | "ClusterIP" | "NodePort" | "LoadBalancer")
            || word.ends_with("/TCP")
            || word.ends_with("/UDP")
    };
    let is_named = matches!(words.first(), Some(&("NAME" | "NAMESPACE")));
    (is_named && words.iter().all(is_heading))
        || (words.len() > 3 && !first.contains(": ") && words.iter().any(is_cell))
}

/// `service/web`, `endpointslice.discovery.k8s.io/web-x7k2p`.
fn is_resource_name(word: &str) -> bool {
    let fits = |part: &str| {
        let is_of_name =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !part.is_empty() && part.bytes().all(is_of_name)
    };
    word.split_once('/').is_some_and(|(kind, name)| fits(kind) && fits(name))
}

/// Long enough not to be a word.
const BASE64_BYTES: usize = 40;

fn is_base64(text: &str) -> bool {
    let text = text.trim();
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    text.len() >= BASE64_BYTES
        && !text.contains(' ')
        && text.bytes().all(|b| is_digit(b) || matches!(b, b'\r' | b'\n'))
}
