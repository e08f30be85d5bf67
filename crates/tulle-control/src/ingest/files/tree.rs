//! The tree: which files there are and what is in them, read only where something differs.
//!
//! Files named `*.yaml`, `*.yml` and `*.json`, at any depth, through symbolic links; nothing whose
//! name begins with a dot. What cannot be looked at keeps what was last read of it and below it: an
//! unmounted volume, or a directory whose rights were taken away, is not an order to delete
//! everything. Only what the system says is not there is gone.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::signs::Changed;

/// Longest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most files.
pub const MAX_FILES: usize = 100_000;
/// Deepest nesting of directories, which also ends loops of links.
pub const MAX_DEPTH: usize = 32;

/// The files by path, as they were last read.
pub type FileSet = BTreeMap<Arc<str>, Content>;

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// This text.
    Text(Arc<str>),
    /// It cannot be read, and why.
    Unreadable(Arc<str>),
}

/// Why watching cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A root is missing or no directory.
    #[error("--config {path} cannot be read; give a directory that exists")]
    Root {
        /// The root.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// No thread to be had.
    #[error("the thread that watches files cannot be started")]
    Thread(#[source] io::Error),
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Files whose time stamps differ or that changed as far as the system says.
    WhatDiffers,
    /// Every file.
    Everything,
}

/// The directories and what was last read from them.
#[derive(Debug)]
pub(super) struct Tree {
    roots: Vec<PathBuf>,
    files: FileSet,
    stamps: BTreeMap<Arc<str>, Stamp>,
}

/// What the system says of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What a path that a sign names is.
enum Kind {
    /// A file that is read, or was.
    File,
    /// Nothing that matters.
    Nothing,
    /// A directory, a link, or what may have been one.
    Other,
}

/// What one walk found.
#[derive(Debug, Default)]
struct Found {
    files: Vec<(PathBuf, Stamp)>,
    /// What could not be looked at: it and what is below stays as it was.
    blind: Vec<PathBuf>,
}

impl Found {
    /// Notes what could not be looked at.
    fn miss(&mut self, path: &Path, error: &io::Error) {
        unseen(path, error);
        self.blind.push(path.to_owned());
    }
}

impl Tree {
    /// The tree below `roots`, nothing read yet.
    ///
    /// # Errors
    /// A root is not a readable directory.
    pub(super) fn open(roots: Vec<PathBuf>) -> Result<Self, TreeError> {
        for root in &roots {
            fs::read_dir(root)
                .map_err(|source| TreeError::Root { path: root.display().to_string(), source })?;
        }
        Ok(Self { roots, files: FileSet::new(), stamps: BTreeMap::new() })
    }

    /// The directories.
    pub(super) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The files as they were last read.
    pub(super) fn files(&self) -> &FileSet {
        &self.files
    }

    /// Looks at the directories. True if any file came, went or says something else.
    pub(super) fn look(&mut self, look: Look, signs: &Changed) -> bool {
        if look == Look::WhatDiffers
            && let Some(files) = self.only_files(signs)
        {
            return self.look_at(&files, signs);
        }
        let mut found = Found::default();
        for root in &self.roots {
            walk(root, 0, &mut found);
        }
        let all = look == Look::Everything || signs.all;
        let mut files = FileSet::new();
        let mut stamps = BTreeMap::new();
        for (path, stamp) in found.files {
            let name = name(&path);
            let old = self.files.get(&name);
            let same = self.stamps.get(&name) == Some(&stamp) && !signs.paths.contains(&path);
            let content = match old {
                // Half a file is worse than an old one; a file never seen whole is not there yet.
                Some(old) if signs.writing.contains(&path) => old.clone(),
                None if signs.writing.contains(&path) => continue,
                Some(old) if same && !all => old.clone(),
                _ => read(&path, stamp),
            };
            files.insert(Arc::clone(&name), content);
            stamps.insert(name, stamp);
        }
        self.keep_blind(&found.blind, &mut files);
        let differs = files != self.files;
        (self.files, self.stamps) = (files, stamps);
        differs
    }

    /// The files that signs are about, if they are about nothing else: then the rest of the tree
    /// need not be looked at.
    fn only_files(&self, signs: &Changed) -> Option<Vec<PathBuf>> {
        if signs.all || signs.paths.is_empty() || self.files.len() >= MAX_FILES {
            return None;
        }
        let mut files = Vec::new();
        for path in &signs.paths {
            match self.kind(path) {
                Kind::File => files.push(path.clone()),
                Kind::Nothing => {}
                Kind::Other => return None,
            }
        }
        Some(files)
    }

    fn kind(&self, path: &Path) -> Kind {
        let below = self.roots.iter().find_map(|root| path.strip_prefix(root).ok());
        let Some(below) = below else { return Kind::Other };
        let is_hidden =
            |part: std::path::Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        let hidden = below.components().any(is_hidden);
        let wanted = !hidden && is_configuration(path) && below.components().count() <= MAX_DEPTH;
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() && wanted => Kind::File,
            Ok(metadata) if metadata.is_file() => Kind::Nothing,
            Ok(_) => Kind::Other,
            Err(_) if self.files.contains_key(&name(path)) => Kind::File,
            // Something hidden that is gone was seen by nobody; else it may have been a directory.
            Err(_) if hidden => Kind::Nothing,
            Err(_) => Kind::Other,
        }
    }

    /// Looks at these files and no others.
    fn look_at(&mut self, paths: &[PathBuf], signs: &Changed) -> bool {
        let mut differs = false;
        for path in paths.iter().filter(|path| !signs.writing.contains(*path)) {
            let name = name(path);
            let metadata = match fs::metadata(path) {
                Ok(metadata) => metadata,
                Err(error) if is_gone(&error) => {
                    differs |= self.files.remove(&name).is_some();
                    self.stamps.remove(&name);
                    continue;
                }
                Err(error) => {
                    unseen(path, &error);
                    continue;
                }
            };
            let stamp = Stamp::of(&metadata);
            let content = read(path, stamp);
            differs |= self.files.get(&name) != Some(&content);
            self.files.insert(Arc::clone(&name), content);
            self.stamps.insert(name, stamp);
        }
        differs
    }

    fn keep_blind(&self, blind: &[PathBuf], files: &mut FileSet) {
        for path in blind {
            let below = |(file, _): &(&Arc<str>, &Content)| Path::new(&***file).starts_with(path);
            for (file, content) in self.files.iter().filter(below) {
                files.entry(Arc::clone(file)).or_insert_with(|| content.clone());
            }
        }
    }
}

