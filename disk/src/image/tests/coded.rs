//! What HTTP says of a body is listened to: its codings are undone, and what it calls itself is told.

use std::io::Write;

use super::good::packed;
use super::server::{Answer, Server, Site};
use super::*;

const MIB: usize = 1 << 20;

fn gzip(content: &[u8]) -> Vec<u8> {
    packed("gzip", &["-1"], content)
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn coded(body: Vec<u8>, coding: &'static str) -> Site {
    let mut site = Site::new(body);
    site.headers = vec![("content-encoding", coding)];
    site
}

/// Writes with this digest; what is on the disk then.
async fn written(site: Site, digest: Option<String>) -> Result<(Written, Vec<u8>), WriteError> {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 4 * MIB);
    let server = Server::start(site).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = digest;
    request.give_up_after = Duration::from_secs(5);
    let written = write_quietly(&request).await?;
    Ok((written, std::fs::read(&target).unwrap()))
}

#[tokio::test]
async fn every_coding_is_undone_and_the_digest_is_that_of_the_file() {
    let image = sample(2 * MIB + 700);
    let zstd = packed("zstd", &["-1"], &image);
    for (coding, file, body) in [
        ("identity", &image, image.clone()),
        ("gzip", &image, gzip(&image)),
        ("x-gzip", &image, gzip(&image)),
        ("deflate", &image, zlib(&image)),
        ("deflate", &image, bare_deflate(&image)),
        ("zstd", &image, zstd.clone()),
        ("gzip", &zstd, gzip(&zstd)),
        ("gzip, zstd", &image, packed("zstd", &["-1"], &gzip(&image))),
        ("deflate, identity, gzip", &image, gzip(&zlib(&image))),
    ] {
        let (done, there) = written(coded(body, coding), Some(sha256(file))).await.unwrap();
        assert!(there.starts_with(&image), "{coding}");
        assert_eq!((done.sha256, done.verified), (sha256(file), true), "{coding}");
        assert_eq!(done.image_bytes, image.len() as u64, "{coding}");
    }
}

#[tokio::test]
async fn a_digest_of_what_was_sent_is_one_too() {
    // Servers that say x-gzip of every file whose name ends with .gz.
    let image = sample(2 * MIB);
    let file = gzip(&image);
    let (done, there) = written(coded(file.clone(), "x-gzip"), Some(sha256(&file)))
        .await
        .unwrap();
    assert!(done.verified && there.starts_with(&image));
    let err = written(coded(file, "x-gzip"), Some("0".repeat(64)))
        .await
        .unwrap_err();
    assert!(
        err.reason() == "WrongDigest" && err.to_string().contains(&sha256(&image)),
        "{err}"
    );
}

#[tokio::test]
async fn a_coded_body_that_breaks_is_resumed_in_coded_bytes() {
    let image = sample(3 * MIB);
    let body = gzip(&image);
    for answer in [Answer::Good, Answer::NoRange] {
        let mut site = coded(body.clone(), "gzip");
        site.answers = [Answer::CutAfter(body.len() / 2), answer].into();
        // As RFC 9110 section 15.3.7 wants it of a range.
        site.later_headers = Some(Vec::new()).filter(|_: &Vec<_>| matches!(site.answers[1], Answer::Good));
        let (done, there) = written(site, Some(sha256(&image))).await.unwrap();
        assert!(done.resumes == 1 && there.starts_with(&image));
        assert_eq!(done.downloaded_bytes, body.len() as u64);
    }
    let mut site = coded(body.clone(), "gzip");
    site.answers = [Answer::CutAfter(body.len() / 2), Answer::NoRange].into();
    site.later_headers = Some(Vec::new());
    let err = written(site, Some(sha256(&image))).await.unwrap_err();
    assert!(
        err.reason() == "ImageChanged" && err.to_string().contains("was gzip, is identity"),
        "{err}"
    );
}

#[tokio::test]
async fn a_coding_that_is_not_known_or_not_there_is_refused_untouched() {
    let image = sample(2 * MIB);
    for (coding, body, reason, word) in [
        ("br", image.clone(), "BadUrl", "\"br\""),
        ("gzip, compress", image.clone(), "BadUrl", "\"compress\""),
        (
            "gzip",
            image.clone(),
            "BadImage",
            "Content-Encoding gzip, and it is not",
        ),
        (
            "zstd",
            gzip(&image),
            "BadImage",
            "Content-Encoding zstd, and it is not",
        ),
        (
            "gzip, gzip",
            gzip(&image),
            "BadImage",
            "Content-Encoding gzip, gzip",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let target = disk(&dir, 4 * MIB);
        let server = Server::start(coded(body, coding)).await;
        let err = write_quietly(&WriteRequest::new(server.url(), &target))
            .await
            .unwrap_err();
        assert!(
            err.reason() == reason && err.to_string().contains(word),
            "{coding}: {err}"
        );
        assert!(
            std::fs::read(&target).unwrap().iter().all(|byte| *byte == 0xa5),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn a_coded_body_that_ends_too_early_is_bad() {
    let image = sample(2 * MIB);
    for (coding, body) in [
        ("gzip", gzip(&image)),
        ("deflate", zlib(&image)),
        ("zstd", packed("zstd", &["-1"], &image)),
    ] {
        let cut = body[..body.len() - 6].to_vec();
        let err = written(coded(cut, coding), None).await.unwrap_err();
        assert_eq!(err.reason(), "BadImage", "{coding}: {err}");
    }
}

#[tokio::test]
async fn what_the_server_calls_an_image_that_is_none_is_told() {
    let mut site = Site::new(b"Please log in first".to_vec());
    site.headers = vec![("content-type", "text/html; charset=utf-8")];
    let err = written(site, None).await.unwrap_err();
    assert!(
        err.reason() == "BadImage" && err.to_string().contains("calls it text/html"),
        "{err}"
    );
}

#[tokio::test]
async fn a_page_where_the_digest_file_was_looked_for_stops_no_image() {
    let image = sample(2 * MIB);
    for (page, word) in [
        (b"<!DOCTYPE html><title>Not found</title>".to_vec(), "web page"),
        (b"{\"error\": 404}".to_vec(), "web page"),
        (vec![b'x'; 70_000], "longer than"),
    ] {
        let mut site = Site::new(image.clone());
        site.digest_file = Some(page);
        let (done, there) = written(site, None).await.unwrap();
        assert!(!done.verified && there.starts_with(&image));
        assert!(
            done.warnings
                .iter()
                .any(|w| w.contains("disk.img.sha256 is no digest file") && w.contains(word)),
            "{:?}",
            done.warnings
        );
    }
    let mut site = Site::new(image.clone());
    site.digest_file = Some(gzip(format!("{}  disk.img\n", sha256(&image)).as_bytes()));
    site.digest_headers = vec![("content-encoding", "gzip")];
    assert!(written(site, None).await.unwrap().0.verified);
}
