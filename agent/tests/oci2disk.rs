//! The built-in action `oci2disk`, by the real agent on loop devices, from a registry of the tests' own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
#[path = "../../oci/tests/fixture/mod.rs"]
mod fixture;
mod image;
mod world;

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

// The fixture's.
use axum as _;
use fake::action;
use fixture::fake::{Fake, Misdeed};
use image::LoopDisk;
use oci::Digest;
use proto::v1;
use proto::v1::report::Outcome;
use serde_json::{Value, json};
use world::{World, failed};

const MIB: usize = 1 << 20;

/// Of a disk: noise and zeros, with the boot signature of one that has no partitions.
fn raw() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; 6 * MIB];
    for word in bytes[..3 * MIB].chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word.copy_from_slice(&(state >> 3).to_le_bytes());
    }
    bytes[446..510].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// As `oras push` makes it.
fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<Value> = files
        .iter()
        .map(|(title, content)| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(content), "size": content.len(),
                "annotations": {"org.opencontainers.image.title": title},
            })
        })
        .collect();
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.unknown.config.v1+json", "digest": Digest::of(b"{}"), "size": 2},
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

fn push(registry: &Fake, tag: &str, files: &[(&str, &[u8])]) {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    registry.put_manifest("images/disk", tag, media_type, &manifest(files));
    for (_, content) in files {
        registry.put_blob("images/disk", content);
    }
}

