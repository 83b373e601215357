//! Before the namespaces: packages, the boot image and the Debian disk image, on the host and its network.

use std::env;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use image::apt::Suite;
use image::{Manifest, ManifestFile, Profile, Progress};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::{PathOptions, places};
use crate::lab::display::{Display, Task};
use crate::lab::host_packages::{self, Consent, IMAGES, IMAGES_WITHOUT_ROOT, MACHINES, Need};
use crate::lab::world::Built;

/// What was prepared, handed over into the namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// Binaries and directories.
    pub built: Built,
    /// The disk image, where one is installed.
    pub disk_image: Option<DiskImage>,
    /// Where evidence is kept.
    pub artifacts: PathBuf,
    /// What was done before: name, seconds, bytes.
    pub stages: Vec<(String, f64, u64)>,
}

/// A disk image below the images directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskImage {
    /// Its file name.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// Size of the disk in it; 0 where it is not known.
    pub raw_bytes: u64,
}

impl Prepared {
    const VARIABLE: &'static str = "FARRIER_LAB_PREPARED";

    /// Name and value of the environment variable that carries it.
    pub(crate) fn hand_over(&self) -> anyhow::Result<(&'static str, String)> {
        Ok((Self::VARIABLE, serde_json::to_string(self)?))
    }

