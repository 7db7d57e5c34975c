//! Directories, renames, removals, links.

use std::io::ErrorKind;

use super::{Ground, Topic, expect, fails, ok, same};
use crate::{FileKind, Metadata};

pub(super) const TOPICS: &[(&str, Topic)] = &[
    ("metadata", metadata),
    ("list", list),
    ("create_dir", create_dir),
    ("remove_dir", remove_dir),
    ("rename", rename),
    ("rename_between_dirs", rename_between_dirs),
    ("rename_kinds", rename_kinds),
    ("rename_dir", rename_dir),
    ("rename_while_open", rename_while_open),
    ("remove", remove),
    ("remove_while_open", remove_while_open),
    ("hard_link", hard_link),
    ("hard_link_rename", hard_link_rename),
    ("sync_dir", sync_dir),
    ("free_space", free_space),
];

fn metadata(ground: &Ground<'_>) {
    let file = ground.put("file", b"12345");
    let found = ok(ground.fs.metadata(&file), "metadata of a file works");
    same(found, Metadata { kind: FileKind::File, len: 5 }, "metadata of a file is right");
    let found = ok(ground.fs.metadata(&ground.dir), "metadata of a directory works");
    same(found, Metadata { kind: FileKind::Dir, len: 0 }, "metadata of a directory is right");
    fails(
        ground.fs.metadata(&ground.path("none")),
        ErrorKind::NotFound,
        "metadata of nothing fails",
    );
    fails(
        ground.fs.metadata(&ground.path("no/file")),
        ErrorKind::NotFound,
        "metadata below nothing fails",
    );
    fails(
        ground.fs.metadata(&file.join("x")),
        ErrorKind::NotADirectory,
        "metadata below a file fails",
    );
    let dotted = ground.dir.join(".").join("file");
    same(
        ok(ground.fs.metadata(&dotted), "a path may hold dots").len,
        5,
        "a dot stays in its directory",
    );
}

fn list(ground: &Ground<'_>) {
    expect(ground.names(&ground.dir).is_empty(), "a new directory lists as empty");
    for name in ["b", "a", "c10", "c9", "B", ".hidden"] {
        ground.put(name, b"");
    }
    ok(ground.fs.create_dir_all(&ground.path("a-dir/inner")), "create_dir_all works");
    let wanted = [".hidden", "B", "a", "a-dir", "b", "c10", "c9"].map(String::from).to_vec();
    same(ground.names(&ground.dir), wanted, "list gives names of this level, sorted by bytes");
    fails(ground.fs.list(&ground.path("none")), ErrorKind::NotFound, "list of nothing fails");
    fails(ground.fs.list(&ground.path("a")), ErrorKind::NotADirectory, "list of a file fails");
}

fn create_dir(ground: &Ground<'_>) {
    let deep = ground.path("x/y/z");
    ok(ground.fs.create_dir_all(&deep), "create_dir_all makes all parents");
    same(
        ok(ground.fs.metadata(&deep), "metadata works").kind,
        FileKind::Dir,
        "the last part is a directory",
    );
    ok(ground.fs.create_dir_all(&deep), "create_dir_all of what is there is fine");
    let inside = deep.join("file");
    drop(ok(ground.fs.create(&inside), "a file fits into a deep directory"));
    ok(ground.fs.create_dir_all(&deep), "create_dir_all over a full directory is fine");
    expect(ground.fs.metadata(&inside).is_ok(), "create_dir_all removes nothing");
    let file = ground.put("file", b"f");
    fails(
        ground.fs.create_dir_all(&file),
        ErrorKind::AlreadyExists,
        "create_dir_all over a file fails",
    );
    fails(
        ground.fs.create_dir_all(&file.join("d")),
        ErrorKind::NotADirectory,
        "create_dir_all below a file fails",
    );
    ground.holds(&file, b"f", "create_dir_all leaves files alone");
}

fn remove_dir(ground: &Ground<'_>) {
    let dir = ground.path("dir");
    ok(ground.fs.create_dir_all(&dir), "create_dir_all works");
    let file = ground.put("dir/file", b"");
    fails(
        ground.fs.remove_dir(&dir),
        ErrorKind::DirectoryNotEmpty,
        "a full directory is not removed",
    );
    fails(
        ground.fs.remove_dir(&file),
        ErrorKind::NotADirectory,
        "remove_dir does not remove files",
    );
    fails(
        ground.fs.remove_file(&dir),
        ErrorKind::IsADirectory,
        "remove_file does not remove directories",
    );
    ok(ground.fs.remove_file(&file), "remove_file works");
    ok(ground.fs.remove_dir(&dir), "an empty directory is removed");
    ground.missing(&dir, "a removed directory is gone");
    fails(ground.fs.remove_dir(&dir), ErrorKind::NotFound, "remove_dir of nothing fails");
    ok(ground.fs.create_dir_all(&dir), "a removed directory can be made again");
    expect(ground.names(&dir).is_empty(), "a directory made again is empty");
}

