//! Copies the .proto files that the roots need out of an unpacked `envoy-types` crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders of the crate that are import roots.
const FOLDERS: &[&str] = &["data-plane-api", "xds", "googleapis", "protoc-gen-validate"];
/// Top level folders of `target` that belong to the import and are emptied first.
const OWNED: &[&str] = &["envoy", "xds", "udpa", "google", "validate"];
/// These come with the compiler.
const BUILT_IN: &str = "google/protobuf/";
/// These are written here.
const OURS: &str = "tulle/";

/// Replaces the imported part of `target` by `roots` and all they import, found below `source`.
///
/// # Errors
/// A file that is imported but not found, and whatever the file system reports.
pub fn import(source: &Path, target: &Path, roots: &[&str]) -> Result<()> {
    for folder in OWNED {
        let path = target.join(folder);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
    }
    let mut open: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if name.starts_with(BUILT_IN) || name.starts_with(OURS) || !seen.insert(name.clone()) {
            continue;
        }
        let text = fs::read_to_string(find(source, &name)?)?;
        open.extend(imports(&text).map(str::to_owned));
        let path = target.join(&name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn find(source: &Path, name: &str) -> Result<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| source.join(folder).join(name))
        .find(|path| path.exists())
        .with_context(|| format!("{name} is not below {}", source.display()))
}

fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line.strip_prefix("import ")?;
        let rest = rest.strip_prefix("public ").unwrap_or(rest);
        rest.trim().strip_prefix('"')?.strip_suffix("\";")
    })
}