fn there(disk: &LoopDisk, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let file = std::fs::File::open(&disk.device).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Each run is another attempt.
async fn run(world: &mut World, disk: &LoopDisk, name: &str, more: &[(&str, &str)]) -> Outcome {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(1);
    let attempt_id = format!("w/0/0/{}", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
    let mut variables = vec![("IMG_URL", name), ("DEST_DISK", disk.device.as_str())];
    variables.extend(more);
    world.run("oci2disk", &attempt_id, &variables).await
}

#[tokio::test]
async fn an_artefact_is_written_over_a_transfer_that_breaks() {
    let raw = raw();
    let packed = zstd::encode_all(raw.as_slice(), 3).unwrap();
    let registry = Fake::start().await;
    push(&registry, "v1", &[("debian.raw.zst", &packed)]);
    registry.misbehave("/blobs/", 1, Misdeed::Cut(MIB));
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    let name = registry.image("images/disk:v1");
    match run(&mut world, &disk, &name, &[("COMPRESSED", "true")]).await {
        Outcome::Succeeded(done) => assert_eq!(done.bytes, raw.len() as u64),
        other => panic!("{other:?}"),
    }
    assert!(there(&disk, raw.len()) == raw);
    let digest = Digest::of(&packed);
    let says = |words: &[&str]| {
        let has = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(
            world.stream.lines.iter().any(has),
            "{words:?}: {:?}",
            world.stream.lines
        );
    };
    says(&[
        "debian.raw.zst",
        &format!("{} B", packed.len()),
        &digest.to_string(),
        &registry.host,
    ]);
    says(&["resumed once", "verified"]);
    let asked = registry.asked_for("/blobs/");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[1].range.as_deref().is_some_and(|range| range != "bytes=0-"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_qcow2_file_is_written_by_the_parts_of_it() {
    let raw = raw();
    let mut world = World::new().await;
    let file = |name: &str| world.folder.path().join(name);
    std::fs::write(file("raw"), &raw).unwrap();
    image::run(
        Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2", "-c"])
            .args([file("raw"), file("qcow2")]),
    );
    let content = std::fs::read(file("qcow2")).unwrap();
    let registry = Fake::start().await;
    push(&registry, "v1", &[("cloud.qcow2", &content)]);
    let disk = world.disk("disk", 8);
    let name = format!("oci://{}", registry.image("images/disk:v1"));
    match run(&mut world, &disk, &name, &[("VERIFY", "read-back")]).await {
        Outcome::Succeeded(_) => {}
        other => panic!("{other:?}"),
    }
    assert!(there(&disk, raw.len()) == raw);
}

#[tokio::test]
async fn what_is_not_the_image_never_boots_and_what_is_known_before_is_refused_before() {
    let raw = raw();
    let registry = Fake::start().await;
    push(&registry, "v1", &[("a.raw", &raw)]);
    push(&registry, "two", &[("a.raw", &raw), ("b.raw", b"other")]);
    push(
        &registry,
        "tar",
        &[(
            "tree.tar",
            &fixture::Layer::of(fixture::Packed::Plain, &[("a", "b")]).archive,
        )],
    );
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    let old = vec![0xa5; 8 * MIB];
    std::fs::write(&disk.device, &old).unwrap();
    let name = registry.image("images/disk:v1");
    let wrong = "0".repeat(64);
    for (image, more, reason, words) in [
        (registry.image("images/disk:v2"), vec![], "NoSuchImage", "has no "),
        (
            registry.image("images/disk:two"),
            vec![],
            "BadManifest",
            "it has 2 files (a.raw, b.raw): push the one",
        ),
        (
            registry.image("images/disk:tar"),
            vec![],
            "BadImage",
            "nothing was written",
        ),
        (
            name.clone(),
            vec![("SHA256", wrong.as_str())],
            "WrongDigest",
            "nothing was written",
        ),
        (
            name.clone(),
            vec![("SKIP_VERIFY", "true")],
            "BadVariable",
            "CA_CERTIFICATES",
        ),
        (
            name.clone(),
            vec![("REGISTRY_USERNAME", "ali")],
            "BadVariable",
            "REGISTRY_PASSWORD is not",
        ),
        (
            "http://lab/a.raw".to_owned(),
            vec![],
            "BadVariable",
            "names nothing in a registry",
        ),
    ] {
        failed(run(&mut world, &disk, &image, &more).await, reason, &[words]);
        assert!(there(&disk, old.len()) == old, "{image}");
    }
    // Known at its end only.
    registry.misbehave("/blobs/", 1, Misdeed::Other);
    let outcome = run(&mut world, &disk, &name, &[("RAW", "any")]).await;
    assert!(
        matches!(&outcome, Outcome::Failed(failed) if failed.reason == "WrongDigest" && !failed.disks_untouched),
        "{outcome:?}"
    );
    let now = there(&disk, 8 * MIB);
    assert!(now[..MIB].iter().all(|byte| *byte == 0) && now[7 * MIB..].iter().all(|byte| *byte == 0));
    // And the next run makes it whole.
    let outcome = run(&mut world, &disk, &name, &[]).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert!(there(&disk, raw.len()) == raw);
}

/// `ali:open sesame`, as RFC 7617 writes it.
const BASIC: &str = "Basic YWxpOm9wZW4gc2VzYW1l";

#[tokio::test]
async fn a_login_is_the_actions_or_the_servers_and_is_never_said() {
    let raw = raw();
    let registry = Fake::start().await;
    push(&registry, "v1", &[("a.raw", &raw)]);
    let wants = |times| {
        let wants = Misdeed::Wants {
            authorization: BASIC.to_owned(),
            challenge: "Basic realm=\"lab\"".to_owned(),
        };
        registry.misbehave("/v2/", times, wants);
    };
    wants(u32::MAX);
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    let name = registry.image("images/disk:v1");
    failed(
        run(&mut world, &disk, &name, &[]).await,
        "LoginWanted",
        &["without a login"],
    );
    let own = |password| [("REGISTRY_USERNAME", "ali"), ("REGISTRY_PASSWORD", password)];
    let outcome = run(&mut world, &disk, &name, &own("close sesame")).await;
    assert!(
        matches!(&outcome, Outcome::Failed(failed) if failed.disks_untouched),
        "{outcome:?}"
    );
    assert!(!format!("{outcome:?}").contains("close sesame"), "{outcome:?}");
    let outcome = run(&mut world, &disk, &name, &own("open sesame")).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert!(there(&disk, raw.len()) == raw);

    // Asked for by this attempt.
    world.server.data().pull_settings = v1::PullSettings {
        user: "ali".to_owned(),
        password: "open sesame".to_owned(),
        ..v1::PullSettings::default()
    };
    std::fs::write(&disk.device, vec![0; 8 * MIB]).unwrap();
    let variables = [("IMG_URL", name.as_str()), ("DEST_DISK", disk.device.as_str())];
    let asks = v1::RunAction {
        workflow_id: "w".into(),
        task: "install".into(),
        has_pull_settings: true,
        ..action("w/0/0/99", "oci2disk", &variables)
    };
    let outcome = world.stream.end_of(&asks).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert!(there(&disk, raw.len()) == raw);
    assert!(
        !format!("{:?} {outcome:?}", world.stream.lines).contains("open sesame"),
        "{:?}",
        world.stream.lines
    );
}
