//! The status page in headless Chromium, in the agent's namespace.
//!
//! A separate target, so that it does not run at the same time as tests that measure time.
//!
//! Screenshots of all pages are kept in `rulegen-status-page` in the system's temporary folder. To
//! make the picture in the documentation: `RULEGEN_STATUS_PAGE_PNG=$PWD/docs/status-page.png cargo
//! test --test browser -- --ignored browser_screenshot_for_documentation`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed test panics and prints"
)]

#[path = "agent/api_server/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target uses only a part")]
mod api_server;
mod common;
#[path = "netns/namespace.rs"]
#[allow(dead_code, reason = "each target uses only a part")]
mod namespace;
#[path = "agent/node.rs"]
#[allow(dead_code, reason = "each target uses only a part")]
mod node;
#[path = "agent/objects.rs"]
#[allow(dead_code, reason = "each target uses only a part")]
mod objects;
#[path = "netns/traffic.rs"]
#[allow(dead_code, reason = "each target uses only a part")]
mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::stderr;
use crate::node::{METRICS_PORT, Node, wait_until};
use crate::objects::{ELSEWHERE, HERE, cluster_ip, local_load_balancer, service, slice};

/// A name that has an effect if it is not escaped. Kubernetes rejects it, but another API server or
/// a manifest may have it.
const MARKUP: &str = "<img src=x onerror=document.title='taken'>";

/// The same as a program name, which has at most 15 characters.
const PROGRAM: &str = "<b id=taken>nft";

/// A browser with a profile that is removed with the namespace.
struct Browser<'a> {
    node: &'a Node,
    profile: PathBuf,
}

