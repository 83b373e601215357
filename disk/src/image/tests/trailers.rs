//! What stands behind the last member of a packed file.

use super::good::packed;
use super::server::{Server, Site};
use super::*;

const MIB: usize = 1 << 20;

async fn written(bytes: &[u8]) -> Result<(Written, Vec<u8>), WriteError> {
    let dir = tempfile::tempdir().unwrap();
    let target = disk(&dir, 4 * MIB);
    let server = Server::start(Site::new(bytes.to_vec())).await;
    let mut request = WriteRequest::new(server.url(), &target);
    request.sha256 = Some(sha256(bytes));
    let written = write_quietly(&request).await?;
    Ok((written, std::fs::read(&target).unwrap()))
}

fn in_every_packing(content: &[u8]) -> [(&'static str, Vec<u8>); 5] {
    ["gzip", "bzip2", "xz", "zstd", "lz4"].map(|tool| (tool, packed(tool, &["-1"], content)))
}

#[tokio::test]
async fn zeros_are_padding_and_the_rest_is_left_out_with_a_warning() {
    let content = sample(2 * MIB + 700);
    // OpenWrt's: a text, then "FWx0" with a checksum and a size.
    let firmware = b"{ \"metadata_version\": \"1.1\" }FWx0\x12\x34\x56\x78\0\0\0\0\0\0\x01\x30".to_vec();
    let padded = [vec![0; 1000], firmware.clone()].concat();
    for (name, image) in in_every_packing(&content) {
        for (trailer, ignored) in [
            (vec![0; 1], 0),
            (vec![0; 100_000], 0),
            (firmware.clone(), firmware.len()),
            (padded.clone(), firmware.len()),
            (b"x".to_vec(), 1),
            (vec![0xff; 300_000], 300_000),
        ] {
            let (done, there) = written(&[image.clone(), trailer].concat()).await.unwrap();
            assert!(there.starts_with(&content), "{name}");
            assert_eq!(
                (done.image_bytes, done.verified),
                (content.len() as u64, true),
                "{name}"
            );
            let said = done
                .warnings
                .iter()
                .filter(|w| w.contains("left out"))
                .collect::<Vec<_>>();
            match ignored {
                0 => assert!(said.is_empty(), "{name}: {said:?}"),
                len => assert!(
                    said.len() == 1
                        && said[0].contains(&format!("{len} B behind the end of the {name} data")),
                    "{name}, {len} B: {said:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn frames_to_be_skipped_stand_before_between_and_behind() {
    let content = sample(2 * MIB + 700);
    let (one, other) = content.split_at(MIB);
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
    for tool in ["zstd", "lz4"] {
        let (one, other) = (packed(tool, &["-1"], one), packed(tool, &["-1"], other));
        let image = [one, skippable.clone(), other, skippable.clone()].concat();
        let (done, there) = written(&image).await.unwrap();
        assert!(there.starts_with(&content), "{tool}");
        assert_eq!(done.warnings, Vec::<String>::new(), "{tool}");
    }
    let zstd = [skippable.clone(), packed("zstd", &["-1"], &content)].concat();
    assert!(written(&zstd).await.unwrap().1.starts_with(&content));
    let cut = [packed("zstd", &["-1"], &content), skippable[..10].to_vec()].concat();
    assert_eq!(written(&cut).await.unwrap_err().reason(), "BadImage");
}

#[tokio::test]
async fn what_begins_as_a_member_must_be_one() {
    let content = sample(2 * MIB + 700);
    for (name, image) in in_every_packing(&content) {
        let another = packed(name, &["-1"], &content[..100_000]);
        let mut corrupt = another.clone();
        let middle = corrupt.len() / 2;
        for byte in &mut corrupt[middle..middle + 8] {
            *byte ^= 0x5a;
        }
        for (what, second) in [
            ("cut in its middle", another[..middle].to_vec()),
            ("cut in its header", another[..3].to_vec()),
            ("without its end", another[..another.len() - 2].to_vec()),
            ("corrupt", corrupt),
        ] {
            let err = written(&[image.clone(), second].concat()).await.unwrap_err();
            assert_eq!(err.reason(), "BadImage", "{name} {what}: {err}");
        }
    }
    // A method that is none: as gzip(1).
    let gzip = [
        packed("gzip", &["-1"], &content),
        b"\x1f\x8b\x09 and so on".to_vec(),
    ]
    .concat();
    assert_eq!(written(&gzip).await.unwrap_err().reason(), "BadImage");
}
