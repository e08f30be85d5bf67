//! The envelope of a document: which object it is, and its metadata.

use std::collections::BTreeMap;

use crate::diagnostic::Code;
use crate::istio;
use crate::object::{DEFAULT_NAMESPACE, Kind, Object, ObjectId};
use crate::reader::{Field, Fields, Report, nearest};
use crate::tree::{Node, Value};

/// Metadata that Kubernetes itself writes; it says nothing about traffic.
const INERT_METADATA: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The items of a `v1` `List`, as `kubectl get -o yaml` writes it; anything else comes back.
pub(super) fn list_items(mut root: Node) -> Result<Vec<Node>, Node> {
    if root.text("apiVersion") != Some("v1") || root.text("kind") != Some("List") {
        return Err(root);
    }
    let Value::Map(entries) = &mut root.value else { return Err(root) };
    let Some(index) = entries.iter().position(|entry| entry.key == "items") else {
        return Ok(Vec::new());
    };
    match entries.swap_remove(index).value.value {
        Value::List(items) => Ok(items),
        Value::Null => Ok(Vec::new()),
        Value::Scalar(_) | Value::Map(_) => Err(root),
    }
}

/// Which object a document is about, however wrong the rest is.
pub(super) fn identify(root: &Node) -> Option<ObjectId> {
    let kind = known_kind(root.text("kind")?)?;
    let (group, _) = root.text("apiVersion")?.split_once('/')?;
    if group != istio::GROUP {
        return None;
    }
    let metadata = &root.entry("metadata")?.value;
    let name = metadata.text("name").filter(|name| is_name(name))?;
    let namespace = match metadata.entry("namespace") {
        None => DEFAULT_NAMESPACE,
        Some(_) => metadata.text("namespace").filter(|name| is_label(name))?,
    };
    Some(ObjectId::new(kind, namespace, name))
}

fn known_kind(kind: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|known| known.as_str() == kind)
}

/// Reads a whole object; what is wrong is in the report.
pub(super) fn read(report: &mut Report<'_>, root: &Node) -> Option<Object> {
    let root = Field::root(report, root);
    let Value::Map(_) = root.value() else {
        let message = "the document is not a map";
        root.problem(Code::NotAnObject, message, "write apiVersion, kind, metadata and spec");
        return None;
    };
    let fields = root.fields("Object")?;
    let kind = kind(&fields);
    let labels = fields.required("metadata").and_then(|field| metadata(&field));
    let spec = fields.get("spec");
    fields.get("status");
    let Some(kind) = kind else {
        // Only a known kind says which other fields belong here.
        return None;
    };
    if spec.is_none() {
        fields.missing("spec");
    }
    fields.finish(&[]);
    let spec = spec.and_then(|spec| istio::read_spec(kind, &spec))?;
    let id = report.object()?.clone();
    Some(Object { id, labels: labels?, spec })
}

fn kind(fields: &Fields<'_>) -> Option<Kind> {
    let kind = fields.required("kind");
    let version = fields.required("apiVersion");
    let (kind_field, version_field) = (kind?, version?);
    let (kind, version) = (kind_field.nonempty()?, version_field.nonempty()?);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let known = known_kind(&kind).filter(|_| group == istio::GROUP);
    let Some(known) = known else {
        let group = if group.is_empty() { "core" } else { group };
        let message = format!("{kind} of {group} is not enforced by this release");
        let names = Kind::ALL.iter().map(|kind| kind.as_str());
        let help = match nearest(&kind, names.clone()) {
            Some(name) => format!("write kind: {name}, apiVersion: {}/v1", istio::GROUP),
            None => format!("kinds of {}: {}", istio::GROUP, names.collect::<Vec<_>>().join(", ")),
        };
        kind_field.problem(Code::UnknownKind, message, help);
        return None;
    };
    if !istio::VERSIONS.contains(&version) {
        let message = format!("{kind} has no version {version:?}");
        let help = format!("write {}/{}", istio::GROUP, istio::VERSIONS.join(" or "));
        version_field.problem(Code::UnknownVersion, message, help);
        return None;
    }
    Some(known)
}

fn metadata(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let fields = field.fields("ObjectMeta")?;
    if let Some(name) = fields.required("name") {
        let wrong = name.nonempty().filter(|text| !is_name(text));
        if let Some(text) = wrong {
            let message = format!("{text:?} is not the name of an object");
            name.problem(Code::InvalidName, message, "write lower-case letters, digits, '-', '.'");
        }
    }
    if let Some(namespace) = fields.get("namespace") {
        let wrong = namespace.nonempty().filter(|text| !is_label(text));
        if let Some(text) = wrong {
            let message = format!("{text:?} is not a namespace");
            let help = "write lower-case letters, digits and '-'";
            namespace.problem(Code::InvalidName, message, help);
        }
    }
    let labels = fields.text_map("labels");
    annotations(&fields);
    for name in INERT_METADATA {
        fields.get(name);
    }
    fields.finish(&["generateName"]);
    Some(labels)
}

/// Annotations are free text, except those by which Istio is configured.
fn annotations(fields: &Fields<'_>) {
    let Some(field) = fields.get("annotations") else { return };
    for (key, value) in field.entries() {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        if domain == "istio.io" || domain.ends_with(".istio.io") {
            let message = format!("the annotation {key} is not enforced by this release");
            value.problem(Code::NotEnforcedField, message, "remove it");
        }
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && edges
}

fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}
