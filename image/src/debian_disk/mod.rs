//! The Debian disk image that the lab installs: a small Debian that boots on BIOS and UEFI machines, from the disks that
//! emulators offer.
//!
//! It is put together from files alone, without mounts or loop devices. It has no SSH host keys and no machine id:
//! each machine makes its own at its first start. Who may log in, its name and its network are written by whoever
//! installs it; networkd waits for a file in `/etc/systemd/network`.
//!
//! Partitions: 1 BIOS boot, 2 EFI system, 3 root (ext4, last, so that it can grow; it does so at the first start).

mod assemble;
mod compress;
mod recipe;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apt::{AptError, Archive, Suite};
use crate::checksum::sha256_of_file;
use crate::command::CommandError;
use crate::files::{self, About, FileError};
use crate::grub::GrubError;
use crate::profile::Profile;
use crate::progress::{Progress, Report, step};
use crate::scratch::Scratch;

/// Where the image and the packages are kept, and where packages come from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory for the finished image; [`file_name`] is its name there.
    pub output: PathBuf,
    /// The suite whose release is installed.
    pub suite: Suite,
    /// Whose kernel is installed: the cloud kernel boots faster, the generic one drives what physical machines have.
    pub profile: Profile,
    /// Where fetched packages are kept.
    pub cache: PathBuf,
    /// The Debian mirror, as [`crate::apt::Mirror::parse`] reads it; `None` for the host's own or the public one.
    pub mirror: Option<String>,
    /// Whether to build anew although there is an image of the same recipe.
    pub rebuild: bool,
}

/// The finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskImage {
    /// The zstd file; its SHA-256 is in a file of the same name with `.sha256` appended.
    #[serde(skip)]
    pub path: PathBuf,
    /// SHA-256 of the zstd file.
    pub sha256: String,
    /// Size of the zstd file.
    pub bytes: u64,
    /// Size of the disk that is in it.
    pub raw_bytes: u64,
}

/// Why the image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum DiskImageError {
    /// The mirror cannot be used.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A program of the host failed or is missing.
    #[error("could not {action}")]
    Command {
        action: String,
        #[source]
        source: CommandError,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// GRUB's images could not be made.
    #[error(transparent)]
    Grub(#[from] GrubError),
    /// The partition table could not be written.
    #[error("could not write the partition table")]
    PartitionTable(#[from] gptman::Error),
    /// What was installed lacks what it takes to get in.
    #[error(
        "the packages of Debian {suite} give a system without {lacking}: nobody could log in to it; add the package that has it to \
         PACKAGES in image/src/debian_disk/recipe.rs"
    )]
    Unusable { suite: Suite, lacking: String },
}

pub use recipe::ROOT_UUID;

/// Name of an image within the output directory, such as `debian-13.raw.zst`, or `debian-13-server.raw.zst` with the kernel for
/// physical machines.
pub fn file_name(suite: &Suite, profile: Profile) -> String {
    format!("{}.raw.zst", stem(suite, profile))
}

fn stem(suite: &Suite, profile: Profile) -> String {
    match profile {
        Profile::Lab => format!("debian-{}", suite.number()),
        profile => format!("debian-{}-{profile}", suite.number()),
    }
}

/// Builds the image, or returns the one that is there if it was built by the same recipe.
///
/// Blocks for about a minute when it builds. One build at a time works in an output directory; others wait.
///
/// # Errors
/// [`DiskImageError`]; what was there before is left as it was.
pub fn build(options: &Options, report: &mut Report<'_>) -> Result<DiskImage, DiskImageError> {
    files::create_directory(&options.output)?;
    let _lock = files::lock(&options.output)?;
    if let (false, Some(image)) = (options.rebuild, finished(options)) {
        report(Progress::Noted {
            text: "the Debian disk image is there already",
        });
        return Ok(image);
    }
    let work = Workspace::make(&options.output)?;
    let mut archive = Archive::open(
        options.mirror.as_deref(),
        options.suite.clone(),
        &options.cache,
        false,
    )?;
    let boot = step(report, "boot loaders of the disk image", None, |report| {
        assemble::BootLoaders::make(&mut archive, report)
    })?;
    let tar = step(report, "Debian packages", None, |_| {
        tree::bootstrap(archive.mirror(), &options.suite, options.profile, work.path())
    })?;
    let root = step(report, "root filesystem", None, |_| {
        tree::filesystem(&tar, work.path())
    })?;
    let raw = step(report, "disk image", None, |_| {
        assemble::disk(&root, &boot, work.path())
    })?;
    let raw_bytes = fs::metadata(&raw).about("look at", &raw)?.len();
    let compressed = work.path().join(file_name(&options.suite, options.profile));
    step(report, "compressing the disk image", Some(raw_bytes), |report| {
        compress::compress(&raw, &compressed, &mut |bytes| {
            report(Progress::Advanced { bytes })
        })
    })?;
    finish(&compressed, raw_bytes, options)
}

