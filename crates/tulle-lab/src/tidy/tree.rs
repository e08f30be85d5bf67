//! The source tree as the rules see it: every text file below the root that is not built.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{functions, mask};

/// Larger files are data, not text somebody reads.
const TEXT_LIMIT_BYTES: u64 = 2 * 1024 * 1024;

/// One text file.
#[derive(Debug)]
pub struct SourceFile {
    /// Path relative to the root, with `/`.
    pub path: String,
    /// Its text as read.
    pub text: String,
    pub(super) masked: String,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl SourceFile {
    /// A file from its relative path and text.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let rust = path.ends_with(".rs");
        let masked = if rust { mask::mask(text) } else { String::new() };
        let test_lines = functions::inline_test_lines(&masked);
        Self { path: path.to_owned(), text: text.to_owned(), masked, test_lines }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Generated code obeys its generator, and protos taken from others obey those.
    pub(super) fn is_foreign(&self) -> bool {
        let taken = self.path.ends_with(".proto") && !self.path.contains("/proto/tulle/");
        taken || self.path.contains("/generated/")
    }

    /// Whether the whole file is tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
    }

    /// Whether line `line` (from 1) belongs to tests.
    pub(super) fn is_test_line(&self, line: usize) -> bool {
        self.is_test() || self.test_lines.iter().any(|range| range.contains(&line))
    }

    pub(super) fn numbered_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All text files of the repository, by path.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, SourceFile>,
}

impl Tree {
    /// Reads the tree below `root`, without what git, cargo and the tools keep there.
    ///
    /// # Errors
    /// When a directory or file cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    /// A tree of the given files, for planting violations.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.insert(path, text);
        }
        tree
    }

    /// Adds or replaces one file.
    pub fn insert(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), SourceFile::new(path, text));
    }

    /// All files in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.values()
    }

    /// The file at `path`, if there is one.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.get(path)
    }

    /// Whether `path` is a file or a directory with files.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.keys().any(|known| {
            known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !is_built(&entry.path(), &name) {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file()
                && name != ".git"
                && entry.metadata()?.len() <= TEXT_LIMIT_BYTES
            {
                // Not UTF-8: an image or an archive, which no rule reads.
                if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                    self.insert(&path, &text);
                }
            }
        }
        Ok(())
    }
}

fn is_built(path: &Path, name: &str) -> bool {
    matches!(name, ".git" | ".tools" | "target" | "node_modules" | "dist")
        || path.join("CACHEDIR.TAG").exists()
}
