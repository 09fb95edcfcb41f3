//! A Service that is too large is left out and reported; all others are applied.

use serde_json::Value;

use crate::api_server::Kind;
use crate::node::{Node, wait_until};
use crate::objects::{HERE, service, slice};

const LEFT_OUT: &str = "rulegen_services_left_out{reason=\"too-large\"}";

#[test]
fn left_out_service_over_size_limit_is_reported_and_others_are_applied() {
    let mut node = Node::new("large");
    let others = |node: &Node| -> Vec<Value> {
        let is_large = |object: &Value| {
            object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("large"))
        };
        node.server.objects().into_iter().filter(|object| !is_large(object)).collect()
    };
    let many: Vec<String> = (1..=20).map(|n| format!("10.244.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    node.server.apply_many([service("large", 60), slice("large", "a", &many[..5])]);
    node.start("--max-service-size 12");
    node.settle();
    assert_eq!(node.metric(LEFT_OUT), Some(0.0));

    // It grows beyond the limit. Others change at the same time and later.
    node.server.apply_many([slice("large", "b", &many[5..]), service("other", 61)]);
    node.settle_at(&others(&node));
    assert!(!node.rules().contains("default/large"));
    wait_until("the metric counts it", || node.metric(LEFT_OUT) == Some(1.0));
    node.assert_logged("Service left out service=default/large reason=\"too-large\"", 1);
    let of_service = || {
        let mut events = node.server.events().into_iter();
        events.find(|event| event["reason"] == "ServiceTooLarge")
    };
    wait_until("an Event is sent", || of_service().is_some());
    let event = of_service().unwrap();
    assert_eq!(event["regarding"]["name"], "large");
    assert!(event["note"].as_str().unwrap().contains("1 addresses, 20 endpoints"), "{event}");
    assert_eq!((node.probe("/healthz"), node.probe("/readyz")), (200, 200));
    node.server.apply(slice("other", "a", &[HERE[0]]));
    node.settle_at(&others(&node));
    // Reported once only.
    node.server.apply(slice("large", "b", &many[6..]));
    node.server.apply(service("third", 62));
    node.settle_at(&others(&node));
    node.assert_logged("Service left out service=default/large reason=\"too-large\"", 1);

    // It is within the limit again.
    node.server.delete(Kind::EndpointSlice, "default", "large-b");
    node.settle();
    wait_until("no Service is left out", || node.metric(LEFT_OUT) == Some(0.0));
    node.assert_logged("Service no longer left out", 1);
}
