//! What a proxy holds against what it was sent, by name and version.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rows;

/// Kinds as the control plane calls them, with their list and field in a dump.
const KINDS: [(&str, &str, &str); 4] = [
    ("listener", "dynamic_listeners", "listener"),
    ("route configuration", "dynamic_route_configs", "route_config"),
    ("cluster", "dynamic_active_clusters", "cluster"),
    ("endpoints", "dynamic_endpoint_configs", "endpoint_config"),
];

/// One line for each resource that was sent and is not held in that version; kinds that are not
/// in the dump at all are left out.
pub(super) fn between(sent: &Value, dump: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (kind, list, field) in KINDS {
        let Some(held) = held(dump, list, field) else { continue };
        let resources = sent[kind]["resources"].as_object();
        for (name, version) in resources.into_iter().flatten() {
            let version = version.as_str().unwrap_or_default();
            match held.get(&**name) {
                None => lines.push(format!("{kind} {name}: sent, not held")),
                Some(other) if *other != version => {
                    lines.push(format!("{kind} {name}: sent as {version}, held as {other}"));
                }
                Some(_) => {}
            }
        }
        if let Some(why) = sent[kind]["rejected"].as_str() {
            lines.push(format!("{kind}: refused: {why}"));
        }
    }
    lines
}

/// The held version of each name; `None` if the dump does not tell of this kind.
fn held<'d>(dump: &'d Value, list: &str, field: &str) -> Option<BTreeMap<&'d str, &'d str>> {
    let of_kind = rows::part_with(dump, list)?;
    let entries = of_kind[list].as_array().into_iter().flatten();
    Some(
        entries
            .filter_map(|entry| {
                let entry = entry.get("active_state").unwrap_or(entry);
                let resource = &entry[field];
                let name = resource["name"].as_str().or(resource["cluster_name"].as_str())?;
                Some((name, entry["version_info"].as_str().unwrap_or_default()))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_sent_and_is_not_held_differs() {
        let dump = json!({ "configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "dynamic_active_clusters": [
                { "version_info": "1", "cluster": { "name": "same" } },
                { "version_info": "1", "cluster": { "name": "old" } },
                { "version_info": "1", "cluster": { "name": "another server's" } },
            ],
        }]});
        let sent = json!({
            "cluster": { "rejected": "old: no", "resources": {
                "same": "1", "old": "2", "missing": "3" } },
            "listener": { "rejected": null, "resources": { "not asked about": "1" } },
        });
        let expected = [
            "cluster missing: sent, not held",
            "cluster old: sent as 2, held as 1",
            "cluster: refused: old: no",
        ];
        assert_eq!(between(&sent, &dump), expected);
    }
}