impl<'a> Browser<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, profile: node.space.folder("profile") }
    }

    /// The DOM after the page's script has run.
    fn document(&self, path: &str) -> String {
        self.run(path, &["--dump-dom", "--virtual-time-budget=2000"])
    }

    /// Takes a screenshot. Headless Chromium can use any window width.
    fn picture(&self, path: &str, size: (u32, u32), is_dark: bool, file: &Path) {
        let window = format!("--window-size={},{}", size.0, size.1);
        let to = format!("--screenshot={}", file.display());
        let dark: &[&str] = if is_dark { &["--force-dark-mode"] } else { &[] };
        let flags = [&["--hide-scrollbars", &window, &to], dark].concat();
        let _ = fs::remove_file(file);
        self.run(path, &flags);
        assert_eq!(dimensions(&fs::read(file).unwrap()), Some(size), "{}", file.display());
    }

    fn run(&self, path: &str, flags: &[&str]) -> String {
        let name = &self.node.space.name;
        // Chromium does not run as root with its sandbox. The network namespace isolates it
        // instead.
        let output = Command::new("ip")
            .args(["netns", "exec", name, "timeout", "60", "chromium", "--headless"])
            .args(["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .args(flags)
            .arg(format!("http://127.0.0.1:{METRICS_PORT}{path}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let hint = "Chromium is needed (apt-get install chromium)";
        assert!(output.status.success(), "{hint}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Width and height of a PNG.
fn dimensions(png: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    png.starts_with(b"\x89PNG").then_some((number(16)?, number(20)?))
}

/// A cluster with Services in all states that the pages show.
fn apply_cluster(node: &Node) {
    let names = [
        "api",
        "auth",
        "billing",
        "cart",
        "catalog",
        "checkout",
        "email",
        "inventory",
        "ledger",
        "mailer",
        "orders",
        "payments",
        "pricing",
        "profile",
        "search",
        "sessions",
        "shipping",
    ];
    let mut objects: Vec<Value> = Vec::new();
    for (number, name) in (30..).zip(names) {
        objects.extend([service(name, number), slice(name, "a", &[HERE[number % 2], ELSEWHERE])]);
    }
    objects.push(service("empty", 60));
    let mut gateway = local_load_balancer("gateway", 61, 31061);
    gateway["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.0/24", "203.0.113.0/24"]);
    let mut endpoints = slice("gateway", "a", &[HERE[0], ELSEWHERE, "10.244.3.7"]);
    endpoints["endpoints"][2]["conditions"] = json!({"ready": false});
    objects.extend([gateway, endpoints]);
    let mut rejected = service(MARKUP, 62);
    rejected["spec"]["ports"][0]["port"] = 70_000.into();
    objects.push(rejected);
    node.server.apply_many(objects);
    // A history of changes, one after the other.
    for round in 0..30 {
        let address = format!("10.244.1.{}", 100 + round);
        let mut ends = vec![HERE[0]; 1];
        ends.push(&address);
        node.server.apply(slice(names[round % names.len()], "a", &ends));
        wait_until("the page shows a change", || {
            let found = node.get(METRICS_PORT, &format!("/services?q={address}&format=json"));
            found.is_some_and(|found| found.json()["found"] == 1)
        });
    }
}

/// Another program, with markup in its name, changes rules.
fn drift(node: &Node) {
    let folder = node.space.folder("programs");
    let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"]
        .into_iter()
        .find(|nft| Path::new(nft).exists());
    fs::copy(nft.unwrap(), folder.join(PROGRAM)).unwrap();
    let program = folder.join(PROGRAM);
    node.space.run(&format!("'{}' flush chain ip rulegen services", program.display()));
    wait_until("the drift is repaired", || {
        node.get(METRICS_PORT, "/drift?format=json").unwrap().json()["drifts"][0]["repaired"]
            == true
    });
}

/// Opens connections, to have some counted.
fn open_connections(node: &Node) {
    for _ in 0..40 {
        node.ask(61);
    }
}

fn busy_node() -> Node {
    let mut node = Node::new("browser");
    node.start("--nftables-counters");
    wait_until("the rules are written", || node.probe("/readyz") == 200);
    node.wait_for_watches();
    apply_cluster(&node);
    node.serve();
    node
}

/// A packet from outside to the gateway's load balancer.
const EXPLAIN: &str = "/explain?from=203.0.113.9&to=198.51.100.10:80";

#[test]
fn browser_shows_status_pages_and_runs_no_injected_markup() {
    let node = busy_node();
    open_connections(&node);
    drift(&node);
    let browser = Browser::new(&node);
    // Each page, and a text on it.
    let pages = [
        ("/", "In sync"),
        ("/services", "gateway"),
        ("/services?show=no-usable-endpoint", "no endpoints"),
        ("/services/default/gateway", "Clients outside"),
        ("/services/default/empty", "It has no EndpointSlice."),
        ("/drift", "repaired after"),
    ];
    for (path, text) in pages {
        let document = browser.document(path);
        assert!(document.contains(text), "{path}: {document}");
        assert!(document.contains("refreshes every 5 s"), "the script did not run: {document}");
        assert_harmless(&document);
    }
    // The result of a form has no automatic refresh.
    let explained = browser.document(EXPLAIN);
    assert!(explained.contains("the endpoint sees 203.0.113.9 as its client"), "{explained}");
    assert_harmless(&explained);
    let overview = browser.document("/");
    assert!(overview.contains("&lt;img src=x onerror="), "{overview}");
    assert!(browser.document("/drift").contains(r"\u{3c}b id=taken\u{3e}nft"));
    let encoded = "%3Cscript%3Edocument.title%3D%27taken%27%3C/script%3E%22autofocus%20onfocus%3D%22document.title%3D%27taken%27";
    let search = browser.document(&format!("/services?q={encoded}&namespace={encoded}"));
    assert!(search.contains("No matching Services."), "{search}");
    assert_harmless(&search);

    let folder = std::env::temp_dir().join("rulegen-status-page");
    fs::create_dir_all(&folder).unwrap();
    for (name, path) in [
        ("overview", "/"),
        ("services", "/services"),
        ("service", "/services/default/gateway"),
        ("empty", "/services/default/empty"),
        ("drift", "/drift"),
        ("explain", EXPLAIN),
    ] {
        for (kind, size, is_dark) in [
            ("light", (1280, 1200), false),
            ("dark", (1280, 1200), true),
            ("phone", (360, 1600), false),
        ] {
            browser.picture(path, size, is_dark, &folder.join(format!("{name}-{kind}.png")));
        }
    }
    for name in ["overview", "services"] {
        let [light, dark] = ["light", "dark"]
            .map(|kind| fs::read(folder.join(format!("{name}-{kind}.png"))).unwrap());
        assert!(light != dark, "the dark {name} page looks like the light one");
    }
}

/// Asserts that no markup from a name is in the document or took effect.
fn assert_harmless(document: &str) {
    let title = document.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    assert!(title.is_some_and(|title| title.ends_with("· node-1 · rulegen")), "{title:?}");
    for element in ["<img", "<b id", "<script>"] {
        assert!(!document.contains(element), "{element}: {document}");
    }
}

#[test]
#[ignore = "makes a picture for the documentation: set RULEGEN_STATUS_PAGE_PNG to its path"]
fn browser_screenshot_for_documentation() {
    let file = std::env::var_os("RULEGEN_STATUS_PAGE_PNG").expect("RULEGEN_STATUS_PAGE_PNG is set");
    let node = busy_node();
    open_connections(&node);
    node.server.delete(crate::api_server::Kind::Service, "default", MARKUP);
    node.space.run(&format!(
        "nft flush chain ip rulegen services; nft delete element ip rulegen cluster-ips '{{ {} }}'",
        cluster_ip(61)
    ));
    wait_until("the drift is repaired", || {
        node.get(METRICS_PORT, "/drift?format=json").unwrap().json()["drifts"][0]["repaired"]
            == true
    });
    Browser::new(&node).picture("/", (1120, 850), false, Path::new(&file));
}
