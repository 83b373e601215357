//! Writes that succeed.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::server::{Answer, Server, Site};
use super::*;
use crate::testing::LoopDevice;

/// Packs with the tool that users pack with.
pub(super) fn packed(tool: &str, args: &[&str], content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let content = content.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&content).unwrap());
    let mut packed = Vec::new();
    output.read_to_end(&mut packed).unwrap();
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success());
    packed
}

#[tokio::test]
async fn an_image_in_every_packing_arrives_whole_with_its_digest_verified() {
    let content = sample((5 << 20) + 4096 + 700);
    let (first, second) = content.split_at(3 << 20);
    let joined = |tool: &str, args: &[&str]| [packed(tool, args, first), packed(tool, args, second)].concat();
    let cases = [
        ("raw", content.clone()),
        ("gzip", packed("gzip", &["-1"], &content)),
        ("gzip of two members", joined("gzip", &["-1"])),
        ("bzip2", packed("bzip2", &["-1"], &content)),
        ("bzip2 of two streams", joined("bzip2", &["-1"])),
        ("xz", packed("xz", &["-0"], &content)),
        (
            "xz of many blocks",
            packed("xz", &["-0", "--block-size=1MiB"], &content),
        ),
        ("xz of two streams", joined("xz", &["-0"])),
        ("zstd", packed("zstd", &["-1"], &content)),
        ("zstd of two frames", joined("zstd", &["-1"])),
        ("zstd --long", packed("zstd", &["-1", "--long=27"], &content)),
        ("lz4", packed("lz4", &["-1"], &content)),
        ("lz4 of two frames", joined("lz4", &["-1", "-q", "-B4"])),
    ];
    for (name, bytes) in cases {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 12 << 20);
        let mut site = Site::new(bytes.clone());
        site.digest_file = Some(format!("{}  disk.img\n", sha256(&bytes)).into_bytes());
        let server = Server::start(site).await;
        let written = write_quietly(&WriteRequest::new(server.url(), &target))
            .await
            .unwrap();
        assert_eq!(
            (written.image_bytes, written.verified),
            (content.len() as u64, true),
            "{name}"
        );
        assert_eq!((written.sha256, written.resumes), (sha256(&bytes), 0), "{name}");
        assert!(std::fs::read(&target).unwrap().starts_with(&content), "{name}");
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_again_and_again_is_resumed_and_arrives_whole() {
    let dir = tempfile::tempdir().unwrap();
    let content = sample(6 << 20);
    let target = disk(&dir, 8 << 20);
    let mut site = Site::new(content.clone());
    site.answers = [
        Answer::Status(503),
        Answer::CutAfter(1 << 20),
        Answer::CutAfter(0),
        Answer::Status(500),
        Answer::CutAfter(3 << 20),
        Answer::WrongRange,
        Answer::NoRange,
    ]
    .into();
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = Some(format!("sha256:{}", sha256(&content).to_uppercase()));
    let written = write_quietly(&request).await.unwrap();
    // Gone on with once, begun again once; the cut without a byte may show its headers or not.
    assert!(
        (2..=3).contains(&written.resumes) && written.verified,
        "{written:?}"
    );
    assert_eq!(written.downloaded_bytes, content.len() as u64);
    let ranges: Vec<Option<String>> = server.requests();
    assert_eq!(ranges.first(), Some(&None));
    assert!(
        ranges.last().unwrap().as_deref().unwrap().starts_with("bytes="),
        "{ranges:?}"
    );
    assert!(std::fs::read(&target).unwrap().starts_with(&content));
}

#[tokio::test]
async fn an_image_as_large_as_the_disk_fits_and_progress_reaches_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let content = sample((5 << 20) + 512);
    let target = disk(&dir, content.len());
    let server = Server::start(Site::new(content.clone())).await;
    let last = std::sync::Arc::new(std::sync::Mutex::new(Progress::default()));
    let seen = std::sync::Arc::clone(&last);
    let on_progress = move |progress| *seen.lock().unwrap() = progress;
    let request = WriteRequest::new(server.url(), &target);
    write(&request, on_progress, CancellationToken::new())
        .await
        .unwrap();
    let len = content.len() as u64;
    let all = Progress {
        downloaded_bytes: len,
        download_bytes: len,
        written_bytes: len,
        image_bytes: len,
        read_back_bytes: 0,
    };
    assert_eq!(*last.lock().unwrap(), all);
    assert_eq!(std::fs::read(&target).unwrap(), content);
}

#[tokio::test]
async fn a_digest_file_that_is_forbidden_is_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(sample(2 << 20));
    site.digest_status = 403;
    let server = Server::start(site).await;
    let written = write_quietly(&WriteRequest::new(server.url(), disk(&dir, 4 << 20)))
        .await
        .unwrap();
    assert!(
        !written.verified && written.warnings[0].contains("not verified"),
        "{written:?}"
    );
}