fn rename(ground: &Ground<'_>) {
    let (a, b) = (ground.put("a", b"new"), ground.path("b"));
    ok(ground.fs.rename(&a, &b), "rename to a free name works");
    ground.missing(&a, "the old name is gone after a rename");
    ground.holds(&b, b"new", "the new name has the bytes");
    let c = ground.put("c", b"a longer old content");
    ok(ground.fs.rename(&b, &c), "rename over a file works");
    ground.missing(&b, "the old name is gone after a rename over a file");
    ground.holds(&c, b"new", "rename over a file replaces it whole");
    same(ground.names(&ground.dir), vec!["c".to_string()], "no other names are left");
    fails(ground.fs.rename(&a, &c), ErrorKind::NotFound, "rename of nothing fails");
    ground.holds(&c, b"new", "a failed rename leaves the target alone");
    fails(
        ground.fs.rename(&c, &ground.path("no/c")),
        ErrorKind::NotFound,
        "rename into nothing fails",
    );
    ground.holds(&c, b"new", "a failed rename leaves the source alone");
    ok(ground.fs.rename(&c, &c), "rename to itself works");
    ground.holds(&c, b"new", "rename to itself changes nothing");
}

fn rename_between_dirs(ground: &Ground<'_>) {
    ok(ground.fs.create_dir_all(&ground.path("one")), "create_dir_all works");
    ok(ground.fs.create_dir_all(&ground.path("two")), "create_dir_all works");
    let (from, to) = (ground.put("one/file", b"moved"), ground.path("two/name"));
    ok(ground.fs.rename(&from, &to), "rename between directories works");
    ground.missing(&from, "the old name is gone");
    ground.holds(&to, b"moved", "the new name has the bytes");
    expect(ground.names(&ground.path("one")).is_empty(), "the old directory is empty");
    same(
        ground.names(&ground.path("two")),
        vec!["name".to_string()],
        "the new directory has one name",
    );
}

fn rename_kinds(ground: &Ground<'_>) {
    let (file, dir) = (ground.put("file", b"f"), ground.path("dir"));
    ok(ground.fs.create_dir_all(&dir), "create_dir_all works");
    fails(
        ground.fs.rename(&file, &dir),
        ErrorKind::IsADirectory,
        "a file does not replace a directory",
    );
    fails(
        ground.fs.rename(&dir, &file),
        ErrorKind::NotADirectory,
        "a directory does not replace a file",
    );
    fails(
        ground.fs.rename(&dir, &dir.join("in")),
        ErrorKind::InvalidInput,
        "a directory does not move into itself",
    );
    fails(
        ground.fs.rename(&file, &file.join("x")),
        ErrorKind::NotADirectory,
        "nothing moves below a file",
    );
    ground.holds(&file, b"f", "refused renames change nothing");
}

fn rename_dir(ground: &Ground<'_>) {
    ok(ground.fs.create_dir_all(&ground.path("old/sub")), "create_dir_all works");
    ground.put("old/sub/file", b"deep");
    ok(ground.fs.rename(&ground.path("old"), &ground.path("new")), "a directory can be renamed");
    ground.missing(&ground.path("old"), "the old name of the directory is gone");
    ground.holds(&ground.path("new/sub/file"), b"deep", "a renamed directory keeps what is below");
    ok(ground.fs.create_dir_all(&ground.path("full/x")), "create_dir_all works");
    let onto = ground.fs.rename(&ground.path("new"), &ground.path("full"));
    fails(onto, ErrorKind::DirectoryNotEmpty, "a directory does not replace a full one");
    ok(ground.fs.create_dir_all(&ground.path("empty")), "create_dir_all works");
    ok(
        ground.fs.rename(&ground.path("new"), &ground.path("empty")),
        "a directory replaces an empty one",
    );
    ground.holds(&ground.path("empty/sub/file"), b"deep", "what is below came along");
}

fn rename_while_open(ground: &Ground<'_>) {
    let target = ground.put("target", b"old bytes");
    let source = ground.put("source", b"new bytes!");
    let reader = ok(ground.fs.open(&target), "open works");
    let mut writer = ok(ground.fs.open_append(&source), "open_append works");
    ok(ground.fs.rename(&source, &target), "rename over an open file works");
    let mut buf = [0; 9];
    ok(reader.read_exact_at(&mut buf, 0), "a reader of the replaced file goes on");
    same(&buf, b"old bytes", "a reader of the replaced file sees the old bytes");
    same(ok(reader.len(), "len works"), 9, "a reader of the replaced file sees the old length");
    ok(writer.append(b" more"), "a writer of the renamed file goes on");
    ground.holds(&target, b"new bytes! more", "a writer follows its file to the new name");
    ground.missing(&source, "a writer does not bring the old name back");
}

