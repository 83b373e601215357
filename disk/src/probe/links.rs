//! /dev/disk in a system without udev: a link for each persistent name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::System;
use super::names::{self, By};

/// Makes the links in `/dev/disk` those of the disks as they are now; others in its folders go.
///
/// Of a name that several devices have, the first keeps it. Links that are right are not touched, and each new one
/// takes its place in one step. Blocks while superblocks are read.
///
/// # Errors
/// What could not be listed, made or taken away; the rest is done.
pub fn refresh(system: &System) -> io::Result<()> {
    let mut wanted: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for name in names::names(system)? {
        let below = name.device.strip_prefix(&system.dev).unwrap_or(&name.device);
        let link = PathBuf::from(name.by.folder()).join(&name.name);
        // A name that would lead elsewhere is none.
        if !name.name.contains('/') && !matches!(name.name.as_str(), "" | "." | "..") {
            wanted
                .entry(link)
                .or_insert_with(|| Path::new("../..").join(below));
        }
    }
    let root = system.dev.join("disk");
    let mut failed = None;
    let mut keep = |done: io::Result<()>| failed = failed.take().or(done.err());
    for (link, to) in &wanted {
        keep(point(&root.join(link), to));
    }
    let names: BTreeSet<&Path> = wanted.keys().map(PathBuf::as_path).collect();
    for folder in By::ALL.map(By::folder) {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if !names.contains(Path::new(folder).join(entry.file_name()).as_path()) {
                keep(fs::remove_file(entry.path()));
            }
        }
    }
    match failed {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

fn point(link: &Path, to: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == to) {
        return Ok(());
    }
    let folder = link.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = folder.join(".new");
    let _ = fs::remove_file(&new);
    symlink(to, &new)?;
    fs::rename(&new, link)
}
