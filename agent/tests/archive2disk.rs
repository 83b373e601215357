//! The built-in action `archive2disk`, by the real agent on loop devices: the tree is the one that GNU tar makes.

mod fake;
mod image;
#[path = "archive2disk/site.rs"]
mod site;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use fake::action;
use image::{LoopDisk, run};
use proto::v1::report::Outcome;
use sha2::{Digest, Sha256, Sha512};
use site::{Answer, Site};
use world::World;

/// An ext4 of 32 MiB with this in it.
fn disk(world: &World, content: &[(&str, &str)]) -> LoopDisk {
    let root = world.folder.path().join("content");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir(&root).expect("folder");
    for (path, text) in content {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        fs::write(path, text).expect("file");
    }
    let name = world.folder.path().join(unique());
    LoopDisk::with(&root, &name)
}

async fn unpack(world: &mut World, attempt_id: &str, disk: &LoopDisk, variables: &[(&str, &str)]) -> Outcome {
    let mut all = vec![("DEST_DISK", disk.device.as_str()), ("FS_TYPE", "ext4")];
    all.extend(variables);
    world.run("archive2disk", attempt_id, &all).await
}

/// A name that no other disk of this test has.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("disk-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Mounted by the test, read-only.
struct Mount(tempfile::TempDir);

impl Mount {
    fn of(disk: &LoopDisk) -> Mount {
        let folder = tempfile::tempdir().expect("folder");
        run(Command::new("mount")
            .args(["-o", "ro", &disk.device])
            .arg(folder.path()));
        Mount(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.path()).expect("folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
        names.retain(|name| name != "lost+found");
        names.sort();
        names
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// All that can be said of a file, but for its number and when it was read.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind_and_mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    device: u64,
    links: u64,
    /// The first path of the same file.
    same_as: Option<PathBuf>,
    target: Option<PathBuf>,
    content: Option<String>,
    /// Whether some of it takes no room.
    has_holes: bool,
    attributes: BTreeMap<OsString, Vec<u8>>,
}

fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = fs::symlink_metadata(&path).expect("there");
        let short = path.strip_prefix(root).expect("below").to_owned();
        if stat.is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path)
                .expect("folder")
                .map(|entry| entry.expect("entry").path())
                .collect();
            below.retain(|path| !path.ends_with("lost+found"));
            below.sort();
            ahead.extend(below.into_iter().rev());
        }
        let is_root = short.as_os_str().is_empty();
        let same_as = match stat.is_file() && stat.nlink() > 1 {
            true => Some(firsts.entry(stat.ino()).or_insert_with(|| short.clone()).clone()),
            false => None,
        };
        entries.insert(
            short,
            Entry {
                kind_and_mode: stat.mode(),
                owner: (stat.uid(), stat.gid()),
                size: if stat.is_dir() { 0 } else { stat.size() },
                modified: (stat.mtime(), stat.mtime_nsec()),
                device: stat.rdev(),
                links: if is_root { 0 } else { stat.nlink() },
                same_as,
                target: stat.is_symlink().then(|| fs::read_link(&path).expect("link")),
                content: stat
                    .is_file()
                    .then(|| hex(&Sha256::digest(fs::read(&path).expect("file")))),
                has_holes: stat.is_file() && stat.blocks() * 512 < stat.size(),
                attributes: attributes(&path),
            },
        );
    }
    entries
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut list).expect("attributes");
    let names = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value).expect("attribute");
        (name.to_owned(), value[..length].to_vec())
    };
    names.map(value).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect(name);
}

