//! What is kept of images: within its bound, whole or not at all, and as long as it is in use.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use fixture::fake::{Fake, Misdeed};
use fixture::{Built, Layer, Machine, Packed, content};
use oci::Image;
use oci::cache::{Cache, CacheError};

fn noise(path: &str, bytes: usize) -> Layer {
    Layer::of_noise(Packed::Plain, path, bytes)
}

#[tokio::test]
async fn what_is_here_is_not_asked_for_again() {
    let built = Built::of(&[noise("a", 5_000), noise("bb", 5_000)]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    machine.pull(&fake.image("a:v1")).await.unwrap();
    let first = fake.asked().len();
    // By tag, whether it is still the same is asked, and nothing else.
    machine.pull(&fake.image("a:v1")).await.unwrap();
    assert_eq!(fake.asked().len(), first + 1);
    // By digest, nothing; after a restart neither.
    let by_digest = fake.image(&format!("a@{}", built.digest()));
    machine.pull(&by_digest).await.unwrap();
    let before = fake.asked().len();
    let machine = machine.restarted();
    let image = machine.pull(&by_digest).await.unwrap();
    assert_eq!((fake.asked().len(), image.digest), (before, built.digest()));
    // Another image with one layer of the same brings the other one only.
    let next = Built::of(&[noise("a", 5_000), noise("ccc", 5_000)]);
    fake.put(&next, "a", "v2");
    machine.pull(&fake.image("a:v2")).await.unwrap();
    assert_eq!(fake.asked_for(&built.layers[0].to_string()).len(), 1);
    let held = machine.cache.held();
    assert_eq!((held.layers, held.images), (3, 2));
}

#[tokio::test]
async fn a_registry_that_is_away_is_not_missed_where_the_image_is_here() {
    let built = Built::of(&[noise("a", 5_000)]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    let name = fake.image("a:v1");
    machine.pull(&name).await.unwrap();
    fake.stop().await;
    let machine = machine.restarted();
    assert_eq!(machine.pull(&name).await.unwrap().digest, built.digest());
    assert_eq!(
        machine
            .pull(&name.replace("v1", "v2"))
            .await
            .unwrap_err()
            .reason(),
        "RegistryAway"
    );
}

#[tokio::test]
async fn the_bound_holds_and_what_is_in_use_stays() {
    // A layer takes 300 kB and a page and its names; there is room for three.
    let images: Vec<Built> = ["a", "bb", "ccc", "dddd"]
        .iter()
        .map(|path| Built::of(&[noise(path, 300_000)]))
        .collect();
    let fake = Fake::start().await;
    for (built, tag) in images.iter().zip(["1", "2", "3", "4"]) {
        fake.put(built, "a", tag);
    }
    let machine = Machine::with_room(1_000_000);
    let first = machine.pull(&fake.image("a:1")).await.unwrap();
    for tag in ["2", "3", "4"] {
        machine.pull(&fake.image(&format!("a:{tag}"))).await.unwrap();
        let held = machine.cache.held();
        assert!(held.bytes <= held.limit_bytes, "{held:?}");
    }
    let held = machine.cache.held();
    assert_eq!((held.layers, held.images), (3, 3));
    assert!(
        held.in_use_bytes >= 300_000 && held.in_use_bytes < 310_000,
        "{held:?}"
    );
    // The first is the oldest, and in use; the second went.
    assert_eq!(content(&first, "a").unwrap().len(), 300_000);
    assert!(machine.cache.image(&images[0].digest()).is_some());
    assert!(machine.cache.image(&images[1].digest()).is_none());
    assert!(machine.cache.image(&images[3].digest()).is_some());
    // The folder has what is told, and no more.
    assert_eq!(fs::read_dir(machine.folder().join("layers")).unwrap().count(), 3);
    assert_eq!(machine.incoming(), 0);

    // All are in use: there is no room, in words, and what is there is left alone.
    let held: Vec<Image> = images
        .iter()
        .filter_map(|image| machine.cache.image(&image.digest()))
        .collect();
    assert_eq!(held.len(), 3);
    let error = machine.pull(&fake.image("a:2")).await.unwrap_err();
    assert_eq!(error.reason(), "ImageTooLarge");
    assert!(
        error.to_string().contains("images may take 1000000 B in all"),
        "{error}"
    );
    assert!(held.iter().all(|image| image.layers[0].is_dir()));
    drop(held);
    machine.pull(&fake.image("a:2")).await.unwrap();
}

#[tokio::test]
async fn two_pulls_of_the_same_bring_it_once() {
    let built = Built::of(&[noise("a", 100_000), noise("bb", 100_000), noise("a", 100_000)]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    let name = fake.image("a:v1");
    let (first, second) = tokio::join!(machine.pull(&name), machine.pull(&name));
    assert_eq!(first.unwrap().layers, second.unwrap().layers);
    assert_eq!(fake.asked_for(&built.layers[0].to_string()).len(), 1);
    assert_eq!(fake.asked_for(&built.layers[1].to_string()).len(), 1);
}

#[tokio::test]
async fn what_is_half_unpacked_or_damaged_is_never_seen() {
    let built = Built::of(&[noise("a", 50_000), noise("bb", 50_000)]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    fake.misbehave(&built.layers[1].to_string(), 1, Misdeed::Other);
    machine.pull(&fake.image("a:v1")).await.unwrap_err();
    let name = fake.image("a:v1");
    // As a crash leaves it.
    let half = machine.folder().join("incoming/77/tree");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("half"), "of it").unwrap();
    let machine = machine.restarted();
    assert_eq!(machine.incoming(), 0);
    machine.pull(&name).await.unwrap();

    for damage in ["about.json", "tree"] {
        let layers = machine.folder().join("layers");
        let one = fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
        match damage {
            "tree" => fs::remove_dir_all(one.join(damage)).unwrap(),
            file => fs::write(one.join(file), "{").unwrap(),
        }
        let cut = fs::read_dir(machine.folder().join("names"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::write(cut, "cut").unwrap();
        let other = Cache::open(machine.folder(), 1 << 20).unwrap_err();
        assert!(matches!(other, CacheError::Locked(_)), "{other}");
    }
    let machine = machine.restarted();
    let held = machine.cache.held();
    assert!(held.layers < 2 && held.images == 0, "{held:?}");
    assert!(machine.cache.image(&built.digest()).is_none());
    let image = machine.pull(&name).await.unwrap();
    assert_eq!(content(&image, "bb").unwrap().len(), 50_000);
}

#[tokio::test]
async fn a_folder_without_an_entry_is_whose_a_lower_layer_says() {
    let lower = [
        ("./", "711"),
        ("tmp/", "1777"),
        ("var/", "755"),
        ("var/log/", "2750"),
        ("var/log/old", ""),
        ("home/", "700"),
    ];
    let middle = [("tmp/x", ""), ("var/log/.wh.old", ""), ("srv/made", "")];
    let upper = [("tmp/y", ""), ("var/log/new", ""), (".wh.home", "")];
    let files = [("home/again", "")];
    let built = Built::of(&[
        Layer::of(Packed::Plain, &lower),
        Layer::of(Packed::Gzip, &middle),
        Layer::of(Packed::Zstd, &upper),
        Layer::of(Packed::Plain, &files),
    ]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    for machine in [&machine, &machine] {
        let image = machine.pull(&fake.image("a:v1")).await.unwrap();
        assert_eq!(image.layers.len(), 5, "one of folders is on top");
        let found = overlaid(&image);
        let expected = [
            ". 711",
            "./home 755",
            "./home/again 644",
            "./srv 755",
            "./srv/made 644",
            "./tmp 1777",
            "./tmp/x 644",
            "./tmp/y 644",
            "./var 755",
            "./var/log 2750",
            "./var/log/new 644",
        ];
        assert_eq!(found, expected);
        let tmp = image.layers[4].join("tmp").metadata().unwrap();
        assert_eq!((tmp.permissions().mode() & 0o7777, tmp.mtime()), (0o1777, 1_000));
    }
    // It is there after a restart, too.
    let machine = machine.restarted();
    assert_eq!(machine.cache.image(&built.digest()).unwrap().layers.len(), 5);
}

#[tokio::test]
async fn a_layer_that_hides_everything_below_is_the_lowest() {
    let built = Built::of(&[
        Layer::of(Packed::Plain, &[("./", "755"), ("old", "")]),
        Layer::of(Packed::Plain, &[("./", "755"), (".wh..wh..opq", ""), ("new", "")]),
    ]);
    let fake = Fake::with(&built, "a", "v1").await;
    let machine = Machine::new();
    let image = machine.pull(&fake.image("a:v1")).await.unwrap();
    assert_eq!(image.layers.len(), 1);
    assert!(image.layers[0].join("new").exists());
}

/// What the layers are together: names and modes, as overlayfs shows them in a mount namespace of its own.
fn overlaid(image: &Image) -> Vec<String> {
    let target = tempfile::TempDir::new().unwrap();
    let layers: Vec<_> = image
        .layers
        .iter()
        .rev()
        .map(|layer| layer.display().to_string())
        .collect();
    let script = "mount -t overlay -o ro,lowerdir=$1 overlay $2 && cd $2 && find . -printf '%p %m\\n' | sort";
    let found = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", &layers.join(":")])
        .arg(target.path())
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
