use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn texts(files: &FileSet, root: &std::path::Path) -> Vec<(String, String)> {
    let prefix = format!("{}/", root.display());
    let text = |content: &Content| match content {
        Content::Text(text) => text.to_string(),
        Content::Unreadable(why) => format!("unreadable: {why}"),
    };
    let relative = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    files.iter().map(|(path, content)| (relative(path), text(content))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// A watched directory.
struct Scene {
    folder: tempfile::TempDir,
    published: Receiver<FileSet>,
    _watch: FileWatch,
}

impl Scene {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            fs::write(folder.path().join(path), text).expect("written");
        }
        let (send, published) = channel();
        let watch = FileWatch::start(vec![folder.path().to_owned()], move |files| {
            let _ = send.send(files.clone());
        });
        Self { folder, published, _watch: watch.expect("watching") }
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.folder.path().join(path), text).expect("written");
    }

    /// Waits for this set; returns the other sets that were seen before it.
    fn wait(&self, expected: &[(&str, &str)]) -> Vec<Vec<(String, String)>> {
        let expected = pairs(expected);
        let deadline = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(files) = self.published.recv_timeout(left) else {
                panic!("{expected:?} never came; seen: {before:?}")
            };
            let found = texts(&files, self.folder.path());
            if found == expected {
                return before;
            }
            before.push(found);
        }
    }
}

#[test]
fn what_is_there_is_published_and_what_comes_goes_and_changes_follows() {
    let scene = Scene::new(&[("a.yaml", "1"), ("notes.txt", "no"), (".hidden.yaml", "no")]);
    scene.wait(&[("a.yaml", "1")]);
    scene.write("b.json", "{}");
    scene.wait(&[("a.yaml", "1"), ("b.json", "{}")]);
    scene.write("a.yaml", "2");
    scene.wait(&[("a.yaml", "2"), ("b.json", "{}")]);
    fs::remove_file(scene.folder.path().join("b.json")).expect("removed");
    scene.wait(&[("a.yaml", "2")]);
}

#[test]
fn directories_that_come_later_are_watched_too() {
    let scene = Scene::new(&[]);
    scene.wait(&[]);
    fs::create_dir_all(scene.folder.path().join("x/y")).expect("made");
    scene.write("x/y/c.YML", "deep");
    scene.wait(&[("x/y/c.YML", "deep")]);
    scene.write("x/y/c.YML", "deeper");
    scene.wait(&[("x/y/c.YML", "deeper")]);
    fs::rename(scene.folder.path().join("x"), scene.folder.path().join("z")).expect("renamed");
    scene.wait(&[("z/y/c.YML", "deeper")]);
}

#[test]
fn an_atomic_rename_is_seen_without_steps_between() {
    let scene = Scene::new(&[("a.yaml", "old")]);
    scene.wait(&[("a.yaml", "old")]);
    scene.write(".a.yaml.new", "new");
    let root = scene.folder.path();
    fs::rename(root.join(".a.yaml.new"), root.join("a.yaml")).expect("renamed");
    let before = scene.wait(&[("a.yaml", "new")]);
    assert!(before.is_empty(), "{before:?}");
}

#[test]
fn half_a_file_is_never_taken_for_the_whole() {
    use std::io::Write;
    let scene = Scene::new(&[("a.yaml", "the old text")]);
    scene.wait(&[("a.yaml", "the old text")]);
    let mut file = fs::File::create(scene.folder.path().join("a.yaml")).expect("truncated");
    for part in ["the ", "new ", "text"] {
        file.write_all(part.as_bytes()).expect("written");
        // Give the watcher a reason to look while the file is half written.
        scene.write("other.txt", part);
    }
    drop(file);
    let before = scene.wait(&[("a.yaml", "the new text")]);
    assert!(before.is_empty(), "{before:?}");
}

#[test]
fn a_configuration_volume_switches_by_its_link() {
    let scene = Scene::new(&[]);
    scene.wait(&[]);
    let root = scene.folder.path();
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(root.join(version)).expect("made");
        fs::write(root.join(version).join("a.yaml"), text).expect("written");
    }
    symlink("..1", root.join("..data")).expect("linked");
    symlink("..data/a.yaml", root.join("a.yaml")).expect("linked");
    scene.wait(&[("a.yaml", "one")]);
    symlink("..2", root.join("..data_tmp")).expect("linked");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("switched");
    let before = scene.wait(&[("a.yaml", "two")]);
    assert!(before.is_empty(), "{before:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_a_lost_root_deletes_nothing() {
    let scene = Scene::new(&[("a.yaml", "1")]);
    scene.wait(&[("a.yaml", "1")]);
    fs::write(scene.folder.path().join("b.yaml"), [b'a', 0xff]).expect("written");
    let unreadable = "unreadable: the file is not UTF-8 at byte 1";
    scene.wait(&[("a.yaml", "1"), ("b.yaml", unreadable)]);
    let (root, away) = (scene.folder.path(), scene.folder.path().with_extension("away"));
    let other = scene.folder.path().with_extension("other");
    fs::create_dir(&other).expect("another one");
    fs::write(other.join("c.yaml"), "back").expect("written");
    fs::rename(root, &away).expect("moved away");
    fs::rename(&other, root).expect("another in its place");
    let before = scene.wait(&[("c.yaml", "back")]);
    assert!(before.is_empty(), "{before:?}");
    fs::remove_dir_all(&away).expect("removed");
}

