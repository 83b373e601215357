//! A small system for a disk: programs of this host, with what they load.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::world::World;

/// Makes `/usr` as Debian has it, and copies programs with their libraries.
pub(crate) fn install(world: &World, root: &Path, programs: &[&str]) {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder)).unwrap();
        symlink(format!("usr/{folder}"), root.join(folder)).unwrap();
    }
    for folder in [
        "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var/lib",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for program in programs {
        copy(world, root, Path::new(program));
    }
}

/// Copies one program or module, with the libraries that it loads.
pub(crate) fn copy(world: &World, root: &Path, file: &Path) {
    let loads = world.tries(&format!("ldd {}", file.display()));
    let loads = String::from_utf8(loads.stdout).unwrap();
    let libraries = loads.split_whitespace().filter(|word| word.starts_with('/'));
    for file in [file.to_owned()].into_iter().chain(libraries.map(PathBuf::from)) {
        let to = root.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, &to).unwrap();
    }
}
