//! Kernels that are not the usual one: built as a person builds them, with all drivers of physical servers, and booted.

use std::fs;
use std::process::Command;

use ::image::Manifest;
use qemu_tests::lab::devices::{DiskController, Nic};
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::namespace::inside;

use crate::cards::{build, built, written};
use crate::scene::{path_from, scene_with};

const SERVER: [&str; 2] = ["--profile", "server"];

pub(crate) fn the_server_image_of_debian_12_netboots() {
    builds("boot-server-bookworm", &["--suite", "bookworm"]);
    netboots("boot-server-bookworm", "Linux version 6.1.");
}

/// Which version it is changes; that it is another one than the release's does not.
pub(crate) fn the_kernel_of_backports_netboots() {
    builds("boot-server-backports", &["--suite", "trixie-backports"]);
    let of_backports = manifest("boot-server-backports").kernel;
    assert_ne!(of_backports, manifest("boot-server").kernel);
    netboots("boot-server-backports", &format!("Linux version {of_backports} "));
}

pub(crate) fn a_kernel_of_a_version_that_is_named_is_that_one() {
    let usual = manifest("boot-server");
    let version = package_of_the_kernel(&usual).1;
    // The package that only depends on the newest kernel has its version.
    let named = format!("linux-image-amd64={version}");
    let pinned = built(
        "boot-server-pinned",
        &[&SERVER[..], &["--kernel-package", &named]].concat(),
    );
    assert_eq!(pinned.kernel, usual.kernel);
    assert_eq!(package_of_the_kernel(&pinned), package_of_the_kernel(&usual));
    let unknown = [&SERVER[..], &["--kernel-package", "linux-image-amd64=1.2.3-4"]].concat();
    let refused = build(&path_from("FARRIER_LAB_DIR").join("boot-server-pinned"), &unknown);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("1.2.3-4") && words.contains(&version),
        "{words}"
    );
    // What was there stays.
    assert_eq!(manifest("boot-server-pinned").kernel, usual.kernel);
}

/// Debian's, taken out of its package, as if somebody had built it.
pub(crate) fn a_kernel_of_ones_own_netboots() {
    let usual = manifest("boot-server");
    if !inside() {
        let (name, version) = package_of_the_kernel(&usual);
        let packages = path_from("FARRIER_LAB_DIR").join("packages/debs");
        let package = fs::read_dir(&packages).unwrap().flatten().find(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.starts_with(&format!("{name}_{version}_"))
        });
        let package = package.unwrap_or_else(|| panic!("no {name} {version} in {}", packages.display()));
        let unpacked = tempfile::tempdir().unwrap();
        let unpack = Command::new("dpkg-deb")
            .arg("-x")
            .args([package.path().as_path(), unpacked.path()])
            .output()
            .unwrap();
        assert!(unpack.status.success(), "{unpack:?}");
        let image = unpacked.path().join(format!("boot/vmlinuz-{}", usual.kernel));
        let modules = unpacked.path().join(format!("usr/lib/modules/{}", usual.kernel));
        let words = [image.display().to_string(), modules.display().to_string()];
        builds(
            "boot-server-own",
            &["--kernel", &words[0], "--modules", &words[1]],
        );
        let own = manifest("boot-server-own");
        assert!(
            own.components.iter().any(|one| one.name == "linux"),
            "{:?}",
            own.components
        );
    }
    netboots("boot-server-own", &format!("Linux version {} ", usual.kernel));
}

/// Outside: inside there is no way to a mirror.
fn builds(boot_dir: &str, more: &[&str]) {
    if !inside() {
        built(boot_dir, &[&SERVER[..], more].concat());
    }
}

/// A card whose driver lies in an overlay, and a disk whose driver is fetched.
fn netboots(boot_dir: &str, said: &str) {
    scene_with(boot_dir, |scene| {
        let blueprint = Blueprint::numbered(1)
            .nics_are(Nic::E1000e)
            .disks_are_on(DiskController::Ahci);
        let mut machine = written(scene, blueprint);
        assert!(machine.serial().text().contains(said), "another kernel");
        machine.power_cut();
    });
}

fn manifest(boot_dir: &str) -> Manifest {
    Manifest::read(&path_from("FARRIER_LAB_DIR").join(boot_dir)).unwrap()
}

/// Its name and version.
fn package_of_the_kernel(of: &Manifest) -> (String, String) {
    let kernel = of
        .components
        .iter()
        .find(|one| one.name.starts_with("linux-image"));
    let kernel = kernel.unwrap_or_else(|| panic!("no kernel in {:?}", of.components));
    (kernel.name.clone(), kernel.version.clone())
}
