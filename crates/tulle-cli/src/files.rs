//! Configuration from disk, once: the same files that the control plane would read, and the same
//! settings of the mesh.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use tulle_config::world::OutboundPolicy;
use tulle_config::{File, MeshSettings, Variable};

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most files.
const MAX_FILES: usize = 100_000;
/// Deepest nesting of directories, which also ends loops of links.
const MAX_DEPTH: usize = 32;
/// Variables whose names begin so may always be used in configuration.
const VARIABLE_PREFIX: &str = "TULLE_";
/// Path that means standard input.
const STANDARD_INPUT: &str = "-";

/// What the control plane would be told beside its directories.
#[derive(Debug, Clone, Args)]
pub struct Mesh {
    /// Suffix of mesh host names: a short name is HOST.NAMESPACE.svc.DOMAIN.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub domain: String,
    /// Namespace whose rules hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// Environment variables that configuration may use, besides TULLE_*.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub config_env: Vec<String>,
}

impl Mesh {
    /// The same in the words of the configuration.
    pub fn settings(&self) -> Arc<MeshSettings> {
        Arc::new(MeshSettings {
            domain: self.domain.as_str().into(),
            root_namespace: self.root_namespace.as_str().into(),
            outbound: OutboundPolicy::AllowAny,
        })
    }

    /// The environment as configuration may see it. The one place where it is read.
    pub fn environment(&self) -> Environment {
        let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let all = std::env::vars_os();
        Environment { allowed: self.config_env.clone(), values: all.filter_map(readable).collect() }
    }
}

/// Environment variables as configuration sees them.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    allowed: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    /// What is said about `name`.
    pub fn look_up(&self, name: &str) -> Variable {
        let is_allowed =
            name.starts_with(VARIABLE_PREFIX) || self.allowed.iter().any(|allowed| allowed == name);
        match self.values.get(name) {
            _ if !is_allowed => Variable::Forbidden,
            Some(value) => Variable::Set(value.clone()),
            None => Variable::Unset,
        }
    }
}

/// Texts with the paths they are reported under.
#[derive(Debug, Default)]
pub struct Texts(Vec<(String, String)>);

impl Texts {
    /// Reads files and directories; in directories `*.yaml`, `*.yml` and `*.json` at any depth.
    ///
    /// # Errors
    /// Something cannot be read, or is larger than the control plane reads.
    pub fn read(paths: &[PathBuf]) -> Result<Texts> {
        let mut found = Vec::new();
        let mut texts = Texts::default();
        for path in paths {
            if path.as_os_str() == STANDARD_INPUT {
                texts.0.push(("standard input".to_owned(), read_standard_input()?));
                continue;
            }
            let kind = fs::metadata(path).with_context(|| cannot_read(path))?;
            match kind.is_dir() {
                true => walk(path, 0, &mut found)?,
                false => found.push(path.clone()),
            }
        }
        found.sort();
        found.dedup();
        for path in found {
            let text = read(&path)?;
            texts.0.push((path.to_string_lossy().into_owned(), text));
        }
        Ok(texts)
    }

    /// The texts as the configuration takes them.
    pub fn files(&self) -> Vec<File<'_>> {
        self.0.iter().map(|(path, text)| File { path, text }).collect()
    }

    /// The text of a file, by the path it is reported under.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| cannot_read(folder))? {
        let entry = entry.with_context(|| cannot_read(folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, found)?;
        } else if metadata.is_file() && is_configuration(&path) {
            if found.len() >= MAX_FILES {
                bail!("{} has more than {MAX_FILES} files", folder.display());
            }
            found.push(path);
        }
    }
    Ok(())
}

fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

fn read(path: &Path) -> Result<String> {
    let file = fs::File::open(path).with_context(|| cannot_read(path))?;
    read_limited(file).with_context(|| cannot_read(path))
}

fn read_standard_input() -> Result<String> {
    read_limited(std::io::stdin().lock()).context("cannot read standard input")
}

fn read_limited(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("it has more than {MAX_FILE_BYTES} bytes");
    }
    String::from_utf8(bytes)
        .map_err(|error| anyhow::anyhow!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
