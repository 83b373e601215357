//! Writes that fail: with which reason, and what is on the disk then.

use std::time::Duration;

use super::server::{Answer, Server, Site};
use super::*;
use crate::testing::LoopDevice;

const MIB: usize = 1 << 20;

fn assert_untouched(target: &std::path::Path) {
    assert!(
        std::fs::read(target).unwrap().iter().all(|byte| *byte == 0xa5),
        "something was written"
    );
}

fn assert_does_not_boot(target: &std::path::Path) {
    let there = std::fs::read(target).unwrap();
    assert!(
        there[..MIB].iter().all(|byte| *byte == 0),
        "the first MiB is not zero"
    );
    assert!(
        there[there.len() - MIB..].iter().all(|byte| *byte == 0),
        "the last MiB is not zero"
    );
}

async fn failure(request: &WriteRequest) -> WriteError {
    write_quietly(request).await.unwrap_err()
}

#[tokio::test]
async fn an_image_that_is_not_there_fails_at_once_and_touches_nothing() {
    for (code, reason) in [
        (404, "ImageNotFound"),
        (410, "ImageNotFound"),
        (403, "ImageRefused"),
        (400, "ImageRefused"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 4 * MIB);
        let mut site = Site::new(sample(MIB));
        site.otherwise = Answer::Status(code);
        let server = Server::start(site).await;
        let err = failure(&WriteRequest::new(server.url(), &target)).await;
        assert_eq!(err.reason(), reason, "{err}");
        assert!(
            err.to_string().contains(&code.to_string()) && err.to_string().contains("disk.img"),
            "{err}"
        );
        assert_eq!(server.requests().len(), 1);
        assert_untouched(&target);
    }
}

#[tokio::test]
async fn a_transfer_that_stops_half_way_for_ever_is_given_up_and_the_disk_does_not_boot() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(sample(10 * MIB));
    site.answers = [Answer::CutAfter(7 * MIB)].into();
    site.otherwise = Answer::CutAfter(0);
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.give_up_after = Duration::from_millis(700);
    let err = failure(&request).await;
    assert_eq!(err.reason(), "TransferBroken");
    let text = err.to_string();
    assert!(
        text.contains("broke at byte ") && text.contains(&format!(" of {} ", 10 * MIB)),
        "{text}"
    );
    assert!(server.requests().len() > 2, "it was tried again");
    assert_does_not_boot(&target);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(sample(10 * MIB));
    site.otherwise = Answer::StallAfter(0);
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.give_up_after = Duration::from_millis(300);
    let err = failure(&request).await;
    assert!(
        err.reason() == "TransferBroken" && err.to_string().contains("no byte came"),
        "{err}"
    );
    assert_untouched(&target);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 4 * MIB);
    let url = Server::start(Site::new(sample(MIB))).await.url();
    let mut request = WriteRequest::new(url, &target);
    request.give_up_after = Duration::from_millis(300);
    let err = failure(&request).await;
    assert!(
        err.reason() == "TransferBroken" && err.to_string().contains("refused"),
        "{err}"
    );
    assert_untouched(&target);
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_the_disk_does_not_boot() {
    // As large as the disk, so that the image's last MiB is the disk's.
    let dir = tempfile::tempdir().unwrap();
    let content = sample(10 * MIB);
    let target = disk(&dir, content.len());
    let server = Server::start(Site::new(content.clone())).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = Some("0".repeat(64));
    let err = failure(&request).await;
    assert_eq!(err.reason(), "WrongDigest");
    assert!(
        err.to_string().contains(&sha256(&content)) && err.to_string().contains(&"0".repeat(64)),
        "{err}"
    );
    assert_does_not_boot(&target);
    let there = std::fs::read(&target).unwrap();
    assert_eq!(
        there[MIB..9 * MIB],
        content[MIB..9 * MIB],
        "the body had been streamed"
    );
}

#[tokio::test]
async fn a_corrupt_download_is_named_by_its_digest_rather_than_by_the_decoder() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let good = zstd::encode_all(sample(10 * MIB).as_slice(), 1).unwrap();
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 4000].fill(0xff);
    let server = Server::start(Site::new(corrupt)).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = Some(sha256(&good));
    assert_eq!(failure(&request).await.reason(), "WrongDigest");
    assert_does_not_boot(&target);
    request.sha256 = None;
    assert_eq!(failure(&request).await.reason(), "BadImage");
}

