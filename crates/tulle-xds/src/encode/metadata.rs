//! What the mesh says in metadata; the keys are in [`crate::decode::metadata`].

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tulle_model::cluster::PeerMetadata;
use tulle_model::listener::OnDemand;
use tulle_model::origin::Origin;

use crate::decode::metadata as key;
use crate::proto::envoy::config::core::v3::Metadata;

/// Gathers what is said about one message.
#[derive(Default)]
pub struct Ours(BTreeMap<String, Value>);

impl Ours {
    /// That the message was made from `origin`.
    pub fn of(origin: Option<&Origin>) -> Self {
        let mut ours = Self::default();
        if let Some(origin) = origin {
            ours.text(key::ORIGIN, &origin.to_string());
        }
        ours
    }

    /// What its parts were made from; nothing is said if none of them has an origin.
    pub fn parts<'a>(mut self, origins: impl Iterator<Item = Option<&'a Origin>>) -> Self {
        let origins: Vec<_> = origins.collect();
        if origins.iter().any(Option::is_some) {
            let text = |origin: Option<&Origin>| origin.map_or(String::new(), Origin::to_string);
            let values = origins.into_iter().map(|origin| string(text(origin))).collect();
            let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
            self.0.insert(key::PART_ORIGINS.to_owned(), list);
        }
        self
    }

    /// What a listener does about unknown destinations.
    pub fn on_demand(mut self, on_demand: OnDemand) -> Self {
        match on_demand {
            OnDemand::Off => {}
            OnDemand::Transparent => self.text(key::ON_DEMAND, "transparent"),
            OnDemand::Explicit => self.text(key::ON_DEMAND, "explicit"),
        }
        self
    }

    /// Who an endpoint is.
    pub fn peer(mut self, peer: &PeerMetadata) -> Self {
        let PeerMetadata { workload, namespace, service_account, labels, cluster } = peer;
        self.text(key::WORKLOAD, workload);
        self.text(key::NAMESPACE, namespace);
        self.text(key::SERVICE_ACCOUNT, service_account);
        self.text(key::CLUSTER, cluster);
        if !labels.is_empty() {
            let label = |(key, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| {
                (key.to_string(), string(value.to_string()))
            };
            let fields = labels.iter().map(label).collect();
            let value = Value { kind: Some(Kind::StructValue(Struct { fields })) };
            self.0.insert(key::LABELS.to_owned(), value);
        }
        self
    }

    /// The message; `None` where nothing is said.
    pub fn metadata(self) -> Option<Metadata> {
        if self.0.is_empty() {
            return None;
        }
        let ours = Struct { fields: self.0 };
        Some(Metadata {
            filter_metadata: BTreeMap::from([(key::KEY.to_owned(), ours)]),
            ..Metadata::default()
        })
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.0.insert(key.to_owned(), string(text.to_owned()));
        }
    }
}

/// `metadata` and what is hashed for an endpoint, if that is not its address.
pub fn with_hash_key(metadata: Option<Metadata>, hash_key: &str) -> Option<Metadata> {
    if hash_key.is_empty() {
        return metadata;
    }
    let fields = BTreeMap::from([(key::HASH_KEY.to_owned(), string(hash_key.to_owned()))]);
    let mut metadata = metadata.unwrap_or_default();
    metadata.filter_metadata.insert(key::LB_KEY.to_owned(), Struct { fields });
    Some(metadata)
}

fn string(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}
