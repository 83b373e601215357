//! The boot image that is served: a damaged one is refused before the server begins.

use std::path::Path;

use image::{ManifestError, VerifyError};

use crate::commands::image::damaged;
use crate::failure::{Failure, chain};

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