#[test]
fn a_root_that_is_missing_at_start_is_an_error() {
    let error = FileWatch::start(vec!["/nonexistent/mesh".into()], |_| ()).expect_err("missing");
    assert!(error.to_string().contains("--config /nonexistent/mesh"), "{error}");
}

#[test]
fn a_sign_of_a_file_is_about_that_file_and_any_other_about_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let write = |path: &str, text: &str| fs::write(root.join(path), text).expect("written");
    let signs = |paths: &[&str]| signs::Changed {
        paths: paths.iter().map(|path| root.join(path)).collect(),
        ..signs::Changed::default()
    };
    write("a.yaml", "1");
    write("b.yaml", "1");
    let mut tree = Tree::open(vec![root.to_owned()]).expect("a directory");
    assert!(tree.look(Look::Everything, &signs(&[])));
    let mut look = |paths: &[&str]| {
        let differs = tree.look(Look::WhatDiffers, &signs(paths));
        (differs, texts(tree.files(), root))
    };
    write("a.yaml", "2");
    write("b.yaml", "2");
    assert_eq!(look(&["a.yaml"]), (true, pairs(&[("a.yaml", "2"), ("b.yaml", "1")])));
    assert_eq!(look(&[]), (true, pairs(&[("a.yaml", "2"), ("b.yaml", "2")])), "without a sign");
    assert!(!look(&["a.yaml"]).0, "the same again");
    fs::create_dir(root.join(".git")).expect("made");
    write(".git/x.yaml", "1");
    write("notes.txt", "1");
    assert!(!look(&[".git/x.yaml", "notes.txt", ".gone"]).0);
    fs::remove_file(root.join("a.yaml")).expect("removed");
    assert_eq!(look(&["a.yaml"]), (true, pairs(&[("b.yaml", "2")])));
    fs::create_dir(root.join("more")).expect("made");
    write("more/c.yaml", "1");
    assert_eq!(look(&["more"]), (true, pairs(&[("b.yaml", "2"), ("more/c.yaml", "1")])));
    fs::rename(root.join("more"), root.join(".less")).expect("renamed");
    assert_eq!(look(&["more"]), (true, pairs(&[("b.yaml", "2")])));
}

/// A link to itself cannot be looked at by anybody, as a directory without rights cannot by most.
#[test]
fn a_file_in_place_of_a_directory_takes_away_what_was_below() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("team")).expect("made");
    fs::write(root.join("team/c.yaml"), "1").expect("written");
    let mut tree = Tree::open(vec![root.to_owned()]).expect("a directory");
    assert!(tree.look(Look::Everything, &signs::Changed::default()));
    fs::remove_dir_all(root.join("team")).expect("removed");
    fs::write(root.join("team"), "").expect("written");
    let sign = signs::Changed { paths: [root.join("team/c.yaml")].into(), ..Default::default() };
    assert!(tree.look(Look::WhatDiffers, &sign), "it is gone");
    assert!(tree.files().is_empty());
}

#[test]
fn what_cannot_be_looked_at_stays_as_it_was_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("team")).expect("made");
    for path in ["a.yaml", "b.yaml", "team/c.yaml"] {
        fs::write(root.join(path), "1").expect("written");
    }
    let all = pairs(&[("a.yaml", "1"), ("b.yaml", "1"), ("team/c.yaml", "1")]);
    let no_sign = signs::Changed::default();
    let mut tree = Tree::open(vec![root.to_owned()]).expect("a directory");
    assert!(tree.look(Look::Everything, &no_sign));
    fs::rename(root.join("team"), root.join(".team")).expect("renamed");
    fs::remove_file(root.join("a.yaml")).expect("removed");
    for path in ["a.yaml", "team", "never.yaml"] {
        symlink(root.join(path), root.join(path)).expect("linked to itself");
    }
    for look in [Look::WhatDiffers, Look::Everything] {
        assert!(!tree.look(look, &no_sign), "nothing is gone");
        assert_eq!(texts(tree.files(), root), all);
    }
    let sign = signs::Changed { paths: [root.join("team/c.yaml")].into(), ..Default::default() };
    assert!(!tree.look(Look::WhatDiffers, &sign), "by a sign of the file alone");
    assert_eq!(texts(tree.files(), root), all);

    fs::remove_file(root.join("team")).expect("removed");
    fs::rename(root.join(".team"), root.join("team")).expect("renamed");
    fs::write(root.join("team/c.yaml"), "2").expect("written");
    assert!(tree.look(Look::WhatDiffers, &no_sign));
    fs::remove_file(root.join("a.yaml")).expect("removed");
    assert!(tree.look(Look::WhatDiffers, &no_sign), "what is not there is gone");
    assert_eq!(texts(tree.files(), root), pairs(&[("b.yaml", "1"), ("team/c.yaml", "2")]));
}