    /// What the process outside has prepared.
    ///
    /// # Errors
    /// When this process was not started by it.
    pub fn handed_over() -> anyhow::Result<Prepared> {
        let text = env::var(Self::VARIABLE).with_context(|| {
            format!(
                "{} is not set: the lab enters its namespaces itself",
                Self::VARIABLE
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", Self::VARIABLE))
    }
}

/// Installs what is missing, builds the boot image of the profile and, when the lab's own Debian is wanted, the disk image.
///
/// # Errors
/// What could not be installed or built.
pub fn prepare(
    paths: &PathOptions,
    profile: Profile,
    yes: bool,
    wants_debian: bool,
) -> anyhow::Result<Prepared> {
    let work_dir = places::work_dir(paths)?;
    let boot_dir = places::boot_dir(paths, profile)?;
    let builds_debian = wants_debian && paths.disk_image.is_none();
    let needs = needs(
        boot_dir.is_none() || builds_debian,
        builds_debian,
        Uid::effective().is_root(),
    );
    host_packages::install(&needs, if yes { Consent::Given } else { Consent::Ask })?;

    let display = Display::new();
    let agent = match &boot_dir {
        Some(_) => None,
        None => Some(places::agent(paths)?),
    };
    // Neither needs the other, and each waits for the network, or keeps one processor busy, half of its time.
    let (boot, disk) = thread::scope(|scope| {
        let disk = scope.spawn(|| {
            timed(|| match (&paths.disk_image, wants_debian) {
                (Some(file), _) => given_image(&places::absolute(file)?),
                (None, true) => debian(&work_dir, paths, profile, &display),
                (None, false) => Ok((work_dir.join("images"), None)),
            })
        });
        let boot = agent.map(|agent| timed(|| boot_image(&agent, &work_dir, paths, profile, &display)));
        (boot, disk.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let mut stages = Vec::new();
    let boot_dir = match (boot, boot_dir) {
        (Some(built), _) => {
            let (boot_dir, seconds) = built?;
            let bytes = ["vmlinuz", "initramfs.img"]
                .iter()
                .map(|name| size(&boot_dir.join(name)));
            stages.push(("boot image".to_owned(), seconds, bytes.sum()));
            boot_dir
        }
        (None, given) => given.context("there is no boot image")?,
    };
    let ((images_dir, disk_image), seconds) = disk?;
    fs::create_dir_all(&images_dir).with_context(|| format!("making {}", images_dir.display()))?;
    if let Some(image) = &disk_image {
        let bytes = size(&images_dir.join(&image.file));
        stages.push(("disk image".to_owned(), seconds, bytes));
    }
    let built = Built {
        farrier: places::farrier()?,
        boot_dir,
        images_dir,
    };
    Ok(Prepared {
        built,
        disk_image,
        artifacts: work_dir.join("artifacts"),
        stages,
    })
}

/// What `work` gives, and how many seconds it took.
fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let started = Instant::now();
    Ok((work()?, started.elapsed().as_secs_f64()))
}

fn needs(builds: bool, builds_debian: bool, root: bool) -> Vec<Need> {
    let mut needs = MACHINES.to_vec();
    if builds {
        needs.extend(IMAGES);
    }
    if builds_debian && !root {
        needs.extend(IMAGES_WITHOUT_ROOT);
    }
    needs
}

/// The boot image of this agent; the one that is there when it was built of the same, which the build sees itself.
fn boot_image(
    agent: &Path,
    work_dir: &Path,
    paths: &PathOptions,
    profile: Profile,
    display: &Display,
) -> anyhow::Result<PathBuf> {
    let output = work_dir.join(boot_directory(profile, &paths.suite));
    let options = image_options(agent, work_dir, &output, paths, profile);
    let mut report = Reporter::new(display);
    image::build(&options, &mut |progress| report.take(progress)).context("building the boot image")?;
    Ok(output)
}

fn image_options(
    agent: &Path,
    work_dir: &Path,
    output: &Path,
    paths: &PathOptions,
    profile: Profile,
) -> image::Options {
    image::Options {
        agent: agent.to_owned(),
        output: output.to_owned(),
        others: image::Others::Refuse,
        cache: work_dir.join("packages"),
        profiles: profile.into(),
        firmware: None,
        suite: paths.suite.clone(),
        kernel_package: None,
        mirror: paths.mirror.clone(),
        refresh: false,
        ca_files: Vec::new(),
        kernel: None,
    }
}

/// How long it takes to build a copy of the boot image again when nothing but the agent has changed.
///
/// # Errors
/// When it is not built, or anything but the initramfs is another one.
pub(crate) fn pack_again(paths: &PathOptions, profile: Profile, boot_dir: &Path) -> anyhow::Result<Duration> {
    let scratch = tempfile::tempdir().context("making a directory for a boot image")?;
    let copy = scratch.path().join("boot");
    fs::create_dir(&copy).with_context(|| format!("making {}", copy.display()))?;
    let entries = fs::read_dir(boot_dir).with_context(|| format!("listing {}", boot_dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", boot_dir.display()))?;
        let from = entry.path();
        fs::copy(&from, copy.join(entry.file_name()))
            .with_context(|| format!("copying {}", from.display()))?;
    }
    let mut changed = fs::read(places::agent(paths)?).context("reading the agent")?;
    changed.extend(b"changed");
    let agent = scratch.path().join("farrier-agent");
    fs::write(&agent, changed).with_context(|| format!("writing {}", agent.display()))?;
    let options = image_options(&agent, &places::work_dir(paths)?, &copy, paths, profile);
    let before = Manifest::read(&copy)?;
    let began = Instant::now();
    let after = image::build(&options, &mut |_| {}).context("building the boot image again")?;
    let took = began.elapsed();
    let same = |file: &ManifestFile| {
        file.name == "initramfs.img" || file.name == "image.spdx.json" || before.files.contains(file)
    };
    let another = after.files.iter().find(|file| !same(file));
    anyhow::ensure!(
        another.is_none(),
        "more than the agent was built again: {another:?}; `farrier lab prepare` builds the image of this farrier"
    );
    Ok(took)
}

/// Where the image of a profile and suite is built: `boot` is the one that most use.
fn boot_directory(profile: Profile, suite: &Suite) -> String {
    let mut name = "boot".to_owned();
    if profile != Profile::default() {
        name += &format!("-{profile}");
    }
    if *suite != Suite::default() {
        name += &format!("-{suite}");
    }
    name
}

fn debian(
    work_dir: &Path,
    paths: &PathOptions,
    profile: Profile,
    display: &Display,
) -> anyhow::Result<(PathBuf, Option<DiskImage>)> {
    let options = image::debian_disk::Options {
        output: work_dir.join("images"),
        suite: paths.suite.clone(),
        profile,
        cache: work_dir.join("packages"),
        mirror: paths.mirror.clone(),
        rebuild: false,
    };
    let mut report = Reporter::new(display);
    let image = image::debian_disk::build(&options, &mut |progress| report.take(progress))
        .context("building the Debian disk image")?;
    let file = image::debian_disk::file_name(&options.suite, profile);
    Ok((
        options.output,
        Some(DiskImage {
            file,
            sha256: image.sha256,
            raw_bytes: image.raw_bytes,
        }),
    ))
}

fn given_image(file: &Path) -> anyhow::Result<(PathBuf, Option<DiskImage>)> {
    let sha256 =
        image::sha256_of_file(file).with_context(|| format!("reading {} (--disk-image)", file.display()))?;
    let directory = file
        .parent()
        .context("a disk image is a file in a directory")?
        .to_owned();
    let name = file
        .file_name()
        .context("a disk image has a file name")?
        .to_string_lossy()
        .into_owned();
    Ok((
        directory,
        Some(DiskImage {
            file: name,
            sha256,
            raw_bytes: 0,
        }),
    ))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Shows what the image builder reports.
struct Reporter<'a> {
    display: &'a Display,
    current: Option<(Task<'a>, String, Instant, u64)>,
}

impl<'a> Reporter<'a> {
    fn new(display: &'a Display) -> Reporter<'a> {
        Reporter {
            display,
            current: None,
        }
    }

    fn take(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Began { step, bytes } => {
                // A step may begin within another; the outer one's line is not lost, its bar is.
                let task = self.display.task(step);
                self.current = Some((task, step.to_owned(), Instant::now(), bytes.unwrap_or(0)));
            }
            Progress::Advanced { bytes } => {
                if let Some((task, _, _, total)) = &self.current {
                    task.advance(bytes, *total);
                }
            }
            Progress::Noted { text } => self.display.line(text),
            Progress::Ended { step } => {
                let took = match self.current.take() {
                    Some((_, name, started, _)) if name == step => {
                        format!("  {}", crate::lab::table::seconds(started.elapsed()))
                    }
                    _ => String::new(),
                };
                self.display.line(&format!("{step:<32}{took}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_other_profiles_and_suites_lie_beside_each_other() {
        let directory = |profile, suite: &str| boot_directory(profile, &suite.parse().unwrap());
        assert_eq!(directory(Profile::Lab, "trixie"), "boot");
        assert_eq!(directory(Profile::Server, "trixie"), "boot-server");
        assert_eq!(directory(Profile::Lab, "bookworm"), "boot-bookworm");
        assert_eq!(
            directory(Profile::Server, "trixie-backports"),
            "boot-server-trixie-backports"
        );
    }

    #[test]
    fn packages_are_asked_for_by_what_is_built_and_by_whom() {
        let packages = |builds, builds_debian, root| {
            let needs = needs(builds, builds_debian, root);
            ["qemu-system-x86", "mmdebstrap", "uidmap"]
                .map(|package| needs.iter().any(|need| need.package == package))
        };
        assert_eq!(packages(false, false, false), [true, false, false]);
        assert_eq!(packages(true, false, false), [true, true, false]);
        assert_eq!(packages(true, true, true), [true, true, false]);
        assert_eq!(packages(true, true, false), [true, true, true]);
    }

    #[test]
    fn a_given_image_is_served_from_its_own_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mine.raw.zst");
        fs::write(&file, "x").unwrap();
        let (images_dir, image) = given_image(&file).unwrap();
        assert_eq!(images_dir, directory.path());
        assert_eq!(image.unwrap().file, "mine.raw.zst");
    }
}
