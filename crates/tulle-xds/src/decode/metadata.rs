//! What the mesh says in metadata: where a resource comes from, and who an endpoint is.
//!
//! Everything of ours is in `filter_metadata` under [`KEY`], which other implementations ignore.
//! Other keys are not ours to judge and have no effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tulle_model::cluster::PeerMetadata;
use tulle_model::listener::OnDemand;
use tulle_model::origin::Origin;

use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::core::v3::Metadata;

/// Key of `filter_metadata` that holds what is ours.
pub const KEY: &str = "tulle.dev";
/// The object and field a resource was made from.
pub const ORIGIN: &str = "origin";
/// Origins of the parts that have no metadata of their own, in order; empty for none.
pub const PART_ORIGINS: &str = "part_origins";
/// What a listener does about unknown destinations: `transparent` or `explicit`.
pub const ON_DEMAND: &str = "on_demand";
/// Name of an endpoint's workload.
pub const WORKLOAD: &str = "workload";
/// Namespace of an endpoint's workload.
pub const NAMESPACE: &str = "namespace";
/// Service account of an endpoint's workload.
pub const SERVICE_ACCOUNT: &str = "service_account";
/// Cluster id of an endpoint's workload.
pub const CLUSTER: &str = "cluster";
/// Labels of an endpoint's workload.
pub const LABELS: &str = "labels";

/// Key of `filter_metadata` that Envoy's load balancers read.
pub const LB_KEY: &str = "envoy.lb";
/// Under [`LB_KEY`]: what is hashed for an endpoint in its address's place.
pub const HASH_KEY: &str = "hash_key";

/// What is hashed for an endpoint, if its metadata says.
#[must_use]
pub fn hash_key(metadata: &Metadata) -> Option<Arc<str>> {
    let content = metadata.filter_metadata.get(LB_KEY)?;
    match content.fields.get(HASH_KEY)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.as_str().into()),
        _ => None,
    }
}

/// Our part of a message's metadata.
#[derive(Debug, Default)]
pub struct Ours(BTreeMap<String, Value>);

impl Ours {
    /// Takes it out of `metadata`.
    pub fn of(metadata: Option<Metadata>, at: &At<'_>) -> Self {
        let Some(metadata) = metadata else {
            return Self::default();
        };
        fields!(at, metadata => Metadata ["envoy.config.core.v3.Metadata"] {
            label: typed_filter_metadata;
            used: filter_metadata;
        });
        let ours = filter_metadata.into_iter().find(|(key, _)| key == KEY);
        Self(ours.map(|(_, content)| content.fields).unwrap_or_default())
    }

    fn text(&self, key: &str) -> &str {
        match self.0.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StringValue(text)) => text,
            _ => "",
        }
    }

    /// The origin of the message itself.
    pub fn origin(&self) -> Option<Origin> {
        Origin::parse(self.text(ORIGIN))
    }

    /// The origin of its part at `index`.
    pub fn part_origin(&self, index: usize) -> Option<Origin> {
        let Some(Kind::ListValue(list)) = self.0.get(PART_ORIGINS)?.kind.as_ref() else {
            return None;
        };
        match list.values.get(index)?.kind.as_ref() {
            Some(Kind::StringValue(text)) => Origin::parse(text),
            _ => None,
        }
    }

    /// What a listener does about destinations it does not know.
    pub fn on_demand(&self) -> OnDemand {
        match self.text(ON_DEMAND) {
            "transparent" => OnDemand::Transparent,
            "explicit" => OnDemand::Explicit,
            _ => OnDemand::Off,
        }
    }

    /// Who an endpoint is.
    pub fn peer(&self) -> PeerMetadata {
        let labels = match self.0.get(LABELS).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(Struct { fields })) => fields.iter().filter_map(label).collect(),
            _ => BTreeMap::new(),
        };
        PeerMetadata {
            workload: self.text(WORKLOAD).into(),
            namespace: self.text(NAMESPACE).into(),
            service_account: self.text(SERVICE_ACCOUNT).into(),
            labels,
            cluster: self.text(CLUSTER).into(),
        }
    }
}

fn label((key, value): (&String, &Value)) -> Option<(Arc<str>, Arc<str>)> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some((key.as_str().into(), text.as_str().into())),
        _ => None,
    }
}