fn unseen(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "cannot be looked at; what was read stays");
}

fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

/// Whether nothing is there, or something that is no directory stands where one was.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn walk(folder: &Path, depth: usize, found: &mut Found) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A directory below a root that is gone was removed; a root never is.
        Err(error) if is_gone(&error) && depth > 0 => return,
        Err(error) => return found.miss(folder, &error),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // Which of its entries is missing nobody says.
            Err(error) => return found.miss(folder, &error),
        };
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                found.miss(&path, &error);
                continue;
            }
        };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, found);
            }
        } else if metadata.is_file() && is_configuration(&path) {
            if found.files.len() >= MAX_FILES {
                tracing::error!(limit = MAX_FILES, "too many files; the others are not read");
                return;
            }
            found.files.push((path, Stamp::of(&metadata)));
        }
    }
}

fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

fn read(path: &Path, stamp: Stamp) -> Content {
    if stamp.length > MAX_FILE_BYTES {
        let text = format!("the file has {} bytes, the limit is {MAX_FILE_BYTES}", stamp.length);
        return Content::Unreadable(text.into());
    }
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Content::Text(text.into()),
        Ok(Err(error)) => {
            let at = error.utf8_error().valid_up_to();
            Content::Unreadable(format!("the file is not UTF-8 at byte {at}").into())
        }
        Err(error) => Content::Unreadable(format!("the file cannot be read: {error}").into()),
    }
}
