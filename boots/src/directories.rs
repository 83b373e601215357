//! What lies in the boot image directory and the images directory when the services start.
//!
//! Both are looked into at each request, so what is missing may come later: it is said, and nothing is refused for it.

use std::io;
use std::path::Path;

use crate::bootfile;
use crate::config::{BootsConfig, StartError};

/// What every boot of the agent needs.
pub(crate) const KERNEL_FILES: [&str; 2] = ["vmlinuz", "initramfs.img"];

/// Looks at both directories. Gives what is missing, with the cure, in words for the operator.
///
/// # Errors
/// [`StartError`] for a directory that is there and cannot be read.
pub(crate) fn check(config: &BootsConfig) -> Result<Vec<String>, StartError> {
    let mut notes = Vec::new();
    let path = &config.boot_dir;
    let boot = is_there(path).map_err(|source| StartError::BootDir {
        path: path.clone(),
        source,
    })?;
    let missing = missing(path, KERNEL_FILES.into_iter().chain(bootfile::LOADERS));
    if !missing.is_empty() {
        let has_no = if boot {
            "has no"
        } else {
            "does not exist; it is to hold"
        };
        notes.push(format!(
            "the boot image directory {path} {has_no} {}: machines cannot boot from here until `farrier image build \
             --boot-dir {path}` has made them (no restart is needed)",
            missing.join(", "),
            path = path.display(),
        ));
    }
    if let Some(path) = &config.images_dir
        && !is_there(path).map_err(|source| StartError::ImagesDir {
            path: path.clone(),
            source,
        })?
    {
        notes.push(format!(
            "the images directory {path} does not exist: /images/ answers 404 until it is made with `mkdir {path}` (no \
             restart is needed)",
            path = path.display(),
        ));
    }
    Ok(notes)
}

/// Those of `names` that are no files in `directory` now.
pub(crate) fn missing(directory: &Path, names: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let names = names.into_iter();
    names.filter(|name| !directory.join(name).is_file()).collect()
}

fn is_there(directory: &Path) -> io::Result<bool> {
    match std::fs::read_dir(directory) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
