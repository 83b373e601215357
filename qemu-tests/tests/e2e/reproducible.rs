//! The same inputs give the same boot image, to the byte: on another day, in another folder, as another user, with other habits. And
//! what has not changed is not built again.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use ::image::Manifest;
use nix::unistd::Uid;

use crate::scene::path_from;

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;
#[test]
fn a_boot_image_is_the_same_bytes_wherever_whenever_and_by_whomever_it_is_built() {
    let place = Place::furnish();
    let one = place.build("one", Builder::ThisUser);
    let other = place.build("another folder/with a longer name", Builder::AnotherDay);
    let names = place.same(&one, &other);
    let all = [
        "drivers-bonding.img",
        "drivers-emulated-cards.img",
        "image.spdx.json",
        "initramfs.img",
        "local-boot.efi",
        "manifest.json",
        "modules.cpio",
        "modules.list.zst",
        "overlays.list",
        "snponly.efi",
        "tools.img",
        "undionly.kpxe",
        "vmlinuz",
    ];
    assert_eq!(names, all);
    assert_eq!(
        place.farrier(&["image", "diff"], &[&one, &other]).status.code(),
        Some(0)
    );
    let verified = place.farrier(&["image", "verify"], &[&other]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");

    // Whatever is in the image has a package, and that a version, a licence and a digest.
    let manifest = Manifest::read(&one).unwrap();
    let component = |name: &str| manifest.components.iter().find(|one| one.name == name);
    assert!(manifest.contents.len() > manifest.modules.len());
    for file in &manifest.contents {
        let from = component(&file.component).unwrap_or_else(|| panic!("{file:?}"));
        assert!(!from.version.is_empty() && !from.license.is_empty(), "{from:?}");
        assert_eq!(file.sha256.len(), 64, "{file:?}");
    }
    for file in &manifest.files {
        let mut components = manifest.components.iter();
        assert!(components.any(|from| from.files.contains(&file.name)), "{file:?}");
    }
    place.finds_nothing_to_do(&one);
    place.repacks_another_agent(&one);
}

/// Where images are built: copies of the agent, of `farrier` and of the packages that the lab has fetched, for whichever user.
struct Place {
    folder: tempfile::TempDir,
}

enum Builder {
    /// As the tests are run.
    ThisUser,
    /// Nobody, on a day in 2031, with another time zone, language, mask and home.
    AnotherDay,
}

impl Place {
    fn furnish() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder };
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.folder.path(), everybody).unwrap();
        for (from, to) in [("FARRIER_BIN", "farrier"), ("FARRIER_AGENT", "agent")] {
            fs::copy(path_from(from), place.path(to)).unwrap();
        }
        let debs = path_from("FARRIER_LAB_DIR").join("packages/debs");
        fs::create_dir_all(place.path("cache/debs")).unwrap();
        for entry in fs::read_dir(debs).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let copy = place.path("cache/debs").join(entry.file_name());
                fs::copy(entry.path(), &copy).unwrap();
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn farrier(&self, words: &[&str], directories: &[&Path]) -> Output {
        let mut command = Command::new(self.path("farrier"));
        command.args(words).args(directories).output().unwrap()
    }

    /// Builds an image below a new folder, and says where.
    fn build(&self, folder: &str, builder: Builder) -> PathBuf {
        let folder = self.path(folder);
        let output = folder.join("boot");
        fs::create_dir_all(&folder).unwrap();
        let mut command = match builder {
            Builder::ThisUser => Command::new(self.path("farrier")),
            Builder::AnotherDay => self.on_another_day(&folder),
        };
        let built = command
            .args(["image", "build", "--boot-dir"])
            .arg(&output)
            .arg("--agent")
            .arg(self.path("agent"))
            .arg("--cache")
            .arg(self.path("cache"))
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        output
    }

    fn on_another_day(&self, folder: &Path) -> Command {
        let age = SystemTime::UNIX_EPOCH + Duration::from_secs(700_000_000);
        File::options()
            .write(true)
            .open(self.path("agent"))
            .unwrap()
            .set_modified(age)
            .unwrap();
        let mut command = Command::new("sh");
        // Its monotonic clock stays: waiting is not what is tested.
        let script = "umask 077; cd \"$0\"; exec \"$@\"";
        command.args(["-c", script]).arg(folder);
        if Uid::effective().is_root() {
            chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command
            .args(["faketime", "-f", "@2031-02-03 04:05:06"])
            .arg(self.path("farrier"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("TZ", "Asia/Tokyo")
            .env("LC_ALL", "de_DE.UTF-8")
            .env("HOME", folder);
        command
    }

    /// Compares two images byte by byte; gives the names of their files.
    #[track_caller]
    fn same(&self, one: &Path, other: &Path) -> Vec<String> {
        let names = |directory: &Path| -> Vec<String> {
            let entries = fs::read_dir(directory).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let found = names(one);
        assert_eq!(found, names(other));
        for name in &found {
            let (one, other) = (one.join(name), other.join(name));
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert!(
                fs::read(&one).unwrap() == fs::read(&other).unwrap(),
                "{name} has other bytes"
            );
            assert_eq!(mode(&one), mode(&other), "{name}");
        }
        found
    }

    fn finds_nothing_to_do(&self, one: &Path) {
        use std::os::unix::fs::MetadataExt;

        let inodes = || {
            fs::read_dir(one)
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().ino())
        };
        let before: Vec<u64> = inodes().collect();
        assert_eq!(self.build("one", Builder::ThisUser), one);
        assert_eq!(inodes().collect::<Vec<_>>(), before, "a file was written again");
    }

    fn repacks_another_agent(&self, one: &Path) {
        let mut agent = fs::read(self.path("agent")).unwrap();
        agent.extend(b"another one");
        fs::write(self.path("agent"), agent).unwrap();
        let kept = self.path("before");
        fs::create_dir(&kept).unwrap();
        for name in ["initramfs.img", "vmlinuz"] {
            fs::copy(one.join(name), kept.join(name)).unwrap();
        }
        let began = Instant::now();
        self.build("one", Builder::ThisUser);
        let repacked = began.elapsed();
        let differs = |name: &str| fs::read(one.join(name)).unwrap() != fs::read(kept.join(name)).unwrap();
        assert_eq!(["initramfs.img", "vmlinuz"].map(differs), [true, false]);
        // From nothing, too: what was taken over is what is built.
        let began = Instant::now();
        let fresh = self.build("fresh", Builder::ThisUser);
        let built = began.elapsed();
        assert!(repacked < built, "{repacked:?}, and from nothing {built:?}");
        self.same(one, &fresh);
    }
}
