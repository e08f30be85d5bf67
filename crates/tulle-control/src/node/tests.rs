use prost_types::{ListValue, Value};

use super::*;

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(*flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().expect("finite")),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(value).collect() })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.iter().map(|(key, json)| (key.clone(), value(json))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

fn read(id: &str, metadata: &str) -> Result<Node, NodeError> {
    let json: serde_json::Value = serde_json::from_str(metadata).expect("JSON");
    let Some(Kind::StructValue(metadata)) = value(&json).kind else { panic!("a map") };
    Node::read(Some(&core::Node { id: id.into(), metadata: Some(metadata), ..Default::default() }))
}

const ID: &str = "sidecar~10.0.0.1~order-1.shop~shop.svc.cluster.local";

#[test]
fn our_proxy_introduces_itself() {
    let node = read(
        ID,
        r#"{"NAMESPACE": "shop", "LABELS": {"app": "order"}, "TULLE_ON_DEMAND": true,
            "SERVICE_ACCOUNT": "order",
            "TULLE_BIND": {"outbound": ["127.0.0.1:15001"], "explicit": true,
                "gateway": {"80": ["127.0.0.1:8080"]}}}"#,
    );
    let node = node.expect("a node");
    let client = node.client;
    assert_eq!((client.role, client.assembly), (Role::Sidecar, Assembly::Tulle));
    assert_eq!((&*client.name, &*client.namespace), ("order-1", "shop"));
    assert_eq!(client.addresses, [IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(client.labels["app"], "order");
    assert!(client.bind.explicit);
    assert_eq!(client.bind.outbound, ["127.0.0.1:15001".parse().expect("an address")]);
    assert_eq!(client.bind.gateway[&80], ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(node.service_account, "order");
}

#[test]
fn a_stock_envoy_needs_nothing_but_its_id() {
    let node = read("router~::1~edge.infra~infra.svc.cluster.local", "{}").expect("a node");
    let client = node.client;
    assert_eq!((client.role, client.assembly), (Role::Gateway, Assembly::Envoy));
    assert_eq!((&*client.name, &*client.namespace), ("edge", "infra"));
    assert_eq!(client.bind, Bind::default());
}

#[test]
fn what_cannot_be_understood_is_named() {
    assert_eq!(Node::read(None), Err(NodeError::Missing));
    for id in ["", "envoy", "sidecar~10.0.0.1~order~d", "sidecar~x~a.b~d", "sidecar~1.1.1.1~a.b"] {
        assert_eq!(read(id, "{}"), Err(NodeError::Id(id.into())), "{id}");
    }
    let cases = [
        (r#"{"NAME": 1}"#, "NAME is not a text"),
        (r#"{"LABELS": {"a": 1}}"#, "LABELS is not a map of at most 256 texts"),
        (r#"{"TULLE_ON_DEMAND": 3}"#, "TULLE_ON_DEMAND is not true or false"),
        (r#"{"INSTANCE_IPS": "1.2.3.4,x"}"#, "INSTANCE_IPS is not a list of IP addresses"),
        (r#"{"TULLE_BIND": {"outbound": ["x"]}}"#, "TULLE_BIND: invalid socket address"),
        (r#"{"TULLE_BIND": {"outbond": []}}"#, "TULLE_BIND: unknown field `outbond`"),
        (r#"{"TULLE_BIND": [[[[[[[[[]]]]]]]]]}"#, "TULLE_BIND: too large or too deeply nested"),
    ];
    for (metadata, expected) in cases {
        let message = read(ID, metadata).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    }
}
