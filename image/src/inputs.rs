//! What an image is made of, as digests: whether another build would give another one.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::apt::Archive;
use crate::boot_image::{BuildError, Options};
use crate::checksum::{hexadecimal, sha256_of_bytes, sha256_of_file};
use crate::files::{self, About, FileError};
use crate::manifest::Inputs;
use crate::modules::ModuleTree;
use crate::progress::Report;

/// What the agent's archive is made of. It is small and changes often.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) agent: Vec<u8>,
    /// PEM; empty for none.
    pub(crate) authorities: Vec<u8>,
}

impl Own {
    /// Reads the files.
    ///
    /// # Errors
    /// [`BuildError::NoCertificate`], and what cannot be read.
    pub(crate) fn read(options: &Options) -> Result<Self, BuildError> {
        let mut authorities = Vec::new();
        for path in &options.ca_files {
            let pem = files::read(path)?;
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(BuildError::NoCertificate { path: path.clone() });
            }
            authorities.extend(pem);
            authorities.push(b'\n');
        }
        Ok(Self {
            agent: files::read(&options.agent)?,
            authorities,
        })
    }

    /// The agent can ask containerd: the path of one of its calls is among its bytes.
    pub(crate) fn has_containerd_client(&self) -> bool {
        const CALL: &[u8] = b"/containerd.services.tasks.v1.Tasks/Create";
        self.agent.windows(CALL.len()).any(|bytes| bytes == CALL)
    }

    pub(crate) fn agent_sha256(&self) -> String {
        sha256_of_bytes(&self.agent)
    }

    /// Empty for none.
    pub(crate) fn authorities_sha256(&self) -> String {
        if self.authorities.is_empty() {
            return String::new();
        }
        sha256_of_bytes(&self.authorities)
    }
}

/// The digest of everything but packages, agent and authorities. Paths are not in it: a folder may be anywhere.
///
/// # Errors
/// [`FileError`] for a kernel of one's own that cannot be read.
pub(crate) fn settings(options: &Options) -> Result<String, BuildError> {
    let mut digest = Sha256::new();
    let mut add = |name: &str, value: &str| {
        // Lengths keep apart what would run together.
        digest.update(format!("{name} {}\n", value.len()));
        digest.update(value);
    };
    add("build", &BUILD.to_string());
    add("farrier", env!("CARGO_PKG_VERSION"));
    add("profile", &options.profiles.to_string());
    for (name, list) in [
        ("profile list", options.profiles.machines.list()),
        ("firmware list", crate::firmware::LIST),
        ("cards list", crate::cards::LIST),
    ] {
        add(name, list);
    }
    let lists = crate::tools::LISTS.into_iter();
    for (name, list) in lists.filter(|(name, _)| options.profiles.containerd || *name == "tools") {
        add(name, list);
    }
    add("firmware", &options.firmware().to_string());
    add("suite", &options.suite.to_string());
    match &options.kernel {
        None => add("kernel package", options.kernel_package()),
        Some(own) => {
            add("kernel", &digest_of(&own.image)?);
            let version = own.modules.file_name().unwrap_or_default();
            add("kernel version", &version.to_string_lossy());
            for (path, file) in ModuleTree::read(&own.modules)?.files() {
                // How a file is compressed changes its digest and nothing in the image: that is one build too many at most.
                add(path, &digest_of(file)?);
            }
            for name in ["modules.builtin", "modules.builtin.modinfo"] {
                let text = std::fs::read(own.modules.join(name)).unwrap_or_default();
                add(name, &sha256_of_bytes(&text));
            }
        }
    }
    Ok(hexadecimal(&digest.finalize()))
}

/// Whether a build with these settings would find the packages that an image was made of.
///
/// # Errors
/// [`BuildError::Apt`] where newer packages are to be looked for and the mirror is away.
pub(crate) fn are_still(
    inputs: &Inputs,
    settings: &str,
    archive: &mut Archive,
    report: &mut Report<'_>,
) -> Result<bool, BuildError> {
    if inputs.settings != settings {
        return Ok(false);
    }
    for (name, sha256) in &inputs.packages {
        if !archive.is_still(name, sha256, report)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn digest_of(file: &Path) -> Result<String, FileError> {
    sha256_of_file(file).about("read", file)
}

/// Raised when the way an image is put together changes.
const BUILD: u32 = 3;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::boot_dir::Others;
    use crate::firmware::Firmware;
    use crate::kernel::OwnKernel;
    use crate::profile::{Profile, Profiles};

    fn options() -> Options {
        Options {
            agent: PathBuf::from("/agent"),
            output: PathBuf::from("/boot"),
            others: Others::Refuse,
            cache: PathBuf::from("/cache"),
            profiles: Profile::Server.into(),
            firmware: None,
            suite: Default::default(),
            kernel_package: None,
            mirror: None,
            refresh: false,
            ca_files: vec![],
            kernel: None,
        }
    }

    #[test]
    fn an_agent_that_can_ask_containerd_is_told_from_one_that_cannot() {
        let own = |agent: &[u8]| Own {
            agent: agent.to_vec(),
            authorities: Vec::new(),
        };
        assert!(own(b"\x7fELF\0/containerd.services.tasks.v1.Tasks/Create\0").has_containerd_client());
        assert!(!own(b"\x7fELF\0/containerd.services.tasks.v1.Tasks/Delete\0").has_containerd_client());
        assert!(!own(b"").has_containerd_client());
    }

    #[test]
    fn what_changes_an_image_changes_the_settings_and_where_it_lies_does_not() {
        let first = settings(&options()).unwrap();
        let elsewhere = Options {
            agent: "/other/agent".into(),
            output: "/other".into(),
            cache: "/elsewhere".into(),
            mirror: Some("http://m.example/debian".into()),
            refresh: true,
            // What the profile takes anyway.
            firmware: Some(Firmware::Free),
            ..options()
        };
        assert_eq!(settings(&elsewhere).unwrap(), first);
        let mut seen = vec![first];
        for other in [
            Options {
                profiles: Profile::Lab.into(),
                ..options()
            },
            Options {
                profiles: Profiles {
                    containerd: true,
                    ..options().profiles
                },
                ..options()
            },
            Options {
                firmware: Some(Firmware::NonFree),
                ..options()
            },
            Options {
                suite: "bookworm".parse().unwrap(),
                ..options()
            },
            Options {
                kernel_package: Some("linux-image-rt-amd64".into()),
                ..options()
            },
        ] {
            let digest = settings(&other).unwrap();
            assert!(!seen.contains(&digest), "{other:?}");
            seen.push(digest);
        }
    }

    #[test]
    fn a_kernel_of_ones_own_counts_by_what_is_in_it() {
        let place = tempfile::tempdir().unwrap();
        let own = |folder: &str, image: &str, module: &str| {
            let modules = place.path().join(folder).join("6.18.0");
            std::fs::create_dir_all(modules.join("kernel")).unwrap();
            std::fs::write(modules.join("modules.builtin"), "").unwrap();
            std::fs::write(modules.join("kernel/a.ko"), module).unwrap();
            let vmlinuz = place.path().join(folder).join("vmlinuz");
            std::fs::write(&vmlinuz, image).unwrap();
            let kernel = Some(OwnKernel {
                image: vmlinuz,
                modules,
            });
            settings(&Options { kernel, ..options() }).unwrap()
        };
        let first = own("a", "kernel", "module");
        assert_eq!(own("b", "kernel", "module"), first);
        assert_ne!(own("c", "kernel 2", "module"), first);
        assert_ne!(own("d", "kernel", "module 2"), first);
    }
}
