use std::collections::BTreeSet;

use super::{Group, Kind, differences, rows, template};

#[test]
fn every_row_is_told_apart_by_name_and_behaviour() {
    let rows = rows::all();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    let behaviours: BTreeSet<_> = rows.iter().map(|row| row.behaviour).collect();
    assert_eq!((names.len(), behaviours.len()), (rows.len(), rows.len()));
}

#[test]
fn the_table_is_as_wide_as_promised() {
    let rows = rows::all();
    let count = |kind: Kind| rows.iter().filter(|row| row.kind == kind).count();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    for (kind, least) in [(Kind::Error, 12), (Kind::Http2, 8), (Kind::Tcp, 4), (Kind::WebSocket, 2)]
    {
        assert!(count(kind) >= least, "{kind:?}: {} rows", count(kind));
    }
}

#[test]
fn deliberate_differences_are_few_and_name_rows() {
    let names: BTreeSet<_> = rows::all().iter().map(|row| row.name).collect();
    assert!(differences::DELIBERATE.len() <= differences::LIMIT);
    for differences::Difference { row, why, lines } in differences::DELIBERATE {
        assert!(names.contains(row) && !why.is_empty() && !lines.is_empty(), "{row}");
    }
}

#[test]
fn lines_of_configurations_belong_to_rows_of_their_group() {
    for group in Group::ALL {
        let names: BTreeSet<_> = rows::of(group).iter().map(|row| row.name).collect();
        for owner in template::owners(&group.config().unwrap()) {
            assert!(names.contains(owner.as_str()), "{} has no row {owner}", group.name());
        }
    }
}

#[test]
fn only_the_difference_that_is_meant_is_deliberate() {
    let meant = differences::of("record-cut").unwrap();
    assert!(meant.is("    same\n  - logged GET 200 UPE a\n  + logged GET 200 UC a\n"));
    for other in ["  - logged GET 200 UPE a\n", "  - x\n  + y\n", ""] {
        assert!(!meant.is(other), "{other:?}");
    }
}

#[test]
fn a_difference_shows_what_each_side_has() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let shown = super::difference(&lines("a b c"), &lines("a x c"));
    assert_eq!(shown, "    a\n  - b\n  + x\n    c\n");
}
