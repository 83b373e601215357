#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

mod stream;

/// There is room for anything.
struct Unbounded;

impl Room for Unbounded {
    fn take(&mut self, _: u64) -> bool {
        true
    }
}

const BOUNDS: Bounds = Bounds {
    archive_bytes: 256 << 20,
    entries: 10_000,
};

/// An archive that is put together entry by entry, good or bad.
struct Made(Vec<u8>);

impl Made {
    fn new() -> Made {
        Made(Vec::new())
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        change: impl FnOnce(&mut Header),
        content: &[u8],
    ) -> Made {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000);
        change(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Made {
        self.entry(EntryType::Regular, path, |_| {}, content.as_bytes())
    }

    fn folder(self, path: &str, mode: u32) -> Made {
        self.entry(EntryType::Directory, path, |header| header.set_mode(mode), b"")
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Made {
        let change = |header: &mut Header| header.set_link_name_literal(target).unwrap();
        self.entry(kind, path, change, b"")
    }

    fn symbolic(self, path: &str, target: &str) -> Made {
        self.link(EntryType::Symlink, path, target)
    }

    fn hard(self, path: &str, target: &str) -> Made {
        self.link(EntryType::Link, path, target)
    }

    fn device(self, path: &str, major: u32, minor: u32) -> Made {
        let change = |header: &mut Header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        };
        self.entry(EntryType::Char, path, change, b"")
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A folder that is an image's root, in one that nothing may reach.
struct Place {
    outer: TempDir,
}

impl Place {
    fn new() -> Place {
        let outer = TempDir::new().unwrap();
        fs::create_dir(outer.path().join("root")).unwrap();
        fs::write(outer.path().join("outside"), "untouched").unwrap();
        Place { outer }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, LayerError> {
        let expected = Expected {
            blob: Digest::of(archive),
            archive: Digest::of(archive),
        };
        unpack(archive, &self.root(), &expected, BOUNDS, &mut Unbounded)
    }

    /// What is there: names below the root, in order.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                names.push(
                    path.strip_prefix(self.root())
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
                if path.symlink_metadata().unwrap().is_dir() {
                    folders.push(path);
                }
            }
        }
        names.sort();
        names
    }

    fn opaque(&self, path: &str) -> bool {
        let path = self.root().join(path);
        let mut value = [0; 8];
        match rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut value) {
            Ok(length) => value[..length] == *b"y",
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::NODATA, "{}", path.display());
                false
            }
        }
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.root().join(path).symlink_metadata().unwrap();
        meta.file_type().is_char_device() && meta.rdev() == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let outside = fs::read_to_string(self.outer.path().join("outside"));
        let names = fs::read_dir(self.outer.path()).unwrap().count();
        if !std::thread::panicking() {
            assert_eq!(outside.unwrap(), "untouched");
            assert_eq!(names, 2, "something was made outside of the root");
        }
    }
}

