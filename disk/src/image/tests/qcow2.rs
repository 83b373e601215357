//! Files that QEMU's own tools make, and what those say is in them.

use std::path::Path;
use std::process::Command;

use super::server::{Answer, Server, Site};
use super::*;
use crate::testing::{LoopDevice, gpt_image, output};

const MIB: usize = 1 << 20;

/// A raw image in a folder, for `qemu-img` to work on.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(raw: &[u8]) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("raw"), raw).unwrap();
        Folder(folder)
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        output(Command::new(program).current_dir(self.0.path()).args(args))
    }

    /// `raw` as a qcow2 file.
    fn convert(&self, options: &[&str]) -> Vec<u8> {
        let args = [
            &["convert", "-f", "raw", "-O", "qcow2"],
            options,
            &["raw", "made"],
        ]
        .concat();
        self.run("qemu-img", &args);
        self.read("made")
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// 9 MiB and some sectors: data, holes, text, and an end within a cluster.
fn raw() -> Vec<u8> {
    let mut raw = sample(9 * MIB + 3 * 512);
    raw[3 * MIB..5 * MIB].fill(0);
    raw
}

#[tokio::test]
async fn what_qemu_makes_is_written_as_what_is_in_it() {
    let raw = raw();
    let folder = Folder::with(&raw);
    for options in [
        &[] as &[&str],
        &["-o", "compat=0.10"],
        &["-o", "lazy_refcounts=on"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "preallocation=metadata"],
        &["-c"],
        &["-c", "-o", "compat=0.10,cluster_size=512"],
        &["-c", "-o", "cluster_size=4k"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=4k"],
    ] {
        let file = folder.convert(options);
        let digest = sha256(&file);
        let dir = tempfile::tempdir().unwrap();
        // No larger than what is in it: its last MiB is held back.
        let target = disk(&dir, raw.len());
        let server = Server::start(Site::new(file.clone())).await;
        let mut request = WriteRequest::new(server.url(), &target);
        request.sha256 = Some(digest.clone());
        let written = write_quietly(&request).await.unwrap();
        assert_eq!(
            (
                written.image_bytes,
                written.downloaded_bytes,
                written.verified,
                written.sha256
            ),
            (raw.len() as u64, file.len() as u64, true, digest),
            "{options:?}"
        );
        let there = std::fs::read(&target).unwrap();
        let wrong = raw.iter().zip(&there).position(|(is, was)| is != was);
        assert_eq!((wrong, there.len()), (None, raw.len()), "{options:?}");

        // From a file, to a device whose holes are discarded.
        let device = LoopDevice::filled(12 * MIB, 512);
        let url = Url::from_file_path(folder.path().join("made")).unwrap();
        write_quietly(&WriteRequest::new(url, device.path()))
            .await
            .unwrap();
        let there = device.content();
        assert!(there.starts_with(&raw), "{options:?}");
        assert!(
            there[raw.len()..11 * MIB].iter().all(|byte| *byte == 0xa5),
            "{options:?}"
        );
    }
}

#[tokio::test]
async fn clusters_that_were_overwritten_zeroed_and_taken_away_are_what_they_are_now() {
    let folder = Folder::with(&raw());
    folder.convert(&["-o", "cluster_size=64k"]);
    for command in [
        "write -P 0x33 5M 192k",
        "write -z 1M 128k",
        "write -z -u 2M 64k",
        "write -P 0x44 3M 64k",
        "write -c -P 0x55 4M 64k",
        "discard 7M 64k",
    ] {
        folder.run("qemu-io", &["-f", "qcow2", "-c", command, "made"]);
    }
    folder.run("qemu-img", &["snapshot", "-c", "before", "made"]);
    folder.run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x66 512k 1M", "made"]);
    folder.run("qemu-img", &["convert", "-O", "raw", "made", "expected"]);
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let server = Server::start(Site::new(folder.read("made"))).await;
    let written = write_quietly(&WriteRequest::new(server.url(), &target))
        .await
        .unwrap();
    assert!(
        written
            .warnings
            .iter()
            .any(|warning| warning.contains("1 snapshots")),
        "{:?}",
        written.warnings
    );
    assert!(
        std::fs::read(&target)
            .unwrap()
            .starts_with(&folder.read("expected"))
    );
}

#[tokio::test]
async fn its_partition_table_is_fitted_to_the_disk() {
    let raw = std::fs::read(gpt_image(6 * MIB as u64, 512).path()).unwrap();
    let file = Folder::with(&raw).convert(&["-c"]);
    let device = LoopDevice::filled(16 * MIB, 512);
    let server = Server::start(Site::new(file)).await;
    let written = write_quietly(&WriteRequest::new(server.url(), device.path()))
        .await
        .unwrap();
    assert!(written.fitted.unwrap().backup_moved);
    let checked = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
    assert!(checked.contains("No problems found"), "{checked}");
}

#[tokio::test]
async fn a_break_is_resumed_and_a_server_may_send_more_than_the_part() {
    let raw = raw();
    let file = Folder::with(&raw).convert(&[]);
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(file);
    site.answers = [Answer::CutAfter(2 * MIB)].into();
    site.ends_ranges = false;
    let server = Server::start(site).await;
    let written = write_quietly(&WriteRequest::new(server.url(), &target))
        .await
        .unwrap();
    assert_eq!(written.resumes, 1);
    assert!(std::fs::read(&target).unwrap().starts_with(&raw));
    // The whole, its tables and its beginning, and the rest of the whole.
    let requests = server.requests();
    assert_eq!(requests[0], None);
    let open = |range: &Option<String>| range.as_deref().is_some_and(|range| range.ends_with('-'));
    assert!(
        !requests[1..requests.len() - 1].iter().any(open) && open(&requests[requests.len() - 1]),
        "{requests:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_by_name_before_anything_is() {
    let folder = Folder::with(&raw());
    folder.run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "backing"],
    );
    let secret = "secret,id=key,data=abc123";
    let luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    folder.run(
        "qemu-img",
        &[
            "create", "-q", "--object", secret, "-f", "qcow2", "-o", luks, "luks", "8M",
        ],
    );
    let external = "data_file=data,data_file_raw=on";
    folder.run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", external, "external", "8M"],
    );
    let extended = "extended_l2=on,cluster_size=128k";
    folder.run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", extended, "extended", "8M"],
    );
    let whole = folder.convert(&[]);
    let large = Folder::with(&sample(13 * MIB)).convert(&["-c"]);
    let mut marked = whole.clone();
    marked[79] |= 2;
    for (word, reason, file) in [
        ("backing file", "BadImage", folder.read("backing")),
        ("encrypted (LUKS)", "BadImage", folder.read("luks")),
        ("data in another file", "BadImage", folder.read("external")),
        ("subclusters", "BadImage", folder.read("extended")),
        ("marked as corrupt", "BadImage", marked),
        ("not whole", "BadImage", whole[..whole.len() / 2].to_vec()),
        ("ends within its header", "BadImage", whole[..50].to_vec()),
        ("image needs 13631488 B", "DiskTooSmall", large),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 12 * MIB);
        let server = Server::start(Site::new(file)).await;
        let err = write_quietly(&WriteRequest::new(server.url(), &target))
            .await
            .unwrap_err();
        let text = err.to_string();
        assert!(err.reason() == reason && text.contains(word), "{word}: {text}");
        assert!(text.contains("nothing was written"), "{text}");
        assert!(
            std::fs::read(&target).unwrap().iter().all(|byte| *byte == 0xa5),
            "{word}"
        );
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_told_of_before_anything_is_written() {
    let file = Folder::with(&raw()).convert(&[]);
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(file);
    site.otherwise = Answer::NoRange;
    let server = Server::start(site).await;
    let err = write_quietly(&WriteRequest::new(server.url(), &target))
        .await
        .unwrap_err();
    assert!(
        err.reason() == "BadUrl" && err.to_string().contains("ranges"),
        "{err}"
    );
    assert!(std::fs::read(&target).unwrap().iter().all(|byte| *byte == 0xa5));
}

