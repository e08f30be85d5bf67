//! The table against the stock Envoy. First Envoy against itself, so that a row that depends on
//! chance is a bad row; then with every row's own configuration dropped, so that a row that
//! notices nothing is a bad row; then `tulle-proxy`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use tulle_lab::envoy::Program;
use tulle_lab::oracle::{self, Disagreement, Group, differences, rows, template};

fn report(disagreements: &[Disagreement]) -> String {
    let rows = disagreements.iter().map(|found| format!("\n{}\n{}", found.row, found.lines));
    format!("{} rows disagree{}", disagreements.len(), rows.collect::<String>())
}

async fn envoy_agrees_with_itself(group: Group) {
    let found = oracle::compare(group, Program::Envoy).await.unwrap();
    assert!(found.is_empty(), "{}", report(&found));
}

async fn every_row_has_teeth(group: Group) {
    let found = oracle::compare_mutated(group).await.unwrap();
    let noticed: BTreeSet<String> = found.iter().map(|found| found.row.to_owned()).collect();
    let owners = template::owners(&group.config().unwrap());
    let toothless: Vec<_> = owners.difference(&noticed).collect();
    assert!(toothless.is_empty(), "unchanged without their own line: {toothless:?}");
}

async fn proxy_agrees_with_envoy(group: Group) {
    let mut found = oracle::compare(group, Program::Tulle).await.unwrap();
    let seen: BTreeSet<&str> = found.iter().map(|found| found.row).collect();
    let meant = rows::of(group).into_iter().filter(|row| differences::of(row.name).is_some());
    let gone: Vec<_> = meant.map(|row| row.name).filter(|row| !seen.contains(row)).collect();
    found.retain(|found| !differences::of(found.row).is_some_and(|meant| meant.is(&found.lines)));
    assert!(found.is_empty(), "{}", report(&found));
    assert!(gone.is_empty(), "no longer different, so no longer deliberate: {gone:?}");
}

macro_rules! groups {
    ($($name:ident $group:ident),*) => {$(
        mod $name {
            use super::Group;

            #[tokio::test]
            async fn envoy_agrees_with_itself() {
                super::envoy_agrees_with_itself(Group::$group).await;
            }

            #[tokio::test]
            async fn every_row_has_teeth() {
                super::every_row_has_teeth(Group::$group).await;
            }

            #[tokio::test]
            async fn proxy_agrees_with_envoy() {
                super::proxy_agrees_with_envoy(Group::$group).await;
            }
        }
    )*};
}

groups!(
    routing Routing, http1 Http1, resilience Resilience, http2 Http2, tcp Tcp, records Records
);