fn remove(ground: &Ground<'_>) {
    let path = ground.put("file", b"bytes");
    ok(ground.fs.remove_file(&path), "remove works");
    ground.missing(&path, "a removed file is gone");
    fails(ground.fs.open(&path), ErrorKind::NotFound, "a removed file does not open");
    fails(ground.fs.remove_file(&path), ErrorKind::NotFound, "remove of nothing fails");
    expect(ground.names(&ground.dir).is_empty(), "a removed file is not listed");
    let path = ground.put("file", b"");
    ground.holds(&path, b"", "a file made again has no old bytes");
    fails(
        ground.fs.remove_file(&path.join("x")),
        ErrorKind::NotADirectory,
        "remove below a file fails",
    );
}

fn remove_while_open(ground: &Ground<'_>) {
    let path = ground.put("file", b"still here");
    let reader = ok(ground.fs.open(&path), "open works");
    let mut writer = ok(ground.fs.open_append(&path), "open_append works");
    ok(ground.fs.remove_file(&path), "an open file can be removed");
    let mut buf = [0; 10];
    ok(reader.read_exact_at(&mut buf, 0), "a removed file can be read by its handles");
    same(&buf, b"still here", "a removed file keeps its bytes for its handles");
    ok(writer.append(b"!"), "a removed file can be appended to");
    same(ok(reader.len(), "len works"), 11, "handles of a removed file see each other");
    let again = ground.put("file", b"other");
    ground.holds(&again, b"other", "the name is free for another file");
    ok(reader.read_exact_at(&mut buf, 0), "the old handle goes on");
    same(&buf, b"still here", "the old handle does not see the new file");
}

fn hard_link(ground: &Ground<'_>) {
    let (a, b) = (ground.put("a", b"shared"), ground.path("b"));
    ok(ground.fs.hard_link(&a, &b), "hard_link works");
    ground.holds(&b, b"shared", "both names have the bytes");
    let mut writer = ok(ground.fs.open_append(&b), "the second name opens for appending");
    ok(writer.append(b"+"), "append works");
    ground.holds(&a, b"shared+", "a change shows under both names");
    fails(ground.fs.hard_link(&a, &b), ErrorKind::AlreadyExists, "hard_link does not replace");
    fails(ground.fs.hard_link(&a, &a), ErrorKind::AlreadyExists, "hard_link to itself fails");
    fails(
        ground.fs.hard_link(&ground.path("none"), &ground.path("c")),
        ErrorKind::NotFound,
        "hard_link of nothing fails",
    );
    fails(
        ground.fs.hard_link(&a, &ground.path("no/c")),
        ErrorKind::NotFound,
        "hard_link into nothing fails",
    );
    ok(ground.fs.create_dir_all(&ground.path("dir")), "create_dir_all works");
    fails(
        ground.fs.hard_link(&a, &ground.path("dir")),
        ErrorKind::AlreadyExists,
        "hard_link over a directory fails",
    );
    let of_dir = ground.fs.hard_link(&ground.path("dir"), &ground.path("dir2"));
    fails(of_dir, ErrorKind::PermissionDenied, "directories have no second names");
    ok(ground.fs.remove_file(&a), "the first name can be removed");
    ground.holds(&b, b"shared+", "the second name keeps the bytes");
    ground.missing(&a, "the first name is gone");
    let again = ground.put("a", b"fresh");
    ground.holds(&b, b"shared+", "the first name made again is another file");
    ground.holds(&again, b"fresh", "the new file has its own bytes");
}

fn hard_link_rename(ground: &Ground<'_>) {
    let (a, b) = (ground.put("a", b"x"), ground.path("b"));
    ok(ground.fs.hard_link(&a, &b), "hard_link works");
    ok(ground.fs.rename(&a, &b), "rename between two names of one file works");
    ground.holds(&a, b"x", "such a rename leaves the first name");
    ground.holds(&b, b"x", "such a rename leaves the second name");
    let c = ground.put("c", b"y");
    ok(ground.fs.rename(&c, &b), "rename over one of two names works");
    ground.holds(&a, b"x", "the other name keeps the old bytes");
    ground.holds(&b, b"y", "the replaced name has the new bytes");
}

fn sync_dir(ground: &Ground<'_>) {
    ok(ground.fs.sync_dir(&ground.dir), "sync of an empty directory works");
    let file = ground.put("file", b"x");
    ok(ground.fs.sync_dir(&ground.dir), "sync of a directory works");
    ok(ground.fs.sync_dir(&ground.dir), "a second sync of a directory works");
    ground.holds(&file, b"x", "sync of a directory changes nothing");
    fails(
        ground.fs.sync_dir(&ground.path("none")),
        ErrorKind::NotFound,
        "sync of no directory fails",
    );
    fails(ground.fs.sync_dir(&file), ErrorKind::NotADirectory, "sync_dir of a file fails");
}

fn free_space(ground: &Ground<'_>) {
    let free = ok(ground.fs.free_space(&ground.dir), "free_space works");
    expect(free > 0, "there is space for the suite");
    fails(
        ground.fs.free_space(&ground.path("none")),
        ErrorKind::NotFound,
        "free_space of nothing fails",
    );
}
