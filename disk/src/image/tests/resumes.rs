//! A write that was cut off goes on: how much is fetched again, for every packing, by the server's log.

use std::io::Write as _;

use super::super::pipeline::{self, Sizes};
use super::server::{Answer, Server, Site};
use super::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Of a block, of each end, and between two notes.
const UNIT: usize = 512 * KIB;
/// A block, between two notes, and what was on its way.
const AGAIN_BYTES: usize = 3 * UNIT;

/// What does not pack, so that the file is as long as the image.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(len);
    bytes[446..510].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

fn gzip(part: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(part: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

fn lz4(part: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

fn xz(part: &[u8]) -> Vec<u8> {
    liblzma::encode_all(part, 0).unwrap()
}

fn zstd(part: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(part, 1).unwrap()
}

async fn write_in_pieces(request: &WriteRequest) -> Result<Written, WriteError> {
    let sizes = Sizes {
        block_bytes: UNIT,
        end_bytes: UNIT as u64,
        mark_bytes: UNIT as u64,
    };
    let open = super::super::target::Target::open;
    pipeline::write_on(request, sizes, open, None, &|_| {}, CancellationToken::new()).await
}

/// Cuts a write off at 60 % of the file, and has it done again; what that was, and what the server was asked.
async fn cut_off(
    file: Vec<u8>,
    image: &[u8],
    change: impl FnOnce(&mut Site, &mut WriteRequest),
) -> (Written, Vec<Option<String>>) {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, image.len() + 4 * MIB);
    let mut site = Site::new(file.clone());
    site.pieces = vec![64 << 10];
    site.answers = [Answer::CutAfter(file.len() * 6 / 10), Answer::Status(404)].into();
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = Some(sha256(&file));
    request.resume = Some("a workflow".to_owned());
    write_in_pieces(&request).await.unwrap_err();
    let there = std::fs::read(&target).unwrap();
    assert!(there[..UNIT].iter().all(|byte| *byte == 0), "it would boot");
    let before = server.requests().len();
    change(&mut server.site.lock().unwrap(), &mut request);
    let written = write_in_pieces(&request).await.unwrap();
    let there = std::fs::read(&target).unwrap();
    assert!(there.starts_with(image) && written.verified);
    let rest = &there[image.len() + 4 * MIB - UNIT..];
    assert!(rest.iter().all(|byte| *byte == 0), "notes are left on the disk");
    (written, server.requests()[before..].to_vec())
}

/// Where the second request of a write begins.
fn goes_on_at(name: &str, requests: &[Option<String>]) -> usize {
    let [None, Some(range)] = requests else {
        panic!("{name}: {requests:?}")
    };
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'));
    start.unwrap().parse().unwrap()
}

#[tokio::test]
async fn after_a_cut_what_was_written_is_not_fetched_again_in_every_packing_of_several_pieces() {
    let image = noise(4 * MIB);
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packings: [(&str, Pack, usize); 6] = [
        ("raw", |part| part.to_vec(), 4 * MIB),
        ("zstd", zstd, 700 << 10),
        // As bgzip makes them.
        ("gzip", gzip, 64 << 10),
        ("bzip2", bzip2, 400 << 10),
        ("lz4", lz4, 300 << 10),
        ("xz", xz, UNIT),
    ];
    for (name, pack, piece) in packings {
        let file: Vec<u8> = image.chunks(piece).flat_map(pack).collect();
        let len = file.len();
        let (written, requests) = cut_off(file, &image, |_, _| {}).await;
        assert!(written.found_bytes > 0, "{name}: {written:?}");
        let from = goes_on_at(name, &requests);
        assert!(from + AGAIN_BYTES >= len * 6 / 10, "{name}: from {from} of {len}");
        assert!(
            written.found_bytes > 1 << 20 && written.downloaded_bytes as usize <= len - from + 3 * UNIT,
            "{name}: {written:?}"
        );
        assert!(
            !written
                .warnings
                .iter()
                .any(|warning| warning.contains("starts again")),
            "{name}: {written:?}"
        );
    }
}

#[tokio::test]
async fn a_file_of_one_piece_starts_again_and_says_so() {
    let image = noise(4 * MIB);
    for (name, file) in [("zstd", zstd(&image)), ("xz", xz(&image)), ("gzip", gzip(&image))] {
        let (written, requests) = cut_off(file, &image, |_, _| {}).await;
        assert_eq!(
            (requests.as_slice(), written.found_bytes),
            (&[None][..], 0),
            "{name}"
        );
        let said = written.warnings.join("; ");
        assert!(
            said.contains(&format!("starts again: the file is one piece of {name}")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn another_image_workflow_or_disk_content_starts_again_and_says_why() {
    let image = noise(4 * MIB);
    let (written, requests) = cut_off(image.clone(), &image, |site, _| {
        site.etag = Some("\"two\"".to_owned())
    })
    .await;
    assert_eq!((requests.as_slice(), written.found_bytes), (&[None][..], 0));
    assert!(
        written.warnings.join("; ").contains("of another image"),
        "{written:?}"
    );

    let (written, _) = cut_off(image.clone(), &image, |_, request| {
        request.resume = Some("another".to_owned())
    })
    .await;
    assert!(
        written.found_bytes == 0 && written.warnings.join("; ").contains("of another run"),
        "{written:?}"
    );

    let (written, _) = cut_off(image.clone(), &image, |_, request| request.resume = None).await;
    assert!(
        written.found_bytes == 0 && written.warnings.is_empty(),
        "{written:?}"
    );

    let (written, _) = cut_off(image.clone(), &image, |_, request| {
        let mut disk = std::fs::OpenOptions::new()
            .write(true)
            .open(&request.target)
            .unwrap();
        std::io::Seek::seek(&mut disk, std::io::SeekFrom::Start(1 << 20)).unwrap();
        disk.write_all(b"somebody else was here").unwrap();
    })
    .await;
    assert!(
        written.found_bytes == 0 && written.warnings.join("; ").contains("does not have what"),
        "{written:?}"
    );
}

#[tokio::test]
async fn what_nothing_vouches_for_is_not_noted() {
    let image = noise(4 * MIB);
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(image.clone());
    site.etag = None;
    site.headers = vec![("last-modified", "Sat, 21 Nov 2026 06:00:00 GMT")];
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), disk(&dir, 8 * MIB));
    request.resume = Some("a workflow".to_owned());
    let written = write_in_pieces(&request).await.unwrap();
    assert!(written.warnings.join("; ").contains("strong ETag"), "{written:?}");
}