/// A folder with everything that a file can be.
fn everything(root: &Path) {
    let nest = root.join("usr/share").join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&nest).expect("folder");
    fs::write(nest.join("a file with a long path"), "long").expect("file");
    fs::write(root.join("usr/su"), "su").expect("file");
    run(Command::new("chown")
        .arg("70000:3000000000")
        .arg(root.join("usr/su")));
    run(Command::new("chmod").arg("6751").arg(root.join("usr/su")));
    fs::hard_link(root.join("usr/su"), root.join("usr/sudo")).expect("link");
    symlink("/etc/../../nowhere", root.join("link")).expect("link");
    symlink("usr", root.join("within")).expect("link");
    run(Command::new("mkfifo").arg(root.join("pipe")));
    run(Command::new("mknod").arg(root.join("null")).args(["c", "1", "3"]));
    run(Command::new("mknod")
        .arg(root.join("hidden"))
        .args(["c", "0", "0"]));
    run(Command::new("mknod")
        .arg(root.join("loop"))
        .args(["b", "7", "300"]));
    fs::write(root.join(".wh.no-whiteout"), "x").expect("file");
    fs::write(root.join(".wh..wh..opq"), "").expect("file");
    let sparse = fs::File::create(root.join("sparse")).expect("file");
    sparse.set_len(8 << 20).expect("size");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).expect("written");
    fs::write(root.join("able"), "able").expect("file");
    // cap_net_raw+ep, as setcap writes it.
    set(
        &root.join("able"),
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    set(&root.join("able"), "user.note", b"a\nb=\0c");
    set(&root.join("able"), "trusted.overlay.opaque", b"y");
    let list = |text: &[u8]| oci::layer::access_list(text).expect("a list");
    let access = list(b"user::rwx,user:1234:r-x,group::r-x,group:99:rwx,mask::rwx,other::---");
    set(&root.join("able"), "system.posix_acl_access", &access);
    set(&root.join("usr"), "system.posix_acl_access", &access);
    set(
        &root.join("usr"),
        "system.posix_acl_default",
        &list(b"user::rwx,user:7:rw-,group::r-x,mask::rwx,other::r--"),
    );
    fs::create_dir(root.join("no-entry")).expect("folder");
    run(Command::new("chmod").arg("1000").arg(root.join("no-entry")));
    for (path, time) in [
        ("usr/su", "@1000000000.123456789"),
        ("usr", "@999999999"),
        (".", "@888888888.5"),
    ] {
        run(Command::new("touch").args(["-d", time]).arg(root.join(path)));
    }
}

fn tar(folder: &Path, more: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name"])
        .args(more)
        .arg("-C")
        .arg(folder)
        .arg(".");
    let made = tar.output().expect("tar");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

#[track_caller]
fn succeeded(outcome: Outcome) {
    assert!(
        matches!(outcome, Outcome::Succeeded(_)),
        "no success: {outcome:?}"
    );
}

#[track_caller]
fn failed(outcome: Outcome, reason: &str, words: &[&str], disks_untouched: bool) {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => {
            for word in words {
                assert!(failed.message.contains(word), "{word}: {}", failed.message);
            }
            assert_eq!(failed.disks_untouched, disks_untouched, "{failed:?}");
        }
        other => panic!("no {reason}: {other:?}"),
    }
}

const PAX: [&str; 6] = [
    "--format=pax",
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--numeric-owner",
    "--sparse",
];

