//! What a rule's destinations write into requests, read from the objects themselves: the
//! explanation does not tell it, so the objects are the witness.

use std::collections::BTreeMap;

use tulle_config::istio::{HttpAction, HttpDestination, VirtualService};
use tulle_config::load::{File, load};
use tulle_config::{Spec, Variable};

/// The field that destinations write.
pub const FIELD: &str = "x-sent";

/// What a destination writes, so that it can be told from every other.
pub fn mark(host: &str, subset: &str) -> String {
    format!("{host}/{subset}")
}

/// The rules of a world, by what a record calls them.
pub struct Edits(BTreeMap<String, VirtualService>);

impl Edits {
    /// Of good objects.
    pub fn of(text: &str) -> Self {
        let loaded = load(&[File { path: "world.yaml", text }], &|_| Variable::Forbidden);
        // What is refused would decide nothing.
        assert!(!loaded.has_errors(), "{:#?}\n{text}", loaded.diagnostics);
        let rules = loaded.objects.into_values().filter_map(|loaded| match &loaded.object.spec {
            Spec::VirtualService(rule) => Some((loaded.object.id.to_string(), rule.clone())),
            _ => None,
        });
        Self(rules.collect())
    }

    /// What may be written into a request that the rule at `origin` sent to `cluster`: empty is
    /// nothing. Several where destinations differ in nothing else, none if there is no such rule.
    pub fn expected(&self, origin: &str, cluster: &str) -> Vec<String> {
        let Some((rule, field)) = origin.split_once(" spec.http[") else {
            return vec![String::new()];
        };
        let index = field.split(']').next().and_then(|number| number.parse::<usize>().ok());
        let route = self.0.get(rule).zip(index).and_then(|(rule, index)| rule.http.get(index));
        let Some(HttpAction::Route(destinations, _)) = route.map(|route| &route.action) else {
            return Vec::new();
        };
        let meant = destinations.iter().filter(|to| leads_to(to, cluster));
        meant
            .map(|to| match to.headers.request.add.is_empty() {
                true => String::new(),
                false => {
                    let to = &to.destination;
                    mark(to.host.as_str(), to.subset.as_deref().unwrap_or_default())
                }
            })
            .collect()
    }
}

/// Whether a cluster `outbound|<port>|<subset>|<host>` is the destination's.
fn leads_to(to: &HttpDestination, cluster: &str) -> bool {
    let parts: Vec<&str> = cluster.split('|').collect();
    let [_, port, subset, host] = parts[..] else { return false };
    let (wanted, to) = (to.destination.host.as_str(), &to.destination);
    // A service may have the name, complete it, or take all names that end as its own does.
    let is_host = match host.strip_prefix('*') {
        Some(ending) => wanted.ends_with(ending),
        None => host == wanted || host.starts_with(&format!("{wanted}.")),
    };
    is_host
        && subset == to.subset.as_deref().unwrap_or_default()
        && to.port.is_none_or(|number| number.to_string() == port)
}
