//! The status page of a running agent.

use serde_json::{Value, json};

use crate::node::{HEALTH_PORT, METRICS_PORT, Node, wait_until};
use crate::objects::{ELSEWHERE, HERE, local_load_balancer, service, slice};

fn data(node: &Node, path: &str) -> Value {
    let between = if path.contains('?') { '&' } else { '?' };
    node.get(METRICS_PORT, &format!("{path}{between}format=json")).unwrap().json()
}

fn html(node: &Node, path: &str) -> String {
    let answered = node.get(METRICS_PORT, path).unwrap();
    assert_eq!(answered.status, 200, "{path}: {answered:?}");
    assert!(answered.head.contains("content-security-policy: default-src 'none';"), "{answered:?}");
    answered.body
}

#[test]
fn status_page_and_readyz_report_lost_api_server() {
    let node = Node::in_sync("cutoff");
    let source = || node.get(HEALTH_PORT, "/readyz").unwrap().json()["sourceInSync"].clone();
    wait_until("the agent is in sync", || data(&node, "/")["state"]["summary"] == "In sync");
    assert_eq!(source(), true);
    node.server.refuse_connections(true);
    wait_until("the page shows the outage", || {
        let state = data(&node, "/")["state"].clone();
        state["level"] == "bad" && state["summary"] == "Not receiving updates"
    });
    assert_eq!((source(), node.probe("/readyz")), (json!(false), 200));
    node.server.refuse_connections(false);
    node.server.apply(service("news", 30));
    wait_until("the page shows the recovery", || {
        data(&node, "/")["state"]["summary"] == "In sync" && source() == true
    });
}

#[test]
fn status_page_of_running_agent_shows_services() {
    let node = Node::in_sync("pages");
    node.server.apply_many([service("shop", 20), slice("shop", "a", &[HERE[0], ELSEWHERE])]);
    node.server
        .apply_many([local_load_balancer("away", 21, 31021), slice("away", "a", &[ELSEWHERE])]);
    node.server.apply(service("empty", 22));
    node.settle();
    wait_until("the agent is in sync", || data(&node, "/")["state"]["summary"] == "In sync");

    let overview = data(&node, "/");
    assert_eq!(overview["node"], "node-1");
    assert_eq!(overview["health"]["healthz"], true);
    assert_eq!(overview["counts"]["services"], 4);
    assert_eq!(overview["counts"]["noUsableEndpoint"], 1);
    assert_eq!(overview["counts"]["noLocalEndpoint"], 1);
    let syncs = overview["syncs"].as_array().unwrap();
    assert!(syncs.iter().all(|sync| sync["error"].is_null()), "{syncs:?}");
    assert!(syncs.iter().any(|sync| sync["phasesMilliseconds"]["commit"].as_f64() > Some(0.0)));
    assert!(html(&node, "/").contains("The kernel&#39;s rules match the cluster&#39;s objects."));

    let found = data(&node, &format!("/services?q={ELSEWHERE}:8080"));
    assert_eq!((&found["found"], &found["all"]), (&json!(2), &json!(4)));
    let shop = data(&node, "/services/default/shop");
    let chances = shop["ports"][0]["trafficPaths"][0]["endpoints"].as_array().unwrap();
    assert_eq!(chances.len(), 2);
    assert!(chances.iter().all(|endpoint| endpoint["chance"] == "1/2"), "{chances:?}");
    let page = html(&node, "/services/default/empty");
    assert!(page.contains("It has no EndpointSlice"), "{page}");
    assert_eq!(node.get(METRICS_PORT, "/services/default/none").unwrap().status, 404);

    // A deleted Service is no longer shown.
    node.server.delete(crate::api_server::Kind::Service, "default", "shop");
    wait_until("the Service is no longer shown", || {
        node.get(METRICS_PORT, "/services/default/shop").unwrap().status == 404
    });
}

#[test]
fn drift_page_of_running_agent_shows_program_and_repair() {
    let node = Node::in_sync("drift-page");
    assert_eq!(data(&node, "/drift"), json!({"drifts": []}));
    node.space.run("nft flush chain ip rulegen services");
    wait_until("the repair is shown", || data(&node, "/drift")["drifts"][0]["repaired"] == true);
    let drift = &data(&node, "/drift")["drifts"][0];
    assert_eq!((&drift["program"], &drift["commits"]), (&json!("nft"), &json!(1)));
    assert!(drift["changes"].as_array().is_some_and(|changes| !changes.is_empty()), "{drift}");
    assert!(html(&node, "/drift").contains("<b>nft</b>"));
    let because = &data(&node, "/")["syncs"][0]["cause"];
    assert_eq!(because, "changes by other programs");
}
