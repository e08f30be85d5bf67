//! Prometheus' text format 0.0.4, and adding up what several threads counted.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::registry::{HeldBlock, HeldGroup};
use super::{Family, Kind, offset};

/// `name="value",…` with the values escaped.
pub(super) fn labels_text(names: &[&str], values: &[&str]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"");
        for character in values.get(index).copied().unwrap_or_default().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// Writes every series of a group, those of one name together under one heading.
pub(super) fn write_group(held: &mut HeldGroup, text: &mut String) {
    let families = held.group.families;
    let sums = add_up(held);
    let mut heading = "";
    for (index, family) in families.iter().enumerate() {
        if family.name == heading {
            continue;
        }
        heading = family.name;
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        let kind = family.kind.as_str();
        let _ = write!(text, "# HELP {heading} {help}\n# TYPE {heading} {kind}\n");
        for (labels, cells) in &sums {
            let same_name = families.iter().enumerate().skip(index);
            for (index, family) in same_name.take_while(|(_, family)| family.name == heading) {
                write_series(family, labels, &cells[offset(families, index)..], text);
            }
        }
    }
}

/// What all threads counted together, by labels, sorted.
fn add_up(held: &mut HeldGroup) -> Vec<(&str, Vec<u64>)> {
    held.blocks.sort_by(|one, other| one.block.labels.cmp(&other.block.labels));
    let families = held.group.families;
    let same_labels = |one: &HeldBlock, other: &HeldBlock| one.block.labels == other.block.labels;
    held.blocks
        .chunk_by(same_labels)
        .map(|blocks| {
            let mut sum: Vec<u64> = vec![0; blocks[0].block.cells.len()];
            for held in blocks {
                let cells: Vec<u64> =
                    held.block.cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
                add_block(families, &cells, &mut sum);
            }
            (&*blocks[0].block.labels, sum)
        })
        .collect()
}

fn add_block(families: &[Family], cells: &[u64], sum: &mut [u64]) {
    let mut at = 0;
    for family in families {
        let end = at + family.kind.cells();
        let is_float = |index: usize| matches!(family.kind, Kind::Histogram(_)) && index == end - 1;
        for index in at..end {
            sum[index] = if is_float(index) {
                (f64::from_bits(sum[index]) + f64::from_bits(cells[index])).to_bits()
            } else {
                sum[index].wrapping_add(cells[index])
            };
        }
        at = end;
    }
}

fn write_series(family: &Family, labels: &str, cells: &[u64], text: &mut String) {
    let all = join(labels, family.fixed);
    match family.kind {
        Kind::Counter => write_line(family.name, "", &all, cells[0], text),
        Kind::Gauge => write_line(family.name, "", &all, cells[0].cast_signed(), text),
        Kind::Histogram(bounds) => {
            let mut count = 0;
            for (bound, cell) in bounds.iter().zip(cells) {
                count += cell;
                let labels = join(&all, &format!("le=\"{bound}\""));
                write_line(family.name, "_bucket", &labels, count, text);
            }
            count += cells[bounds.len()];
            write_line(family.name, "_bucket", &join(&all, "le=\"+Inf\""), count, text);
            let sum = f64::from_bits(cells[bounds.len() + 1]);
            write_line(family.name, "_sum", &all, sum, text);
            write_line(family.name, "_count", &all, count, text);
        }
    }
}

fn join(labels: &str, more: &str) -> String {
    let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
    format!("{labels}{comma}{more}")
}

fn write_line(
    name: &str,
    suffix: &str,
    labels: &str,
    value: impl std::fmt::Display,
    text: &mut String,
) {
    let _ = match labels {
        "" => writeln!(text, "{name}{suffix} {value}"),
        _ => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
    };
}

/// Name with labels and value; of histograms count and sum.
pub(super) fn samples(held: &mut HeldGroup) -> Vec<(String, f64)> {
    let families = held.group.families;
    let mut samples = Vec::new();
    for (labels, cells) in add_up(held) {
        for (index, family) in families.iter().enumerate() {
            let cells = &cells[offset(families, index)..];
            let labels = join(labels, family.fixed);
            let mut add = |suffix: &str, value: f64| {
                let mut name = format!("{}{suffix}", family.name);
                if !labels.is_empty() {
                    let _ = write!(name, "{{{labels}}}");
                }
                samples.push((name, value));
            };
            match family.kind {
                Kind::Counter => add("", cells[0] as f64),
                Kind::Gauge => add("", cells[0].cast_signed() as f64),
                Kind::Histogram(bounds) => {
                    add("_count", cells[..=bounds.len()].iter().sum::<u64>() as f64);
                    add("_sum", f64::from_bits(cells[bounds.len() + 1]));
                }
            }
        }
    }
    samples
}