#[tokio::test]
async fn a_malformed_digest_is_an_error_wherever_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 4 * MIB);
    let mut site = Site::new(sample(MIB));
    site.digest_file = Some(b"not a digest".to_vec());
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    let err = failure(&request).await;
    assert!(
        err.reason() == "MalformedDigest" && err.to_string().contains("disk.img.sha256"),
        "{err}"
    );
    request.sha256 = Some("abc".to_owned());
    assert_eq!(failure(&request).await.reason(), "MalformedDigest");
    assert_untouched(&target);
}

#[tokio::test]
async fn an_image_known_to_be_too_large_leaves_the_disk_untouched() {
    let content = sample(10 * MIB);
    let zstd = {
        // Only with the size declared does the frame header tell it.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        encoder.include_contentsize(true).unwrap();
        std::io::Write::write_all(&mut encoder, &content).unwrap();
        encoder.finish().unwrap()
    };
    for bytes in [content.clone(), zstd] {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 8 * MIB);
        let server = Server::start(Site::new(bytes)).await;
        let err = failure(&WriteRequest::new(server.url(), &target)).await;
        assert_eq!(err.reason(), "DiskTooSmall");
        let text = err.to_string();
        assert!(
            text.contains(&format!("needs {} B", 10 * MIB)) && text.contains("nothing was written"),
            "{text}"
        );
        assert_untouched(&target);
    }
}

#[tokio::test]
async fn the_partition_table_in_the_first_mib_tells_that_a_disk_is_too_small() {
    let image = crate::testing::gpt_image(40 * MIB as u64, 512);
    let content = std::fs::read(image.path()).unwrap();
    // Packed as a stream, zstd does not know the size when it writes its header.
    let packed = zstd::encode_all(content.as_slice(), 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 8 * MIB);
    let server = Server::start(Site::new(packed)).await;
    let err = failure(&WriteRequest::new(server.url(), &target)).await;
    assert!(
        err.reason() == "DiskTooSmall" && err.to_string().contains(&format!("needs {} B", 40 * MIB)),
        "{err}"
    );
    assert_untouched(&target);
}

#[tokio::test]
async fn a_bomb_of_unknown_size_stops_at_the_end_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 9 * MIB);
    // 256 MiB of zeros in some 24 KiB, without a content size.
    let zeros = std::io::Read::take(std::io::repeat(0), 256 << 20);
    let bomb = zstd::encode_all(std::io::Read::chain(sample(4096).as_slice(), zeros), 1).unwrap();
    assert!(bomb.len() < 64 << 10);
    let server = Server::start(Site::new(bomb)).await;
    let err = failure(&WriteRequest::new(server.url(), &target)).await;
    assert!(
        err.reason() == "DiskTooSmall" && err.to_string().contains("needs more than"),
        "{err}"
    );
    assert_does_not_boot(&target);
    assert_eq!(std::fs::metadata(&target).unwrap().len(), 9 * MIB as u64);
}

#[tokio::test]
async fn a_packed_image_that_ends_too_early_is_bad_in_every_packing() {
    let content = sample(2 * MIB);
    let gzip = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &content).unwrap();
        packed.finish().unwrap()
    };
    let lz4 = {
        let mut packed = lz4_flex::frame::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut packed, &content).unwrap();
        packed.finish().unwrap()
    };
    let zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
    let xz = liblzma::encode_all(content.as_slice(), 0).unwrap();
    let bzip2 = {
        let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::io::Write::write_all(&mut packed, &content).unwrap();
        packed.finish().unwrap()
    };
    for (name, whole) in [
        ("gzip", gzip),
        ("lz4", lz4),
        ("zstd", zstd),
        ("xz", xz),
        ("bzip2", bzip2),
    ] {
        // lz4: between two blocks, which its decoder takes for the end.
        for cut in [4, 8, whole.len() / 2] {
            let dir = tempfile::tempdir().unwrap();
            let target = disk(&dir, 8 * MIB);
            let server = Server::start(Site::new(whole[..whole.len() - cut].to_vec())).await;
            let err = failure(&WriteRequest::new(server.url(), &target)).await;
            assert_eq!(err.reason(), "BadImage", "{name} without its last {cut} B: {err}");
            assert!(
                std::fs::read(&target).unwrap()[..MIB]
                    .iter()
                    .all(|byte| matches!(byte, 0 | 0xa5))
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_disk_image_is_refused_before_anything_is_written() {
    let mut tar = vec![0; 4096];
    tar[257..262].copy_from_slice(b"ustar");
    let cases = [
        (
            Compression::Detect,
            zstd::encode_all(b"QFI\xfb and so on".as_slice(), 1).unwrap(),
            "a packed qcow2 file",
        ),
        (
            Compression::Detect,
            b"<!DOCTYPE html><p>log in first".to_vec(),
            "web page",
        ),
        (Compression::Detect, tar, "tar archive"),
        (Compression::Gzip, sample(4096), "said to be gzip"),
        (Compression::Detect, Vec::new(), "empty"),
    ];
    for (compression, content, word) in cases {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 4 * MIB);
        let server = Server::start(Site::new(content)).await;
        let mut request = WriteRequest::new(server.url(), &target);
        request.compression = compression;
        let err = failure(&request).await;
        assert!(
            err.reason() == "BadImage" && err.to_string().contains(word),
            "{err}"
        );
        assert_untouched(&target);
    }
}

#[tokio::test]
async fn an_image_replaced_on_the_server_in_mid_transfer_is_never_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (sample(10 * MIB), vec![7; 10 * MIB]);
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(old);
    site.answers = [Answer::CutAfter(6 * MIB)].into();
    site.replace_after = Some((1, new.into(), Some("\"two\"".to_owned())));
    let server = Server::start(site).await;
    let err = failure(&WriteRequest::new(server.url(), &target)).await;
    assert_eq!(err.reason(), "ImageChanged");
    assert!(
        err.to_string().contains("\"one\"") && err.to_string().contains("\"two\""),
        "{err}"
    );
    assert_does_not_boot(&target);
}

#[tokio::test]
async fn without_tag_and_digest_a_broken_transfer_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(sample(10 * MIB));
    site.etag = None;
    site.answers = [Answer::CutAfter(6 * MIB)].into();
    let server = Server::start(site).await;
    let err = failure(&WriteRequest::new(server.url(), &target)).await;
    assert!(
        err.reason() == "TransferBroken" && err.to_string().contains("no ETag"),
        "{err}"
    );
}