/// The tables are of one file and the rest is of another; who vouches for neither.
#[tokio::test]
async fn a_file_that_is_replaced_between_its_tables_and_the_rest_leaves_nothing_that_boots() {
    let folder = Folder::with(&raw());
    let (old, new) = (
        folder.convert(&["-c"]),
        folder.convert(&["-o", "cluster_size=64k"]),
    );
    for etag in [None, Some("\"two\"".to_owned())] {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 12 * MIB);
        let mut site = Site::new(old.clone());
        site.replace_after = Some((1, new.clone().into(), etag.clone()));
        if etag.is_none() {
            site.etag = None;
        }
        let server = Server::start(site).await;
        let mut request = WriteRequest::new(server.url(), &target);
        request.sha256 = Some(sha256(&old));
        let err = write_quietly(&request).await.unwrap_err();
        assert!(
            ["BadImage", "ImageChanged", "WrongDigest"].contains(&err.reason()),
            "{err}"
        );
        let there = std::fs::read(&target).unwrap();
        assert!(
            there.iter().all(|byte| *byte == 0xa5) || there[..MIB].iter().all(|byte| *byte == 0),
            "{etag:?}: {err}"
        );
    }
}

/// What the first answer is for, and what those to the later requests, of a server that does not vouch for either.
async fn two_files(whole: Vec<u8>, parts: Vec<u8>) -> WriteError {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(whole);
    site.etag = None;
    site.replace_after = Some((1, parts.into(), None));
    let server = Server::start(site).await;
    let err = write_quietly(&WriteRequest::new(server.url(), &target))
        .await
        .unwrap_err();
    assert!(
        std::fs::read(&target).unwrap()[..MIB]
            .iter()
            .all(|byte| *byte == 0)
    );
    err
}

/// Where the first entry of a table leads to.
fn first_entry(file: &[u8], table: usize) -> usize {
    let entry = u64::from_be_bytes(file[table..table + 8].try_into().unwrap());
    (entry & 0x00ff_ffff_ffff_fe00) as usize
}

#[tokio::test]
async fn what_was_read_before_the_transfer_and_comes_by_as_something_else_ends_the_write() {
    let good = Folder::with(&raw()).convert(&[]);
    let l1 = u64::from_be_bytes(good[40..48].try_into().unwrap()) as usize;
    let l2 = first_entry(&good, l1);
    for (at, word) in [
        // An entry of a hole becomes one of a compressed cluster.
        (l2 + 50 * 8, "its table at byte"),
        // The disk's boot code becomes another.
        (first_entry(&good, l2) + 100, "it begins in another way"),
    ] {
        let mut other = good.clone();
        other[at] ^= 0x40;
        let err = two_files(other, good.clone()).await;
        assert!(
            err.reason() == "BadImage" && err.to_string().contains(word),
            "{err}"
        );
    }
}