/// What is written beside an image: with what recipe it was built.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    recipe: String,
    image: DiskImage,
}

fn finished(options: &Options) -> Option<DiskImage> {
    let (output, suite, profile) = (&options.output, &options.suite, options.profile);
    let record = fs::read(output.join(record_name(suite, profile))).ok()?;
    let record: Record = serde_json::from_slice(&record).ok()?;
    let path = output.join(file_name(suite, profile));
    let same =
        record.recipe == recipe::digest(suite, profile) && sha256_of_file(&path).ok()? == record.image.sha256;
    same.then_some(DiskImage { path, ..record.image })
}

fn finish(compressed: &Path, raw_bytes: u64, options: &Options) -> Result<DiskImage, DiskImageError> {
    let (output, name) = (&options.output, file_name(&options.suite, options.profile));
    let path = output.join(&name);
    let sha256 = sha256_of_file(compressed).about("read", compressed)?;
    let bytes = fs::metadata(compressed).about("look at", compressed)?.len();
    let image = DiskImage {
        path: path.clone(),
        sha256,
        bytes,
        raw_bytes,
    };
    // The record goes first and comes last: an image with a record is complete.
    let record = output.join(record_name(&options.suite, options.profile));
    match fs::remove_file(&record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).about("remove", &record)?,
        _ => {}
    }
    fs::rename(compressed, &path).about("write", &path)?;
    // After the image: a digest file that is older than its image counts for nothing.
    files::write(
        &output.join(format!("{name}.sha256")),
        format!("{}  {name}\n", image.sha256),
    )?;
    let text = serde_json::to_vec_pretty(&Record {
        recipe: recipe::digest(&options.suite, options.profile),
        image: image.clone(),
    });
    files::write(&record, text.unwrap_or_default())?;
    Ok(image)
}

/// Where the pieces are until they are put together; about 1.5 GB, some of it sparse.
struct Workspace(Scratch);

impl Workspace {
    fn make(output: &Path) -> Result<Self, FileError> {
        use std::os::unix::fs::PermissionsExt;

        // Left behind by a build that was killed: ours is the only one, by the lock.
        for entry in fs::read_dir(output).about("list", output)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(WORKSPACE) {
                fs::remove_dir_all(entry.path()).about("remove", &entry.path())?;
            }
        }
        // Without root, files are made by the users of a user namespace, who may not get into our directories.
        let temporary = std::env::temp_dir();
        let parent = if nix::unistd::geteuid().is_root() {
            output
        } else {
            &temporary
        };
        let directory = Scratch::make(WORKSPACE, parent).about("create directory", parent)?;
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), open).about("open up", directory.path())?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn record_name(suite: &Suite, profile: Profile) -> String {
    format!("{}.json", stem(suite, profile))
}

const WORKSPACE: &str = ".debian-disk-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_image_is_found_until_it_or_the_recipe_changes() {
        let directory = tempfile::tempdir().unwrap();
        let compressed = directory.path().join("compressed");
        fs::write(&compressed, "image").unwrap();
        let options = Options {
            output: directory.path().to_path_buf(),
            suite: Suite::default(),
            profile: Profile::Lab,
            cache: PathBuf::new(),
            mirror: None,
            rebuild: false,
        };
        let finished_for = |suite: &str, profile| {
            finished(&Options {
                suite: suite.parse().unwrap(),
                profile,
                ..options.clone()
            })
        };
        let finished = |suite: &str| finished_for(suite, Profile::Lab);
        let image = finish(&compressed, 99, &options).unwrap();
        assert_eq!(finished("trixie"), Some(image.clone()));
        assert_eq!(finished("bookworm"), None);
        assert_eq!(finished_for("trixie", Profile::Server), None);
        let beside = fs::read_to_string(directory.path().join("debian-13.raw.zst.sha256")).unwrap();
        assert_eq!(beside, format!("{}  debian-13.raw.zst\n", image.sha256));

        let record = directory.path().join("debian-13.json");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(
            &record,
            text.replace(&recipe::digest(&options.suite, options.profile), "other"),
        )
        .unwrap();
        assert_eq!(finished("trixie"), None);
        fs::write(&record, text).unwrap();
        fs::write(&image.path, "imag").unwrap();
        assert_eq!(finished("trixie"), None);
    }

    #[test]
    fn what_a_killed_build_left_is_removed_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join(format!("{WORKSPACE}killed"));
        fs::create_dir_all(left.join("tree")).unwrap();
        let _work = Workspace::make(directory.path()).unwrap();
        assert!(!left.exists());
    }
}