#[tokio::test]
async fn a_disk_that_is_not_there_is_refused_with_the_list_of_those_that_are() {
    let server = Server::start(Site::new(sample(MIB))).await;
    let err = failure(&WriteRequest::new(server.url(), "/dev/no-such-disk")).await;
    assert_eq!(err.reason(), "NoSuchDisk");
    assert!(
        err.to_string()
            .contains("/dev/no-such-disk does not exist; there are: "),
        "{err}"
    );
    assert!(server.requests().is_empty());
    for not_a_disk in ["/dev/null", "/tmp"] {
        let err = failure(&WriteRequest::new(server.url(), not_a_disk)).await;
        assert_eq!(err.reason(), "NotADisk", "{err}");
    }
}

#[tokio::test]
async fn a_disk_in_use_is_refused() {
    let server = Server::start(Site::new(sample(MIB))).await;
    let device = LoopDevice::filled(16 << 20, 512);
    device.format_ext4();
    let dir = tempfile::tempdir().unwrap();
    let flags = crate::mount::MsFlags::empty();
    let mounted = crate::mount::MountGuard::mount(device.path(), dir.path(), "ext4", flags).unwrap();
    let before = device.content();
    let err = failure(&WriteRequest::new(server.url(), device.path())).await;
    assert_eq!(err.reason(), "DiskBusy");
    assert!(
        err.to_string().contains(&dir.path().display().to_string()),
        "{err}"
    );
    assert_eq!(device.content(), before);
    mounted.unmount().unwrap();

    let exclusive =
        std::os::unix::fs::OpenOptionsExt::custom_flags(std::fs::OpenOptions::new().read(true), libc::O_EXCL)
            .open(device.path())
            .unwrap();
    let err = failure(&WriteRequest::new(server.url(), device.path())).await;
    assert!(
        err.reason() == "DiskBusy" && err.to_string().contains("exclusively"),
        "{err}"
    );
    drop(exclusive);
}

#[tokio::test]
async fn a_write_that_is_stopped_writes_no_more_and_the_disk_does_not_boot() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 12 * MIB);
    let mut site = Site::new(sample(10 * MIB));
    site.otherwise = Answer::StallAfter(9 * MIB);
    let server = Server::start(site).await;
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let on_progress = move |progress: Progress| {
        if progress.written_bytes >= 8 * MIB as u64 {
            stopper.cancel();
        }
    };
    let err = write(&WriteRequest::new(server.url(), &target), on_progress, stop)
        .await
        .unwrap_err();
    assert_eq!(err.reason(), "Stopped");
    assert_does_not_boot(&target);
}

#[tokio::test]
async fn a_url_that_cannot_be_fetched_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 4 * MIB);
    for (url, reason) in [
        ("ftp://host/disk.img", "BadUrl"),
        ("file:///no/such/file", "ImageNotFound"),
        ("file:///dev", "BadUrl"),
    ] {
        let err = failure(&WriteRequest::new(Url::parse(url).unwrap(), &target)).await;
        assert_eq!(err.reason(), reason, "{err}");
    }
    assert_untouched(&target);
}
