//! Archives of images: each form that people have, and what is refused, by name.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::io::Write;
use std::path::Path;

use fixture::{Image, file, named, of, tar};
use registry::archive::{Archive, Packed};
use registry::document::MANIFEST_LIMIT_BYTES;
use serde_json::json;
use store::blobs::Digest;
use tempfile::TempDir;

fn images(path: &Path) -> Result<(Archive, Vec<Packed>), String> {
    let archive = Archive::open(path).map_err(|error| error.to_string())?;
    let images = archive.images().map_err(|error| error.to_string())?;
    Ok((archive, images))
}

/// The one image of an archive has these contents, each under its digest.
#[track_caller]
fn has(path: &Path, expected: &Image, names: &[&str]) -> Packed {
    let (archive, images) = images(path).unwrap();
    let [image] = images.try_into().unwrap();
    let found: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    assert_eq!(found, names);
    let layers = expected.contents.len() - 1;
    for (content, bytes) in image.contents.iter().zip(&expected.contents[..layers]) {
        let mut read = Vec::new();
        archive.read(content).unwrap().read_to_end(&mut read).unwrap();
        assert!(Digest::of(&read) == content.digest && content.size_bytes == read.len() as u64);
        assert!(expected.contents.contains(&read), "{bytes:?}");
    }
    assert_eq!(image.contents.last().unwrap().digest, image.root);
    image
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    zlib(bytes, &["gzip", "-c"])
}

/// As the command packs it.
fn zlib(bytes: &[u8], command: &[&str]) -> Vec<u8> {
    let mut child = std::process::Command::new(command[0])
        .args(&command[1..])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let packed = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    packed
}

#[test]
fn an_oci_layout_is_read_as_a_folder_an_archive_and_packed() {
    let dir = TempDir::new().unwrap();
    let image = Image::with(&[b"one layer", b"and another", b"one layer"]);
    let files = image.layout(
        json!({"io.containerd.image.name": "lab:5000/box:v1", "org.opencontainers.image.ref.name": "v1"}),
    );
    for (name, bytes) in &files {
        file(dir.path(), &format!("layout/{name}"), bytes);
    }
    let plain = tar(&files);
    for path in [
        dir.path().join("layout"),
        file(dir.path(), "plain.tar", &plain),
        file(dir.path(), "packed.tar.gz", &gzip(&plain)),
        file(dir.path(), "packed.tar.zst", &zlib(&plain, &["zstd", "-qc"])),
    ] {
        let packed = has(&path, &image, &["lab:5000/box:v1"]);
        assert_eq!(packed.root, image.digest(), "{}", path.display());
        // A layer that is there twice is one content.
        assert_eq!(packed.contents.len(), 4);
    }
    // A tag alone is no name: whoever brings it gives one.
    let unnamed = tar(&image.layout(json!({"org.opencontainers.image.ref.name": "v1"})));
    has(&file(dir.path(), "unnamed.tar", &unnamed), &image, &[]);
}

#[test]
fn what_docker_saved_of_old_becomes_an_image_with_a_manifest() {
    let dir = TempDir::new().unwrap();
    let image = Image::with(&[b"one layer", b"and another"]);
    let saved = tar(&image.saved(&["box:v1", "lab:5000/box:v2"]));
    let packed = has(
        &file(dir.path(), "saved.tar", &saved),
        &image,
        &["docker.io/library/box:v1", "lab:5000/box:v2"],
    );
    // What is made says the same as the one that its layers came with.
    let (archive, _) = images(&dir.path().join("saved.tar")).unwrap();
    let mut manifest = Vec::new();
    archive
        .read(packed.contents.last().unwrap())
        .unwrap()
        .read_to_end(&mut manifest)
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let original: serde_json::Value = serde_json::from_slice(image.manifest()).unwrap();
    assert_eq!(manifest, original);
}

#[test]
fn layers_of_docker_archives_may_be_packed_and_may_be_links() {
    let dir = TempDir::new().unwrap();
    let layer = b"a layer as it is".to_vec();
    let config = json!({"rootfs": {"diff_ids": [of(&layer), of(&layer)]}})
        .to_string()
        .into_bytes();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    put("a/layer.tar", &gzip(&layer));
    put("config.json", &config);
    put("manifest.json", manifest.to_string().as_bytes());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive
        .append_link(&mut link, "b/layer.tar", "../a/layer.tar")
        .unwrap();
    let path = file(dir.path(), "a.tar", &archive.into_inner().unwrap());
    let (_, images) = images(&path).unwrap();
    // The layer, the configuration, the manifest.
    assert_eq!(images[0].contents.len(), 3);
    assert_eq!(images[0].contents[0].digest, Digest::of(&gzip(&layer)));
}

#[test]
fn an_index_brings_the_platforms_that_are_in_the_archive() {
    let dir = TempDir::new().unwrap();
    let image = Image::with(&[b"of this platform"]);
    let elsewhere = Image::with(&[b"of another platform"]);
    let index = json!({"schemaVersion": 2, "mediaType": fixture::INDEX, "manifests": [
        named(fixture::MANIFEST, image.manifest()), named(fixture::MANIFEST, elsewhere.manifest())]});
    let index = index.to_string().into_bytes();
    let mut files = image.layout(json!({}));
    let root = json!({"schemaVersion": 2, "manifests": [named(fixture::INDEX, &index)]});
    files[1].1 = root.to_string().into_bytes();
    files.push((format!("blobs/sha256/{}", Digest::of(&index)), index.clone()));
    let (_, images) = images(&file(dir.path(), "one.tar", &tar(&files))).unwrap();
    assert_eq!(images[0].root, Digest::of(&index));
    assert_eq!(images[0].contents.len(), 4);
}