#[tokio::test]
async fn the_tree_is_the_one_that_gnu_tar_makes() {
    let mut world = World::new().await;
    let (from, by_tar) = (disk(&world, &[]), disk(&world, &[("x", "")]));
    let source = tempfile::tempdir().expect("folder");
    run(Command::new("mount").arg(&from.device).arg(source.path()));
    everything(source.path());
    let pax = tar(source.path(), &[&PAX[..], &["--exclude=./lost+found"]].concat());
    let gnu = tar(
        source.path(),
        &[
            "--format=gnu",
            "--sparse",
            "--numeric-owner",
            "--exclude=./lost+found",
        ],
    );
    run(Command::new("umount").arg(source.path()));
    drop(from);
    let cut = pax.len() / 3;
    let packings: [(&str, Vec<u8>); 4] = [
        ("a.tar", pax.clone()),
        // Two members, as `cat a.gz b.gz` has them.
        ("b.tgz", [gzip(&pax[..cut]), gzip(&pax[cut..])].concat()),
        (
            "c.tar.zst",
            [
                zstd::encode_all(&pax[..cut], 1).expect("zstd"),
                zstd::encode_all(&pax[cut..], 1).expect("zstd"),
            ]
            .concat(),
        ),
        ("d.tar", gnu.clone()),
    ];
    for (name, packed) in packings {
        let (archive, options): (&[u8], &[&str]) = match name {
            "d.tar" => (&gnu, &[]),
            _ => (&pax, &["--xattrs", "--xattrs-include=*", "--acls"]),
        };
        // GNU tar, of the same bytes.
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", &by_tar.device]));
        let theirs = tempfile::tempdir().expect("folder");
        run(Command::new("mount").arg(&by_tar.device).arg(theirs.path()));
        let file = world.folder.path().join("archive");
        fs::write(&file, archive).expect("file");
        run(Command::new("tar")
            .args(["--extract", "--numeric-owner", "-p"])
            .args(options)
            .arg("-C")
            .arg(theirs.path())
            .arg("-f")
            .arg(&file));
        let want = tree(theirs.path());
        run(Command::new("umount").arg(theirs.path()));

        let ours = disk(&world, &[]);
        let site = Site::serve(packed);
        let checksum = format!("sha512:{}", hex(&Sha512::digest(archive)));
        let variables = [
            ("ARCHIVE_URL", &*site.url(name)),
            ("DEST_PATH", "/"),
            ("ARCHIVE_TYPE", "targz"),
            ("TARFILE_CHECKSUM", &checksum),
        ];
        succeeded(unpack(&mut world, &format!("w/{name}"), &ours, &variables).await);
        let mount = Mount::of(&ours);
        let got = tree(mount.path());
        assert_eq!(
            got.keys().collect::<Vec<_>>(),
            want.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (path, entry) in &want {
            assert_eq!(&got[path], entry, "{name}: {}", path.display());
        }
        assert_eq!(want.len(), 19, "{:?}", want.keys());
        assert!(
            got[Path::new("sparse")].has_holes,
            "{:?}",
            got[Path::new("sparse")]
        );
        if name != "d.tar" {
            assert_eq!(got[Path::new("able")].attributes.len(), 4);
        }
    }
    let noted = world
        .stream
        .lines
        .iter()
        .filter(|line| line.contains("ARCHIVE_TYPE is targz"))
        .count();
    assert_eq!(noted, 3, "{:?}", world.stream.lines);
}

#[tokio::test]
async fn access_lists_in_text_are_taken_by_numbers_and_refused_by_names() {
    let mut world = World::new().await;
    let insecure = ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true");
    for (who, word) in [("71234", None), ("7", Some("--xattrs-include='*'"))] {
        let from = disk(&world, &[("listed", "x")]);
        let source = tempfile::tempdir().expect("folder");
        run(Command::new("mount").arg(&from.device).arg(source.path()));
        let text = format!("user::rw-,user:{who}:r--,group::r--,mask::r--,other::---");
        let value = oci::layer::access_list(text.as_bytes()).expect("a list");
        set(&source.path().join("listed"), "system.posix_acl_access", &value);
        let archive = tar(
            source.path(),
            &["--format=pax", "--acls", "--exclude=./lost+found"],
        );
        run(Command::new("umount").arg(source.path()));
        drop(from);
        let site = Site::serve(archive);
        let disk = disk(&world, &[]);
        let url = site.url("a.tar");
        let variables = [("ARCHIVE_URL", &*url), ("DEST_PATH", "/"), insecure];
        let outcome = unpack(&mut world, &format!("w/{who}"), &disk, &variables).await;
        let Some(word) = word else {
            succeeded(outcome);
            let mount = Mount::of(&disk);
            let listed = attributes(&mount.path().join("listed"));
            assert_eq!(
                listed.get(std::ffi::OsStr::new("system.posix_acl_access")),
                Some(&value)
            );
            continue;
        };
        failed(outcome, "BadArchive", &[word], false);
    }
}

/// A tar archive of one file of noise, larger than what a socket holds.
fn noise(folder: &Path) -> Vec<u8> {
    let root = folder.join("noise");
    fs::create_dir_all(root.join("etc")).expect("folder");
    let mut random = vec![0; 6 << 20];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .expect("noise");
    fs::write(root.join("etc/noise"), &random).expect("file");
    fs::write(root.join("z"), "last").expect("file");
    tar(&root, &[])
}

#[tokio::test]
async fn a_download_that_breaks_and_stalls_is_resumed() {
    let mut world = World::new().await;
    let archive = noise(world.folder.path());
    let sum = format!("sha256:{}", hex(&Sha256::digest(&archive)));
    let site = Site::serve(archive);
    site.answers(&[
        Answer::CutAfter(1 << 20),
        Answer::CutAfter(100),
        Answer::StallAfter(3 << 20),
    ]);
    let disk = disk(&world, &[("etc/hosts", "mine")]);
    let url = site.url("a.tar");
    // A body that stands still is given up after this long at most.
    let variables = [
        ("ARCHIVE_URL", &*url),
        ("DEST_PATH", "/"),
        ("TARFILE_CHECKSUM", &sum),
        ("RETRY_ENABLED", "true"),
        ("RETRY_DURATION_MINUTES", "1"),
    ];
    succeeded(unpack(&mut world, "w/1", &disk, &variables).await);
    assert_eq!(site.requests(), 4);
    let mount = Mount::of(&disk);
    assert_eq!(fs::read_to_string(mount.path().join("z")).expect("file"), "last");
    assert_eq!(
        fs::metadata(mount.path().join("etc/noise")).expect("file").len(),
        6 << 20
    );
    assert_eq!(
        fs::read_to_string(mount.path().join("etc/hosts")).expect("file"),
        "mine"
    );
}

#[tokio::test]
async fn whatever_goes_wrong_nothing_of_the_archive_is_left() {
    let mut world = World::new().await;
    let archive = noise(world.folder.path());
    let disk = disk(&world, &[("etc/hosts", "mine")]);
    let right = format!("sha256:{}", hex(&Sha256::digest(&archive)));
    let wrong = format!("sha256:{}", "0".repeat(64));
    let packed_sum = hex(&Sha256::digest(gzip(&archive)));

    let good = Site::serve(archive.clone());
    let changed = Site::serve(archive.clone());
    changed.answers(&[Answer::CutAfter(1 << 20)]);
    changed.replace_after(1, noise(world.folder.path()));
    let short = Site::serve(gzip(&archive)[..4 << 20].to_vec());
    let damaged = Site::serve({
        let mut bytes = archive.clone();
        bytes[600] ^= 1;
        let at = bytes.len() - 20 * 512;
        bytes[at..at + 512].fill(7);
        bytes
    });
    let page = Site::serve(b"<!DOCTYPE html><html>not here</html>".to_vec());
    let empty = Site::serve(vec![0; 10240]);
    let insecure = ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true");
    type Variables<'a> = Vec<(&'a str, &'a str)>;
    let cases: Vec<(&str, &Site, Variables, &str, &[&str])> = vec![
        (
            "checksum",
            &good,
            vec![("TARFILE_CHECKSUM", &wrong)],
            "WrongDigest",
            &["TARFILE_CHECKSUM is 000"],
        ),
        (
            "packed",
            &good,
            vec![("SHA256", &packed_sum)],
            "WrongDigest",
            &["expected"],
        ),
        (
            "changed",
            &changed,
            vec![insecure],
            "ArchiveChanged",
            &["replaced on the server"],
        ),
        (
            "short",
            &short,
            vec![insecure],
            "BadArchive",
            &["gzip", "too early"],
        ),
        ("damaged", &damaged, vec![insecure], "BadArchive", &["at byte"]),
        // The checksum says more than what the damage looks like.
        (
            "damaged-sum",
            &damaged,
            vec![("SHA256", &right)],
            "WrongDigest",
            &["expected"],
        ),
        ("page", &page, vec![insecure], "BadArchive", &["tar archive"]),
        ("empty", &empty, vec![insecure], "BadArchive", &["no entries"]),
    ];
    for (name, site, mut variables, reason, words) in cases {
        let url = site.url("a.tar");
        variables.extend([("ARCHIVE_URL", &*url), ("DEST_PATH", "/etc")]);
        failed(
            unpack(&mut world, &format!("w/{name}"), &disk, &variables).await,
            reason,
            words,
            false,
        );
        let mount = Mount::of(&disk);
        assert_eq!(mount.names(), ["etc"], "{name}");
        let left: Vec<_> = fs::read_dir(mount.path().join("etc"))
            .expect("folder")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(left, ["hosts"], "{name}");
    }
    // Without any checksum nothing is even mounted.
    let url = good.url("a.tar");
    let bare = [("ARCHIVE_URL", &*url), ("DEST_PATH", "/")];
    failed(
        unpack(&mut world, "w/bare", &disk, &bare).await,
        "NotVerified",
        &["a.tar.sha256"],
        true,
    );
    // Gone from the server.
    good.answers(&[Answer::Status(404)]);
    let gone = [("ARCHIVE_URL", &*url), ("DEST_PATH", "/"), insecure];
    failed(
        unpack(&mut world, "w/gone", &disk, &gone).await,
        "ArchiveNotFound",
        &["archive http://"],
        true,
    );
    // A file of a checksum beside it is enough, and right.
    good.digest(&right["sha256:".len()..]);
    succeeded(unpack(&mut world, "w/beside", &disk, &bare).await);
}

#[tokio::test]
async fn an_archive_that_does_not_fit_is_told_beforehand_and_otherwise_when_it_is_full() {
    let mut world = World::new().await;
    let root = world.folder.path().join("large");
    fs::create_dir(&root).expect("folder");
    fs::write(root.join("first"), "first").expect("file");
    fs::write(root.join("large"), vec![b'x'; 40 << 20]).expect("file");
    let archive = tar(&root, &["--sort=name"]);
    let insecure = ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true");
    for (name, bytes, word) in [
        ("known.tar", archive.clone(), "the archive has"),
        ("unknown.tgz", gzip(&archive), "full at \"./large\""),
    ] {
        let site = Site::serve(bytes);
        let disk = disk(&world, &[("mine", "x")]);
        let url = site.url(name);
        let variables = [("ARCHIVE_URL", &*url), ("DEST_PATH", "/"), insecure];
        failed(
            unpack(&mut world, &format!("w/{name}"), &disk, &variables).await,
            "FilesystemFull",
            &[word, &disk.device, "B free"],
            false,
        );
        assert_eq!(Mount::of(&disk).names(), ["mine"]);
    }
}

#[tokio::test]
async fn nothing_leads_out_of_the_destination() {
    let mut world = World::new().await;
    let disk = disk(&world, &[("inner/x", "x"), ("outside/mine", "mine")]);
    let insecure = ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true");
    let entry = |path: &[u8], kind: tar::EntryType, target: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let end = vec![0; 1024];
    let file = tar::EntryType::Regular;
    for (name, archive, word) in [
        ("up", entry(b"../outside/mine", file, b""), "has a part \"..\""),
        ("absolute", entry(b"/outside/mine", file, b""), "absolute"),
        (
            "link",
            [
                entry(b"l", tar::EntryType::Symlink, b"../outside"),
                entry(b"l/mine", file, b""),
            ]
            .concat(),
            "leads out",
        ),
        (
            "hard",
            entry(b"h", tar::EntryType::Link, b"../outside/mine"),
            "hard link",
        ),
    ] {
        let site = Site::serve([archive, end.clone()].concat());
        let url = site.url(name);
        let variables = [("ARCHIVE_URL", &*url), ("DEST_PATH", "/inner"), insecure];
        failed(
            unpack(&mut world, &format!("w/{name}"), &disk, &variables).await,
            "BadArchive",
            &[word],
            false,
        );
        let mount = Mount::of(&disk);
        assert_eq!(
            fs::read_to_string(mount.path().join("outside/mine")).expect("file"),
            "mine"
        );
        assert_eq!(tree(&mount.path().join("inner")).len(), 2, "{name}");
    }
}

#[tokio::test]
async fn an_agent_that_dies_half_way_leaves_what_the_next_run_takes_away() {
    let mut world = World::new().await;
    let archive = noise(world.folder.path());
    let sum = format!("sha256:{}", hex(&Sha256::digest(&archive)));
    let site = Site::serve(archive);
    site.answers(&[Answer::StallAfter(3 << 20)]);
    let disk = disk(&world, &[("mine", "x")]);
    let url = site.url("a.tar");
    let variables = [
        ("DEST_DISK", &*disk.device),
        ("FS_TYPE", "ext4"),
        ("ARCHIVE_URL", &*url),
        ("DEST_PATH", "/"),
        ("TARFILE_CHECKSUM", &*sum),
    ];
    world.stream.run(&action("w/1", "archive2disk", &variables)).await;
    let mounts = fake::wait_until("the archive is begun", || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let line = mounts
            .lines()
            .find(|line| line.contains(&format!(" {} ", disk.device)))?;
        let at = PathBuf::from(line.split(' ').nth(4)?);
        let half = at.join(".farrier-archive2disk/etc/noise");
        fs::metadata(half)
            .ok()
            .filter(|half| half.len() > 1 << 20)
            .map(|_| at)
    })
    .await;
    world.agent.child.kill().expect("killed");
    world.agent.child.wait().expect("gone");
    run(Command::new("umount").arg(&mounts));
    assert_eq!(Mount::of(&disk).names(), [".farrier-archive2disk", "mine"]);

    let mut second = World::new().await;
    let variables = [
        ("ARCHIVE_URL", &*url),
        ("DEST_PATH", "/"),
        ("TARFILE_CHECKSUM", &*sum),
    ];
    succeeded(unpack(&mut second, "w/2", &disk, &variables).await);
    assert!(
        second
            .stream
            .lines
            .iter()
            .any(|line| line.contains("stopped half way")),
        "{:?}",
        second.stream.lines
    );
    assert_eq!(Mount::of(&disk).names(), ["etc", "mine", "z"]);
}
