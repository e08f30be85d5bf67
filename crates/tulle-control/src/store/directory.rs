//! The store as a directory: one file for each key, replaced by renaming.
//!
//! A workload is on the disk before its name is, and its name before the write is over, so that a
//! power cut takes back nothing that was answered. Objects are in their files, too, and may be
//! thousands: the disk has its time for them. The first line of a file names its key and the hash
//! of the rest: a file that is torn is noticed and left out instead of being believed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh64::xxh64;

use super::{MAX_VALUE_BYTES, Store, StoreError, Table, Write};

/// First word of every file.
const MAGIC: &str = "tulle-state-1";
/// Longest readable part of a file name, in bytes; longer keys end in their hash.
const MAX_FILE_STEM: usize = 160;

/// A directory of kept values, locked for this process.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens or makes the directory `root`.
    ///
    /// # Errors
    /// It cannot be made, or another process has it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for table in Table::ALL {
            let folder = root.join(table.as_str());
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(root.display().to_string())),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    /// Makes names that came and went last.
    fn sync(&self, table: Table) -> Result<(), StoreError> {
        if !survives_power_cuts(table) {
            return Ok(());
        }
        let folder = self.root.join(table.as_str());
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", &folder))
    }

    fn path(&self, table: Table, key: &str) -> PathBuf {
        self.root.join(table.as_str()).join(file_name(key))
    }
}

impl Store for Directory {
    fn load(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let folder = self.root.join(table.as_str());
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed("read", &folder))? {
            let path = entry.map_err(failed("read", &folder))?.path();
            if is_temporary(&path) {
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path) {
                Ok(pair) => found.push(pair),
                Err(why) => {
                    tracing::warn!(path = %path.display(), why, "a kept value is left out");
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn write(&self, write: &Write) -> Result<(), StoreError> {
        let path = self.path(write.table, &write.key);
        let Some(value) = &write.value else {
            remove(&path)?;
            return self.sync(write.table);
        };
        if value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLong { table: write.table, key: write.key.clone() });
        }
        let mut content = header(&write.key, value).into_bytes();
        content.extend_from_slice(value);
        let temporary = path.with_file_name(format!(".{}", file_name(&write.key)));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(&content)?;
            if survives_power_cuts(write.table) { file.sync_all() } else { Ok(()) }
        });
        written.map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
        self.sync(write.table)
    }
}

/// Whether somebody was told that it is kept.
fn survives_power_cuts(table: Table) -> bool {
    match table {
        Table::Registry => true,
        Table::Objects => false,
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn header(key: &str, value: &[u8]) -> String {
    format!("{MAGIC} {:016x} {key}\n", xxh64(value, 0))
}

fn read(path: &Path) -> Result<(String, Vec<u8>), &'static str> {
    let mut content = fs::read(path).map_err(|_| "it cannot be read")?;
    let end = content.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let value = content.split_off(end + 1);
    let line = std::str::from_utf8(&content[..end]).map_err(|_| "its first line is not text")?;
    let key = line.splitn(3, ' ').nth(2).ok_or("its first line is not ours")?;
    let whole = header(key, &value).trim_end_matches('\n') == line;
    if whole { Ok((key.to_owned(), value)) } else { Err("its hash is wrong") }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A file name that people can read, unique for the key.
fn file_name(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut name = String::new();
    for (index, byte) in key.bytes().enumerate() {
        if plain(byte) || (byte == b'.' && index > 0) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
        if name.len() > MAX_FILE_STEM {
            name.push_str(&format!("%{:016x}", xxh64(key.as_bytes(), 0)));
            break;
        }
    }
    name
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Write {
        Write { table: Table::Objects, key: key.into(), value: Some(value.into()) }
    }

    fn keys(store: &Directory) -> Vec<String> {
        let loaded = store.load(Table::Objects).expect("readable");
        loaded.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_is_written_is_there_after_reopening() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Directory::open(folder.path()).expect("open");
        let long = format!("VirtualService/{}/{}", "n".repeat(253), "m".repeat(253));
        let longer = format!("{long}2");
        for (key, value) in [("a/b", "one"), ("a/b", "two"), (".hidden", "x"), ("c d/ü", "y")] {
            store.write(&put(key, value)).expect("written");
        }
        store.write(&put(&long, "l")).expect("written");
        store.write(&put(&longer, "m")).expect("written");
        store.write(&Write { value: None, ..put("c d/ü", "") }).expect("forgotten");
        store.write(&Write { value: None, ..put("never", "") }).expect("nothing to forget");
        drop(store);
        let store = Directory::open(folder.path()).expect("open again");
        assert_eq!(keys(&store), [".hidden", &long, &longer, "a/b"]);
        let value = |wanted: &str| {
            let found = store.load(Table::Objects).expect("readable");
            found.into_iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
        };
        assert_eq!(value("a/b"), Some(b"two".to_vec()));
        assert!(store.load(Table::Registry).expect("readable").is_empty());
    }

    #[test]
    fn a_torn_file_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Directory::open(folder.path()).expect("open");
        store.write(&put("good", "value")).expect("written");
        store.write(&put("torn", "a longer value")).expect("written");
        let torn = folder.path().join("objects/torn");
        let content = fs::read(&torn).expect("there");
        fs::write(&torn, &content[..content.len() - 3]).expect("torn");
        fs::write(folder.path().join("objects/foreign"), "hello").expect("written");
        fs::write(folder.path().join("objects/.left-over"), "half").expect("written");
        assert_eq!(keys(&store), ["good"]);
        assert!(!folder.path().join("objects/.left-over").exists());
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Directory::open(folder.path()).expect("open");
        let refusal = Directory::open(folder.path()).expect_err("in use").to_string();
        assert!(refusal.contains("in use by another tulle-control"), "{refusal}");
        drop(first);
        Directory::open(folder.path()).expect("free again");
    }
}