#[test]
fn what_is_hostile_or_damaged_is_refused_with_the_name_of_the_entry() {
    let dir = TempDir::new().unwrap();
    let image = Image::with(&[b"one layer"]);
    let good = image.layout(json!({"io.containerd.image.name": "lab:5000/box:v1"}));
    let layer = format!("blobs/sha256/{}", Digest::of(b"one layer"));
    let manifest = format!("blobs/sha256/{}", image.digest());
    let with = |name: &str, bytes: &[u8]| {
        let mut files = good.clone();
        files.retain(|(there, _)| there != name);
        files.push((name.to_owned(), bytes.to_vec()));
        tar(&files)
    };
    let without = |name: &str| {
        let mut files = good.clone();
        files.retain(|(there, _)| there != name);
        tar(&files)
    };
    let twice = |name: &str| {
        let mut files = good.clone();
        files.push((name.to_owned(), b"something else".to_vec()));
        tar(&files)
    };
    let mut device = tar::Header::new_gnu();
    device.set_path("dev/sda").unwrap();
    device.set_entry_type(tar::EntryType::Block);
    device.set_device_major(8).unwrap();
    device.set_device_minor(0).unwrap();
    device.set_size(0);
    device.set_cksum();
    let device = [device.as_bytes().as_slice(), &tar(&good)].concat();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    let mut linked = tar::Builder::new(Vec::new());
    linked
        .append_link(&mut link, "index.json", "../../etc/shadow")
        .unwrap();
    let saved = image.saved(&["box:v1"]);
    let changed = |at: usize, bytes: &[u8]| {
        let mut files = saved.clone();
        files[at].1 = bytes.to_vec();
        tar(&files)
    };
    for (bytes, words) in [
        (
            with("../../etc/passwd", b"x"),
            &["../../etc/passwd", "\"..\""][..],
        ),
        (with("/etc/passwd", b"x"), &["/etc/passwd", "slash"]),
        (device, &["dev/sda", "a device"]),
        (
            linked.into_inner().unwrap(),
            &["index.json", "leads out of the archive"],
        ),
        (twice("index.json"), &["index.json", "same name"]),
        (without(&layer), &[layer.as_str(), "cut short"]),
        (without(&manifest), &[manifest.as_str(), "index.json"]),
        (
            with(&layer, b"longer than one layer"),
            &[layer.as_str(), "21 B", "9 B"],
        ),
        (with(&manifest, b"{}"), &[manifest.as_str(), "digest"]),
        (
            with(&manifest, &vec![b' '; MANIFEST_LIMIT_BYTES + 1]),
            &[manifest.as_str(), "4194304 B"],
        ),
        (
            with("oci-layout", br#"{"imageLayoutVersion":"2.0"}"#),
            &["oci-layout", "\"2.0\""],
        ),
        (with("index.json", b"[]"), &["index.json", "no JSON"]),
        (without("oci-layout"), &["neither an OCI layout"]),
        (
            changed(0, b"another layer"),
            &["layer0/layer.tar", &of(b"another layer")],
        ),
        (changed(1, br#"{"rootfs":{"diff_ids":[]}}"#), &[".json", "digest"]),
        (tar(&saved[..1]), &["neither"]),
        (tar(&saved[3..]), &["before 1.10"]),
        (tar(&good)[..1500].to_vec(), &["no archive"]),
        (gzip(&tar(&good))[..100].to_vec(), &["damaged"]),
        (b"PK\x03\x04 a file of another kind".to_vec(), &["no archive"]),
    ] {
        let path = file(dir.path(), "hostile.tar", &bytes);
        let refused = images(&path).map(|(_, images)| images).unwrap_err();
        assert!(refused.contains("hostile.tar"), "{refused}");
        for word in words {
            assert!(refused.contains(word), "{word:?} is not in: {refused}");
        }
    }
    // In a folder no link is followed.
    for (name, bytes) in &good {
        file(dir.path(), &format!("layout/{name}"), bytes);
    }
    std::fs::remove_file(dir.path().join("layout").join(&layer)).unwrap();
    std::os::unix::fs::symlink(
        file(dir.path(), "elsewhere", b"one layer"),
        dir.path().join("layout").join(&layer),
    )
    .unwrap();
    let refused = images(&dir.path().join("layout"))
        .map(|(_, images)| images)
        .unwrap_err();
    assert!(refused.contains(&layer), "{refused}");
}

#[test]
fn an_archive_that_is_a_bomb_is_refused() {
    let dir = TempDir::new().unwrap();
    let image = Image::with(&[&vec![0; 1 << 20]]);
    let path = file(dir.path(), "bomb.tar.gz", &gzip(&tar(&image.layout(json!({})))));
    assert!(std::fs::metadata(&path).unwrap().len() < 10_000);
    assert!(Archive::open(&path).is_ok());
    let refused = Archive::open_within(&path, 500_000)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("bomb.tar.gz") && refused.contains("more than 500000 B"),
        "{refused}"
    );
}
