//! `DestinationRule`: subsets of a host's endpoints, and how they are called.

use std::collections::BTreeSet;

use super::traffic_policy::{self, TrafficPolicy};
use super::values::{HostPattern, Labels, Visibility, labels};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields};

/// Rules for calling one host.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// The host, or a family of hosts.
    pub host: HostPattern,
    /// For all its endpoints.
    pub policy: TrafficPolicy,
    /// Named parts of its endpoints.
    pub subsets: Vec<Subset>,
    /// Who sees it.
    pub visibility: Visibility,
}

/// A named part of a host's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// Name that routes use.
    pub name: String,
    /// Labels its endpoints have.
    pub labels: Labels,
    /// What differs from the policy of the whole.
    pub policy: TrafficPolicy,
}

/// Reads the spec of a `DestinationRule`.
pub(super) fn read(spec: &Field<'_>) -> Option<DestinationRule> {
    let fields = spec.fields("DestinationRule")?;
    let host = fields.required("host");
    let host = host.and_then(|field| field.parsed(Code::InvalidHost, HostPattern::parse));
    let rule = DestinationRule {
        host: host.unwrap_or(HostPattern::Any),
        policy: policy(&fields),
        subsets: subsets(&fields),
        visibility: Visibility::read(&fields),
    };
    fields.finish(&["workloadSelector"]);
    Some(rule)
}

fn policy(fields: &Fields<'_>) -> TrafficPolicy {
    fields.get("trafficPolicy").and_then(|field| traffic_policy::read(&field)).unwrap_or_default()
}

fn subsets(fields: &Fields<'_>) -> Vec<Subset> {
    let mut names = BTreeSet::new();
    let mut subsets = Vec::new();
    for item in fields.items("subsets") {
        let Some(subset) = subset(&item) else { continue };
        if !subset.name.is_empty() && !names.insert(subset.name.clone()) {
            let message = format!("the subset {:?} is defined twice", subset.name);
            item.problem(Code::DuplicateValue, message, "keep one");
        }
        subsets.push(subset);
    }
    subsets
}

fn subset(item: &Field<'_>) -> Option<Subset> {
    let fields = item.fields("Subset")?;
    let name = fields.required("name").and_then(|field| {
        let name = field.nonempty()?;
        if name.contains('|') {
            let message = format!("{name:?} contains '|'");
            field.problem(Code::InvalidValue, message, "write letters, digits and hyphens");
            return None;
        }
        Some(name)
    });
    let subset = Subset {
        name: name.unwrap_or_default(),
        labels: labels(&fields, "labels"),
        policy: policy(&fields),
    };
    fields.finish(&[]);
    Some(subset)
}
