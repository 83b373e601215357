//! A QEMU that is newer than the host's: Debian 13's, with its libraries and ROMs, in a folder of the lab.
//!
//! It has Intel's 82576 (igb) and eMMC, which Debian 12's has not, and ROMs of an iPXE of 2025.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::image::apt::Archive;
use qemu_tests::lab::namespace::inside;

use crate::scene::path_from;

/// `ipxe-qemu` has the ROMs, and is only recommended by the first.
const PACKAGES: [&str; 2] = ["qemu-system-x86", "ipxe-qemu"];
const SUITE: &str = "trixie";

/// The program. Fetched by the first test that wants it, outside of the lab's namespaces: inside there is no way to a mirror.
pub(crate) fn newer_qemu() -> PathBuf {
    let folder = path_from("FARRIER_LAB_DIR").join("qemu-trixie");
    let program = folder.join("qemu-system-x86_64");
    if !inside() && !program.exists() {
        // Made beside its place, so that half of it is never taken for all.
        let made = tempfile::tempdir_in(path_from("FARRIER_LAB_DIR")).unwrap();
        unpack(made.path());
        write_program(&made.path().join("qemu-system-x86_64"), &folder);
        let _ = fs::remove_dir_all(&folder);
        fs::rename(made.keep(), &folder).unwrap();
    }
    program
}

/// All that the packages depend on, the C library too: nothing of the host's is used but its kernel.
fn unpack(folder: &Path) {
    let packages = tempfile::tempdir().unwrap();
    let mut archive = Archive::open(None, SUITE.parse().unwrap(), packages.path(), false).unwrap();
    let configuration = archive.configuration(&mut |_| {}).unwrap();
    let mut fetch = Command::new("apt-get");
    fetch
        .env("APT_CONFIG", &configuration)
        .args(["-q", "-y", "--no-install-recommends", "--download-only", "-o"])
        .arg(format!("Dir::Cache::archives={}", packages.path().display()))
        .arg("install")
        .args(PACKAGES);
    ran(&mut fetch);
    for entry in fs::read_dir(packages.path()).unwrap() {
        let package = entry.unwrap().path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            ran(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder));
        }
    }
}

/// The loader is started by its path: that which the program itself names is the host's.
fn write_program(program: &Path, folder: &Path) {
    let usr = folder.join("usr");
    let usr = usr.display();
    let text = format!(
        "#!/bin/sh\nexec {usr}/lib64/ld-linux-x86-64.so.2 --library-path {usr}/lib/x86_64-linux-gnu {usr}/bin/qemu-system-x86_64 -L \
         {usr}/share/qemu -L {usr}/share/seabios \"$@\"\n"
    );
    fs::write(program, text).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
