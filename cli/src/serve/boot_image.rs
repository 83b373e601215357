//! The boot image that is served: a damaged one is refused before the server begins.

use std::path::Path;

use image::{Manifest, ManifestError, VerifyError};

use crate::commands::image::damaged;
use crate::failure::{Failure, chain};

/// What boot image is there, by its manifest and the sizes of its files: they are read whole when the server begins, and when
/// `farrier image verify` is asked.
///
/// # Errors
/// In words: there is none, or a file of it is missing or has another size.
pub(super) fn look(boot_dir: &Path) -> Result<String, String> {
    let manifest = match Manifest::read(boot_dir) {
        Ok(manifest) => manifest,
        Err(ManifestError::Missing { .. }) if boot_dir.join("vmlinuz").exists() => {
            return Ok("files that `farrier image build` did not make".to_owned());
        }
        Err(ManifestError::Missing { .. }) => {
            return Err(format!(
                "there is no boot image: make one with `farrier image build --boot-dir {}`",
                boot_dir.display()
            ));
        }
        Err(error) => return Err(chain(&error)),
    };
    for file in &manifest.files {
        let path = boot_dir.join(&file.name);
        match std::fs::metadata(&path) {
            Ok(there) if there.len() == file.bytes => {}
            Ok(there) => {
                return Err(format!(
                    "{} has {} bytes and should have {}: build the boot image again",
                    path.display(),
                    there.len(),
                    file.bytes
                ));
            }
            Err(error) => return Err(format!("{}: {error}: build the boot image again", path.display())),
        }
    }
    Ok(format!("profile {}, Linux {}", manifest.profile, manifest.kernel))
}

/// Holds the files of the boot image against its manifest. A directory without one may come later, or be somebody's own.
///
/// # Errors
/// [`Failure::Failed`] for an image that is damaged, or whose manifest is, with the cure.
pub(super) fn check(boot_dir: &Path) -> Result<(), Failure> {
    match image::verify(boot_dir) {
        Err(VerifyError::Manifest(ManifestError::Missing { .. })) => Ok(()),
        Err(error) => Err(damaged(boot_dir, &chain(&error))),
        Ok(verified) => match verified.in_words() {
            Some(words) => Err(damaged(boot_dir, &words)),
            None => Ok(()),
        },
    }
}