fn refused(archive: Made) -> String {
    let place = Place::new();
    let error = place.unpack(&archive.bytes()).unwrap_err();
    assert!(matches!(error, LayerError::Hostile { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn everything_that_an_image_has_is_made_as_it_was_said() {
    let place = Place::new();
    let archive = Made::new()
        .folder("./", 0o755)
        .folder("./tmp", 0o1777)
        .entry(
            EntryType::Regular,
            "./bin/su",
            |header| {
                header.set_mode(0o4755);
                header.set_uid(7);
                header.set_gid(70_000);
            },
            b"hello",
        )
        .hard("bin/su2", "./bin/su")
        .symbolic("sbin", "bin")
        .symbolic("etc/localtime", "/usr/share/zoneinfo/UTC")
        .device("dev/null", 1, 3)
        .entry(
            EntryType::Block,
            "dev/sda",
            |header| header.set_device_major(8).unwrap(),
            b"",
        )
        .entry(EntryType::Fifo, "run/pipe", |header| header.set_mode(0o620), b"")
        .bytes();
    let unpacked = place.unpack(&archive).unwrap();
    assert_eq!(unpacked.entries, 9);
    assert_eq!(unpacked.archive_bytes, archive.len() as u64);
    assert_eq!(unpacked.implied, [&b"bin"[..], b"dev", b"etc", b"run"]);
    let meta = |path: &str| place.root().join(path).symlink_metadata().unwrap();
    assert_eq!(fs::read(place.root().join("bin/su")).unwrap(), b"hello");
    let su = meta("bin/su");
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()),
        (0o4755, 7, 70_000, 1_000)
    );
    assert_eq!(meta("bin/su2").ino(), su.ino());
    assert_eq!(
        (meta("tmp").mode() & 0o7777, meta("tmp").mtime()),
        (0o1777, 1_000)
    );
    assert_eq!(meta("bin").mode() & 0o7777, 0o755);
    assert_eq!(
        fs::read_link(place.root().join("sbin")).unwrap(),
        PathBuf::from("bin")
    );
    assert_eq!(meta("sbin").mtime(), 1_000);
    let target = fs::read_link(place.root().join("etc/localtime")).unwrap();
    assert_eq!(target, PathBuf::from("/usr/share/zoneinfo/UTC"));
    let null = meta("dev/null");
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("dev/sda").file_type().is_block_device());
    assert!(meta("run/pipe").file_type().is_fifo());
    assert_eq!(meta("run/pipe").mode() & 0o7777, 0o620);
    // Making something in a folder leaves its time as it was said.
    assert_eq!(place.root().symlink_metadata().unwrap().mtime(), 1_000);
}

#[test]
fn whiteouts_and_opaque_folders_are_overlayfss() {
    let place = Place::new();
    let archive = Made::new()
        .file(".wh.gone", "")
        .folder("etc", 0o755)
        .file("etc/.wh..wh..opq", "")
        .file("etc/new", "x")
        .file("var/.wh.lib", "")
        .file(".wh..wh.plnk/1.2", "aufs")
        // A whiteout hides what lower layers have, not what this one has, whichever comes first.
        .file(".wh.a", "")
        .folder("a", 0o755)
        .file("a/mine", "")
        .folder("b", 0o755)
        .file("b/mine", "")
        .file(".wh.b", "")
        .file(".wh.c", "")
        .file("c", "mine")
        .file("d", "mine")
        .file(".wh.d", "")
        .file(".wh.e", "")
        .file("e/implied", "")
        .bytes();
    let unpacked = place.unpack(&archive).unwrap();
    let names = [
        "a",
        "a/mine",
        "b",
        "b/mine",
        "c",
        "d",
        "e",
        "e/implied",
        "etc",
        "etc/new",
        "gone",
        "var",
        "var/lib",
    ];
    assert_eq!(place.names(), names);
    for path in ["gone", "var/lib"] {
        assert!(place.is_whiteout(path), "{path}");
    }
    for path in ["etc", "a", "b", "e"] {
        assert!(place.opaque(path), "{path}");
    }
    assert!(!place.opaque("var") && !place.opaque(""));
    assert_eq!(unpacked.implied, [&b""[..], b"e", b"var"]);
    assert_eq!(fs::read_to_string(place.root().join("c")).unwrap(), "mine");
}

#[test]
fn overlayfs_shows_what_the_layers_say_together() {
    let lower = Place::new();
    let files = Made::new()
        .file("keep", "lower")
        .file("gone", "lower")
        .file("etc/old", "lower")
        .file("opt/a/old", "lower")
        .file("var/log/x", "lower");
    lower.unpack(&files.bytes()).unwrap();
    let upper = Place::new();
    let files = Made::new()
        .file(".wh.gone", "")
        .file("etc/.wh..wh..opq", "")
        .file("etc/new", "upper")
        .file("opt/.wh.a", "")
        .folder("opt/a", 0o700)
        .file("var/.wh.log", "");
    upper.unpack(&files.bytes()).unwrap();
    let target = TempDir::new().unwrap();
    // In a mount namespace of its own: nothing of it is left.
    let script = "mount -t overlay -o ro,lowerdir=$1:$2 overlay $3 && cd $3 && find . | sort";
    let found = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([upper.root(), lower.root(), target.path().to_owned()])
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    let found = String::from_utf8(found.stdout).unwrap();
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(
        found,
        [".", "./etc", "./etc/new", "./keep", "./opt", "./opt/a", "./var"]
    );
}

#[test]
fn links_inside_the_image_are_followed_inside_it() {
    let place = Place::new();
    let archive = Made::new()
        .folder("usr/lib", 0o755)
        .symbolic("lib", "usr/lib")
        .file("lib/a", "by a link")
        .symbolic("abs", "/usr")
        .file("abs/lib/b", "by an absolute one")
        .symbolic("usr/up", "../usr/lib/../lib")
        .file("usr/up/c", "by one that goes up inside")
        .hard("abs/lib/d", "lib/a")
        .symbolic("new", "made/for/it")
        .file("new/e", "by one to what is not there yet")
        .bytes();
    place.unpack(&archive).unwrap();
    for path in [
        "usr/lib/a",
        "usr/lib/b",
        "usr/lib/c",
        "usr/lib/d",
        "made/for/it/e",
    ] {
        assert!(
            place.root().join(path).symlink_metadata().unwrap().is_file(),
            "{path}"
        );
    }
}

#[test]
fn what_reaches_outside_is_refused_by_name() {
    for (archive, words) in [
        (
            Made::new().file("/etc/passwd", "x"),
            "\"/etc/passwd\" is refused: its path is absolute",
        ),
        (Made::new().file("a/../../outside", "x"), "has a part \"..\""),
        (Made::new().file("../outside", "x"), "has a part \"..\""),
        (
            Made::new().symbolic("up", "../..").file("up/outside", "x"),
            "the symbolic link \"up\" to \"../..\", which leads out",
        ),
        (
            Made::new()
                .symbolic("a", "b/../..")
                .folder("b", 0o755)
                .file("a/outside", "x"),
            "leads out of the archive's root",
        ),
        (
            Made::new().symbolic("r", "/..").file("r/outside", "x"),
            "leads out of the archive's root",
        ),
        (
            Made::new().hard("a", "../outside"),
            "the target of the hard link, \"../outside\", is refused",
        ),
        (
            Made::new().hard("a", "/outside"),
            "the target of the hard link, \"/outside\", is refused",
        ),
        (
            Made::new().symbolic("up", "..").hard("a", "up/outside"),
            "leads out of the archive's root",
        ),
        (
            Made::new().symbolic("x", "y").symbolic("y", "x").file("x/a", ""),
            "more than 40",
        ),
        (
            Made::new().file("a", "x").device("a", 1, 3),
            "it is a device, and something else has this name",
        ),
        (
            Made::new().folder("a", 0o755).device("a", 1, 3),
            "it is a device, and something else has this name",
        ),
        (
            Made::new().file("a", "x").file("a/b", "x"),
            "goes through \"a\", which is no folder",
        ),
        (Made::new().hard("a", "b"), "\"b\", which is not in this archive"),
        (
            Made::new().file(".wh.b", "").hard("a", "b"),
            "\"b\", which is not in this archive",
        ),
        (
            Made::new().folder("b", 0o755).hard("a", "b"),
            "\"b\", which cannot be linked to",
        ),
        (Made::new().hard("a", "."), "cannot be linked to"),
        (Made::new().file(".", "x"), "the archive's root is a folder"),
        (Made::new().file("a/.wh...", ""), "names that begin with .wh."),
    ] {
        let refused = refused(archive);
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn a_link_that_leads_out_is_only_a_text_until_something_goes_through_it() {
    let place = Place::new();
    let archive = Made::new()
        .symbolic("a", "../../outside")
        .symbolic("b", "/outside")
        .file("b", "a file in its place")
        .file("a", "a file in its place");
    place.unpack(&archive.bytes()).unwrap();
    assert_eq!(place.names(), ["a", "b"]);
    assert!(place.root().join("a").symlink_metadata().unwrap().is_file());
}

#[test]
fn deep_paths_and_many_links_end_in_words() {
    // Each link is short, and what it leads to is twice as deep as what the one before leads to.
    let long = format!("{}x", "d/".repeat(40));
    let mut archive = Made::new();
    for number in 0..45 {
        let target = if number == 0 {
            long.clone()
        } else {
            format!("l{}/{}", number - 1, &long[..18])
        };
        archive = archive.symbolic(&format!("l{number}"), &target);
    }
    let refused = refused(archive.file("l44/a", "x"));
    assert!(refused.contains("more than 40"), "{refused}");

    let mut archive = Made::new().symbolic("s", &"d/".repeat(45));
    for depth in 1..60 {
        archive = archive.symbolic(&format!("{}s", "d/".repeat(depth * 45 % 90)), &"d/".repeat(45));
    }
    let place = Place::new();
    let way = "s/".repeat(38);
    let made = place.unpack(&archive.file(&format!("{way}x"), "").bytes());
    // Whatever it is that stops it: it is no panic, and nothing is outside.
    assert!(
        made.is_ok() || matches!(made, Err(LayerError::Hostile { .. })),
        "{made:?}"
    );
}

#[test]
fn what_comes_later_takes_the_place_of_what_came_before() {
    let place = Place::new();
    let archive = Made::new()
        .file("a", "old")
        .file("a", "new")
        .folder("b", 0o755)
        .file("b/below/x", "")
        .file("b", "a file now")
        .file("c", "")
        .folder("c", 0o711)
        .folder("d", 0o755)
        .file("d/stays", "")
        .folder("d", 0o700)
        .device("e", 1, 3)
        .device("e", 1, 5)
        .device("f", 1, 3)
        .file("f", "a file now")
        .bytes();
    let unpacked = place.unpack(&archive).unwrap();
    assert_eq!(place.names(), ["a", "b", "c", "d", "d/stays", "e", "f"]);
    assert_eq!(unpacked.implied, [b""]);
    let meta = |path: &str| place.root().join(path).symlink_metadata().unwrap();
    assert_eq!(fs::read_to_string(place.root().join("a")).unwrap(), "new");
    assert_eq!(meta("d").mode() & 0o7777, 0o700);
    assert_eq!(meta("e").rdev(), rustix::fs::makedev(1, 5));
    assert!(meta("f").is_file());
}

#[test]
fn what_takes_too_much_is_refused_with_its_bound() {
    let many = (0..50).fold(Made::new(), |made, number| made.file(&format!("f{number}"), ""));
    let many = many.bytes();
    let expected = Expected {
        blob: Digest::of(&many),
        archive: Digest::of(&many),
    };
    let bounds = |archive_bytes, entries| Bounds {
        archive_bytes,
        entries,
    };
    let place = Place::new();
    let refused = unpack(
        many.as_slice(),
        &place.root(),
        &expected,
        bounds(1 << 20, 49),
        &mut Unbounded,
    )
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the layer takes more than 49 files: put fewer files into the image"
    );
    let place = Place::new();
    assert!(
        unpack(
            many.as_slice(),
            &place.root(),
            &expected,
            bounds(1 << 20, 50),
            &mut Unbounded
        )
        .is_ok()
    );

    // 4 MiB of zeros, packed to some kilobytes.
    let zeros = Made::new()
        .entry(EntryType::Regular, "zeros", |_| {}, &vec![0; 4 << 20])
        .bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let place = Place::new();
    let expected = Expected {
        blob: Digest::of(&bomb),
        archive: Digest::of(&zeros),
    };
    let refused = unpack(
        bomb.as_slice(),
        &place.root(),
        &expected,
        bounds(1 << 20, 50),
        &mut Unbounded,
    )
    .unwrap_err();
    assert!(refused.to_string().contains("more than 1048576 B"), "{refused}");
    assert!(place.root().join("zeros").metadata().unwrap().len() <= 1 << 20);
}

#[test]
fn room_is_asked_for_before_it_is_taken() {
    /// Has so many bytes.
    struct Some(u64);
    impl Room for Some {
        fn take(&mut self, bytes: u64) -> bool {
            let left = self.0.checked_sub(bytes);
            self.0 = left.unwrap_or(self.0);
            left.is_some()
        }
    }
    let archive = Made::new()
        .file("a/b", "x")
        .file(".wh.c", "")
        .file("d", &"x".repeat(5000))
        .bytes();
    let expected = Expected {
        blob: Digest::of(&archive),
        archive: Digest::of(&archive),
    };
    // Three names and a folder that is implied; one page and two.
    let takes = 4 * 1024 + 3 * 4096;
    let place = Place::new();
    let unpacked = unpack(
        archive.as_slice(),
        &place.root(),
        &expected,
        BOUNDS,
        &mut Some(takes),
    )
    .unwrap();
    assert_eq!(unpacked.held_bytes, takes);
    let place = Place::new();
    let refused = unpack(
        archive.as_slice(),
        &place.root(),
        &expected,
        BOUNDS,
        &mut Some(takes - 1),
    )
    .unwrap_err();
    assert!(
        matches!(refused, LayerError::NoRoom { bytes } if bytes == takes),
        "{refused:?}"
    );
    assert_eq!(place.root().join("d").metadata().unwrap().len(), 0);
}

/// A tree as a builder has it, and what of it GNU tar, a program of others, puts into each of its formats.
#[test]
fn archives_of_gnu_tar_give_the_tree_again() {
    let script = r#"
        set -e
        mkdir -p "$1/deep/$(printf 'n%.0s' $(seq 120))/$(printf 'm%.0s' $(seq 120))"
        cd "$1"
        echo hello > file; ln file hard; ln -s file soft; mkfifo pipe; mknod null c 1 3
        ln -s "$(printf 't%.0s' $(seq 150))" long-target
        chown 12345:54321 file; chmod 4711 file; chmod 1777 deep
        echo x > "deep/$(printf 'n%.0s' $(seq 120))/$(printf 'f%.0s' $(seq 200))"
        truncate -s 5M sparse; echo begin | dd of=sparse conv=notrunc status=none
        echo end | dd of=sparse bs=1M seek=3 conv=notrunc status=none
        setcap cap_net_raw=ep file 2>/dev/null || true
        touch -d @1234567890 file deep
    "#;
    let from = TempDir::new().unwrap();
    let made = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(from.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    rustix::fs::setxattr(
        from.path().join("file"),
        "user.x",
        b"line\nline\0\xff",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let listing = |of: &Path| {
        let script = "cd \"$1\" && find . -mindepth 1 -printf '%P %y %m %U:%G %s %l %n\\n' | sort && find . -type f -exec sha256sum {} + | sort";
        let found = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(of)
            .output()
            .unwrap();
        // A folder's size is its filesystem's.
        String::from_utf8(found.stdout).unwrap()
    };
    let expected = listing(from.path());
    for (format, flags) in [
        ("gnu", &["--sparse"][..]),
        ("gnu", &[]),
        ("pax", &["--sparse", "--xattrs"]),
        ("pax", &["--sparse", "--sparse-version=0.0"]),
        ("pax", &["--sparse", "--sparse-version=0.1"]),
    ] {
        let archive = Command::new("tar")
            .args(["--create", "--numeric-owner", "--format", format])
            .args(flags)
            .arg("-C")
            .arg(from.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(
            archive.status.success(),
            "{}",
            String::from_utf8_lossy(&archive.stderr)
        );
        let place = Place::new();
        let unpacked = place.unpack(&archive.stdout).unwrap();
        assert_eq!(listing(&place.root()), expected, "{format} {flags:?}");
        assert_eq!(unpacked.attributes_left_out, 0);
        let meta = |path: &str| place.root().join(path).symlink_metadata().unwrap();
        assert_eq!(
            (meta("file").mtime(), meta("deep").mtime()),
            (1_234_567_890, 1_234_567_890)
        );
        if flags.contains(&"--sparse") {
            assert!(
                meta("sparse").blocks() * 512 < 1 << 20,
                "{}",
                meta("sparse").blocks()
            );
        }
        if flags.contains(&"--xattrs") {
            let mut value = [0; 32];
            let length = rustix::fs::getxattr(place.root().join("file"), "user.x", &mut value).unwrap();
            assert_eq!(&value[..length], b"line\nline\0\xff");
        }
    }
}

#[test]
fn attributes_of_the_host_and_of_overlayfs_are_never_an_archives() {
    let mut builder = Builder::new(Vec::new());
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.unknown.thing", b"x"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o755);
    header.set_mtime(0);
    builder.append_data(&mut header, "ping", io::empty()).unwrap();
    let place = Place::new();
    let unpacked = place.unpack(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(unpacked.attributes_left_out, 2);
    let mut value = [0; 64];
    let path = place.root().join("ping");
    let length = rustix::fs::getxattr(&path, "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    let none = rustix::fs::getxattr(&path, "trusted.overlay.redirect", &mut value);
    assert_eq!(none, Err(rustix::io::Errno::NODATA));
}