/// The last progress of a write of this content.
async fn last_progress(content: Vec<u8>) -> Progress {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 16 << 20);
    let server = Server::start(Site::new(content)).await;
    let last = std::sync::Arc::new(std::sync::Mutex::new(Progress::default()));
    let seen = std::sync::Arc::clone(&last);
    let request = WriteRequest::new(server.url(), &target);
    write(
        &request,
        move |progress| *seen.lock().unwrap() = progress,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    *last.lock().unwrap()
}

#[tokio::test]
async fn progress_tells_the_unpacked_size_where_the_packing_says_it_and_is_never_beyond_it() {
    let content = sample(9 << 20);
    let len = content.len() as u64;
    let sized = zstd::bulk::compress(&content, 1).unwrap();
    let progress = last_progress(sized).await;
    assert_eq!((progress.written_bytes, progress.image_bytes), (len, len));
    // A stream does not know its size beforehand.
    let unsized_stream = zstd::encode_all(content.as_slice(), 1).unwrap();
    assert_eq!(last_progress(unsized_stream).await.image_bytes, 0);
    // The first of two frames tells only its own.
    let (one, other) = content.split_at(5 << 20);
    let two = [
        zstd::bulk::compress(one, 1).unwrap(),
        zstd::bulk::compress(other, 1).unwrap(),
    ]
    .concat();
    let progress = last_progress(two).await;
    assert_eq!((progress.written_bytes, progress.image_bytes), (len, 0));
}

#[tokio::test]
async fn tiny_disks_and_images_are_written_too() {
    for (len, disk_len) in [
        (1, 512),
        (512, 512),
        (4096, 1 << 20),
        (1 << 20, (1 << 20) + 512),
        (700, 3 << 20),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let content = sample(len);
        let target = disk(&dir, disk_len);
        let server = Server::start(Site::new(content.clone())).await;
        let mut request = WriteRequest::new(server.url(), &target);
        request.content = Content::Any;
        write_quietly(&request).await.unwrap();
        assert!(
            std::fs::read(&target).unwrap().starts_with(&content),
            "{len} on {disk_len}"
        );
    }
}

#[tokio::test]
async fn a_loop_device_is_written_directly_and_its_zeros_are_punched() {
    for sector_bytes in [512, 4096] {
        let content = sample((12 << 20) + 512);
        let device = LoopDevice::filled(16 << 20, sector_bytes);
        let server = Server::start(Site::new(packed("zstd", &["-1"], &content))).await;
        let written = write_quietly(&WriteRequest::new(server.url(), device.path()))
            .await
            .unwrap();
        assert_eq!(written.image_bytes, content.len() as u64);
        let there = device.content();
        assert!(there.starts_with(&content), "{sector_bytes}");
        assert!(there[15 << 20..].iter().all(|byte| *byte == 0));
        assert!(
            there[content.len() + 4096..15 << 20]
                .iter()
                .all(|byte| *byte == 0xa5)
        );
    }
}

#[tokio::test]
async fn long_runs_of_zeros_overwrite_what_was_there() {
    let device = LoopDevice::filled(24 << 20, 512);
    let mut content = sample(3 << 20);
    content.resize(20 << 20, 0);
    content.extend_from_slice(b"end");
    let server = Server::start(Site::new(content.clone())).await;
    let written = write_quietly(&WriteRequest::new(server.url(), device.path()))
        .await
        .unwrap();
    assert!(written.skipped_bytes >= 16 << 20, "{written:?}");
    assert!(device.content().starts_with(&content));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn however_it_is_cut_and_resumed_the_bytes_are_the_same(
        len in 1_usize..3_000_000,
        packed_first in any::<bool>(),
        cuts in proptest::collection::vec(0_usize..1_500_000, 0..6),
        pieces in proptest::collection::vec(1_usize..300_000, 1..4),
        has_etag in any::<bool>(),
    ) {
        let content = sample(len);
        let bytes = if packed_first { zstd::encode_all(content.as_slice(), 1).unwrap() } else { content.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let target = disk(&dir, 4 << 20);
            let mut site = Site::new(bytes.clone());
            site.answers = cuts.iter().map(|cut| Answer::CutAfter(*cut)).collect();
            // Pieces of one byte are for small images, or this takes minutes.
            site.pieces = pieces.iter().map(|piece| (*piece).max(len / 5000).max(1)).collect();
            site.etag = has_etag.then(|| "\"tag\"".to_owned());
            let server = Server::start(site).await;
            let mut request = WriteRequest::new(server.url(), &target);
            request.sha256 = Some(sha256(&bytes));
            request.content = Content::Any;
            let written = write_quietly(&request).await.unwrap();
            assert_eq!(written.image_bytes, len as u64);
            assert!(std::fs::read(&target).unwrap().starts_with(&content));
        });
    }
}
