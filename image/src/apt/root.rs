//! The private apt root: a temporary directory with the configuration, sources and state that apt works in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::cache::Cache;
use crate::apt::{AptError, KEYRING, Mirror, Package, Suite};
use crate::command::{self, CommandError};
use crate::files::{self, About};
use crate::progress::{Progress, Report};
use crate::scratch::Scratch;

/// The packages of a Debian [`Suite`], from the cache where it has them and from a mirror where not.
#[derive(Debug)]
pub struct Archive {
    mirror: Mirror,
    suite: Suite,
    cache: Cache,
    refresh: bool,
    /// Made when the first package has to be fetched.
    root: Option<Root>,
    /// SHA-256 of each package by what it was asked for; empty for one that the suite does not have.
    asked: BTreeMap<String, String>,
}

impl Archive {
    /// Opens the archive with the cache below `cache`. With `refresh` the cache is asked only for files that the
    /// mirror still has as the newest.
    ///
    /// # Errors
    /// [`AptError::File`] if the cache directory cannot be made.
    pub fn open(mirror: Option<&str>, suite: Suite, cache: &Path, refresh: bool) -> Result<Self, AptError> {
        let cache = Cache::open(&cache.join("debs"))?;
        Ok(Self {
            mirror: Mirror::choose(mirror),
            suite,
            cache,
            refresh,
            root: None,
            asked: BTreeMap::new(),
        })
    }

    /// The mirror that is asked for what the cache does not have.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The suite whose packages these are.
    pub fn suite(&self) -> &Suite {
        &self.suite
    }

    /// Returns the package called `name`, or `name=version` for that version alone, fetched if need be.
    ///
    /// # Errors
    /// [`AptError`]: no such package, no network, a broken download.
    pub fn package(&mut self, name: &str, report: &mut Report<'_>) -> Result<Package, AptError> {
        let package = match self.look(name, report)? {
            (package, true) => package,
            (package, false) => self.fetch(name, package, report)?,
        };
        self.asked.insert(name.to_string(), package.sha256.clone());
        Ok(package)
    }

    /// Returns what there is of a package, and whether it need not be fetched.
    ///
    /// # Errors
    /// As [`Archive::package`].
    pub(crate) fn look(&mut self, name: &str, report: &mut Report<'_>) -> Result<(Package, bool), AptError> {
        let cached = self.cache.find(&self.key(name));
        if let (false, Some(package)) = (self.refresh, &cached) {
            return Ok((package.clone(), true));
        }
        let newest = self.root(report)?.describe(name);
        if let Err(AptError::NoPackage { .. }) = newest {
            self.asked.insert(name.to_string(), String::new());
        }
        let newest = newest?;
        Ok(match cached {
            Some(package) if package.sha256 == newest.sha256 => (package, true),
            _ => (newest, false),
        })
    }

    /// What was asked for, with the SHA-256 of what it is; empty for what the suite does not have.
    pub(crate) fn asked(&self) -> &BTreeMap<String, String> {
        &self.asked
    }

    /// Returns whether [`Archive::package`] would give what it gave when an image was made of it. What is not kept any more counts as the
    /// same, unless newer packages are to be looked for.
    ///
    /// # Errors
    /// As [`Archive::package`], when they are.
    pub(crate) fn is_still(
        &mut self,
        name: &str,
        sha256: &str,
        report: &mut Report<'_>,
    ) -> Result<bool, AptError> {
        if !self.refresh {
            let known = self.cache.known(&self.key(name));
            return Ok(known.is_none_or(|package| package.sha256 == sha256));
        }
        match self.root(report)?.describe(name) {
            Ok(package) => Ok(package.sha256 == sha256),
            Err(AptError::NoPackage { .. }) => Ok(sha256.is_empty()),
            Err(error) => Err(error),
        }
    }

    /// Returns the apt configuration file of the private root, made if need be; it lives as long as `self`.
    ///
    /// # Errors
    /// As [`Archive::package`].
    pub fn configuration(&mut self, report: &mut Report<'_>) -> Result<PathBuf, AptError> {
        Ok(self.root(report)?.configuration())
    }

    fn root(&mut self, report: &mut Report<'_>) -> Result<&Root, AptError> {
        let root = match self.root.take() {
            Some(root) => root,
            None => {
                let text = format!("asking {} for its packages", self.mirror.archive);
                report(Progress::Noted { text: &text });
                Root::make(&self.mirror, &self.suite, self.cache.directory())?
            }
        };
        Ok(self.root.insert(root))
    }

    /// What the cache knows a package by.
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.suite)
    }

    fn fetch(&mut self, name: &str, package: Package, report: &mut Report<'_>) -> Result<Package, AptError> {
        let text = format!(
            "fetching {} {} ({} B) from {} of {}",
            package.name, package.version, package.bytes, package.path, package.suite
        );
        report(Progress::Noted { text: &text });
        // Beside the cache, so that the file can be renamed into it.
        let directory = self.cache.directory().to_path_buf();
        let download = Scratch::make(".download-", &directory).about("create directory", &directory)?;
        let root = self.root(report)?;
        let mut told = 0;
        root.download(name, download.path(), |there| {
            let there = there.min(package.bytes);
            report(Progress::Advanced {
                bytes: there.saturating_sub(told),
            });
            told = told.max(there);
        })?;
        let mut files = fs::read_dir(download.path())
            .about("list", download.path())?
            .flatten();
        let no_package = || AptError::NoPackage {
            name: name.to_string(),
            suite: self.suite.clone(),
            mirror: self.mirror.archive.clone(),
        };
        let file = files.next().ok_or_else(no_package)?.path();
        let bytes = package.bytes;
        let put = self.cache.put(&self.key(name), package, &file)?;
        report(Progress::Advanced {
            bytes: bytes.saturating_sub(told),
        });
        Ok(put)
    }
}

#[derive(Debug)]
struct Root {
    directory: Scratch,
    mirror: Mirror,
    suite: Suite,
    cache: PathBuf,
}

impl Root {
    fn make(mirror: &Mirror, suite: &Suite, cache: &Path) -> Result<Self, AptError> {
        if !Path::new(KEYRING).exists() {
            return Err(AptError::NoKeyring);
        }
        let parent = std::env::temp_dir();
        let directory = Scratch::make("farrier-apt-", &parent).about("create directory", &parent)?;
        let root = Self {
            directory,
            mirror: mirror.clone(),
            suite: suite.clone(),
            cache: cache.to_path_buf(),
        };
        for part in DIRECTORIES {
            files::create_directory(&root.path().join(part))?;
        }
        files::write(&root.path().join("state/status"), "")?;
        files::write(
            &root.path().join("etc/sources.list.d/debian.sources"),
            sources(mirror, suite),
        )?;
        if let Some(preferences) = suite.preferences() {
            files::write(&root.path().join("etc/preferences.d/suite"), preferences)?;
        }
        files::write(
            &root.configuration(),
            configuration(root.path(), &host_acquire_settings()),
        )?;
        root.update()?;
        Ok(root)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn configuration(&self) -> PathBuf {
        self.path().join("apt.conf")
    }

    fn update(&self) -> Result<(), AptError> {
        let Err(source) = self.run("apt-get", &["-q", "update"]) else {
            return Ok(());
        };
        let (suite, mirror) = (self.suite.clone(), self.mirror.archive.clone());
        let CommandError::Failed { said, .. } = &source else {
            return Err(AptError::Apt {
                action: "be started".to_string(),
                source,
            });
        };
        Err(match Refusal::of(said) {
            Refusal::NoSuite => AptError::NoSuite {
                suite,
                mirror,
                source: Box::new(source),
            },
            Refusal::UnknownKey => AptError::UnknownKey {
                suite,
                mirror,
                source: Box::new(source),
            },
            Refusal::Unreachable => AptError::Offline {
                mirror,
                cache: self.cache.clone(),
                source,
            },
        })
    }

    /// Asks the index what the newest version of a package is, or of `name=version` about that one.
    fn describe(&self, name: &str) -> Result<Package, AptError> {
        let stanza = match self.run("apt-cache", &["show", "--no-all-versions", name]) {
            Ok(stanza) => stanza,
            Err(CommandError::Failed { .. }) => Vec::new(),
            Err(source) => {
                return Err(AptError::Apt {
                    action: format!("describe {name}"),
                    source,
                });
            }
        };
        let alone = name.split('=').next().unwrap_or(name);
        let there = self.run("apt-cache", &["madison", alone]);
        let there = there.map_err(|source| AptError::Apt {
            action: format!("list the versions of {alone}"),
            source,
        })?;
        let there = parse_versions(&String::from_utf8_lossy(&there));
        let (suite, mirror) = (self.suite.clone(), self.mirror.archive.clone());
        let Some(package) = parse_stanza(&String::from_utf8_lossy(&stanza)) else {
            let (name, there) = (name.to_string(), in_words(&there));
            return Err(if there.is_empty() {
                AptError::NoPackage { name, suite, mirror }
            } else {
                AptError::NoVersion {
                    name,
                    suite,
                    mirror,
                    there,
                }
            });
        };
        let from = there.into_iter().find(|(version, _)| *version == package.version);
        Ok(Package {
            suite: from.map_or_else(|| suite.to_string(), |(_, suite)| suite),
            ..package
        })
    }

    /// Downloads a package; `advanced` is told again and again how many bytes of it are there.
    fn download(&self, name: &str, into: &Path, mut advanced: impl FnMut(u64)) -> Result<(), AptError> {
        let mut command = self.command("apt-get");
        command.args(["-q", "download", name]).current_dir(into);
        // Where apt has a file until it is whole is its own business.
        let places = [
            into.to_path_buf(),
            into.join("partial"),
            self.path().join("cache/archives/partial"),
        ];
        let downloaded = command::run_watched(&mut command, "apt", || {
            advanced(places.iter().map(|place| bytes_in(place)).sum());
        });
        downloaded.map_err(|source| AptError::Apt {
            action: format!("download {name}"),
            source,
        })?;
        Ok(())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>, CommandError> {
        command::run(self.command(program).args(arguments), "apt")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.configuration());
        command
    }
}

/// Bytes of the files in a directory; none where there is no such directory.
fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

/// Why an index could not be had.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoSuite,
    UnknownKey,
    Unreachable,
}

impl Refusal {
    /// Reads it out of apt's own words, which are asked for in English: it has no exit codes for that.
    fn of(said: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
        if says(&["NO_PUBKEY", "is not signed by", "Missing key", "Signing key on"]) {
            Self::UnknownKey
        } else if says(&["does not have a Release file", "no longer has a Release file"]) {
            Self::NoSuite
        } else {
            Self::Unreachable
        }
    }
}

/// The versions that `apt-cache madison` lists, newest first, each with the suite that has it.
fn parse_versions(text: &str) -> Vec<(String, String)> {
    let version = |line: &str| {
        let mut columns = line.split(" | ").map(str::trim);
        let (_, version, source) = (columns.next()?, columns.next()?, columns.next()?);
        // A URL, the suite and its component, the architecture, and the word Packages.
        let suite = source.split(' ').nth(1)?.split('/').next()?;
        Some((version.to_string(), suite.to_string()))
    };
    text.lines().filter_map(version).collect()
}

fn in_words(versions: &[(String, String)]) -> String {
    let words: Vec<String> = versions
        .iter()
        .map(|(version, suite)| format!("{version} ({suite})"))
        .collect();
    words.join(", ")
}

fn sources(mirror: &Mirror, suite: &Suite) -> String {
    let stanza = |url: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: main non-free-firmware\nArchitectures: amd64\nSigned-By: {KEYRING}\n\n"
        )
    };
    let archive = stanza(&mirror.archive, &suite.of_archive());
    archive + &stanza(&mirror.security, &format!("{}-security", suite.release()))
}

fn configuration(root: &Path, acquire: &str) -> String {
    let root = root.display();
    format!(
        "{acquire}\
         Acquire::Languages {{ \"none\"; }};\n\
         Dir \"{root}\";\n\
         Dir::Etc \"{root}/etc\";\n\
         Dir::Etc::netrc \"/etc/apt/auth.conf\";\n\
         Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
         Dir::State \"{root}/state\";\n\
         Dir::State::status \"{root}/state/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Default-Release \"\";\n\
         APT::Update::Error-Mode \"any\";\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// How the host's apt reaches the network: proxies, retries, timeouts. None of what says which archives to trust.
pub(crate) fn host_acquire_settings() -> String {
    let dump = command::run(Command::new("apt-config").arg("dump"), "apt").unwrap_or_default();
    acquire_settings(&String::from_utf8_lossy(&dump))
}

fn acquire_settings(dump: &str) -> String {
    let kept = |line: &&str| {
        let Some(setting) = line.strip_prefix("Acquire::") else {
            return false;
        };
        KEPT_SETTINGS.iter().any(|kept| {
            setting
                .strip_prefix(kept)
                .is_some_and(|rest| rest.starts_with([' ', ':']))
        })
    };
    dump.lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Reads the fields of the first stanza that `apt-cache show` prints.
fn parse_stanza(text: &str) -> Option<Package> {
    let stanza = text.split("\n\n").next()?;
    let field = |name: &str| {
        let line = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string());
        stanza.lines().find_map(line)
    };
    let first_dependency = field("Depends").and_then(|depends| {
        let first = depends.split([',', '|', ' ', '(']).next()?;
        (!first.is_empty()).then(|| first.to_string())
    });
    let depends = ["Depends", "Pre-Depends"].map(|name| field(name).unwrap_or_default());
    let dependencies = depends.join(",");
    let dependencies = dependencies.split(',').filter_map(|one| {
        let first = one.split('|').next()?.trim();
        let name = first.split([' ', '(']).next()?;
        let exact = first
            .split_once("(= ")
            .and_then(|(_, version)| version.strip_suffix(')'));
        let exact = exact.map(|version| format!("{name}={version}"));
        (!name.is_empty()).then(|| exact.unwrap_or_else(|| name.to_string()))
    });
    Some(Package {
        dependencies: dependencies.collect(),
        suite: String::new(),
        path: field("Filename").unwrap_or_default(),
        name: field("Package")?,
        version: field("Version")?,
        first_dependency,
        bytes: field("Size")?.parse().ok()?,
        sha256: field("SHA256")?,
        file: PathBuf::new(),
    })
}

const DIRECTORIES: [&str; 8] = [
    "etc/apt.conf.d",
    "etc/preferences.d",
    "etc/sources.list.d",
    "etc/trusted.gpg.d",
    "state/lists/partial",
    "state/mirrors",
    "cache/archives/partial",
    "log",
];
const KEPT_SETTINGS: [&str; 9] = [
    "http",
    "https",
    "ftp",
    "Retries",
    "ForceIPv4",
    "ForceIPv6",
    "Queue-Mode",
    "Check-Date",
    "Check-Valid-Until",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_hosts_proxy_but_not_its_trust() {
        let dump = "APT::Architecture \"arm64\";\nAcquire \"\";\nAcquire::http \"\";\n\
                    Acquire::http::Proxy \"http://proxy.example:3142\";\nAcquire::https::Verify-Peer \"true\";\n\
                    Acquire::AllowInsecureRepositories \"1\";\nAcquire::Languages:: \"de\";\nAcquire::Retries \"3\";\n";
        assert_eq!(
            acquire_settings(dump),
            "Acquire::http \"\";\nAcquire::http::Proxy \"http://proxy.example:3142\";\n\
             Acquire::https::Verify-Peer \"true\";\nAcquire::Retries \"3\";\n"
        );
    }

    #[test]
    fn reads_what_the_index_says_of_a_package() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
                    Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), other\nPre-Depends: libc6 (>= 2.41)\nSize: 1504\nFilename: pool/main/l/linux.deb\n\
                    SHA256: 00be21\nDescription: meta\n more\n\nPackage: another\n";
        let package = parse_stanza(text).unwrap();
        assert_eq!(package.name, "linux-image-cloud-amd64");
        assert_eq!(
            package.first_dependency.as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!((package.bytes, package.sha256.as_str()), (1504, "00be21"));
        assert_eq!(
            package.dependencies,
            ["linux-image-6.1.0-56-cloud-amd64=6.1.192-2", "other", "libc6"]
        );
        assert_eq!(package.path, "pool/main/l/linux.deb");
        assert_eq!(parse_stanza("Package: x\n"), None);
    }

    #[test]
    fn a_version_is_known_with_the_suite_that_has_it() {
        let text = " linux-image-amd64 | 6.12.118-1 | http://s.example/debian-security trixie-security/main amd64 Packages\n \
                    linux-image-amd64 |  6.12.94-1 | http://m.example/debian trixie/main amd64 Packages\nother\n";
        let versions = parse_versions(text);
        assert_eq!(
            in_words(&versions),
            "6.12.118-1 (trixie-security), 6.12.94-1 (trixie)"
        );
    }

    /// The words are those of apt 2.6 (Debian 12) and 3.0 (Debian 13).
    #[test]
    fn a_mirror_without_the_suite_and_one_with_another_key_are_told_from_one_that_is_away() {
        for (said, want) in [
            (
                "Err:3 http://deb.debian.org/debian trixy Release\n  404  Not Found [IP: 151.101.2.132 80]\n\
                 E: The repository 'http://deb.debian.org/debian trixy Release' does not have a Release file.",
                Refusal::NoSuite,
            ),
            (
                "W: GPG error: http://deb.debian.org/debian trixie InRelease: The following signatures couldn't be verified \
                 because the public key is not available: NO_PUBKEY 6ED0E7B82643E131\n\
                 E: The repository 'http://deb.debian.org/debian trixie InRelease' is not signed.",
                Refusal::UnknownKey,
            ),
            (
                "E: Failed to fetch http://d/dists/trixie/InRelease  Sub-process /usr/bin/sqv returned an error code (1), error \
                 message is: Missing key 4CB50190207B4758A3F73A796ED0E7B82643E131, which is needed to verify signature.",
                Refusal::UnknownKey,
            ),
            (
                "E: Failed to fetch http://m.example/debian/dists/trixie/InRelease  Could not resolve 'm.example'",
                Refusal::Unreachable,
            ),
        ] {
            assert_eq!(Refusal::of(said), want, "{said}");
        }
    }

    #[test]
    fn sources_name_the_release_and_the_key() {
        let text = sources(&Mirror::default(), &Suite::default());
        assert!(
            text.contains("URIs: http://ftp.debian.org/debian\nSuites: trixie trixie-updates\n"),
            "{text}"
        );
        assert!(text.contains("Suites: trixie-security\n"), "{text}");
        assert_eq!(text.matches(KEYRING).count(), 2);
    }
}
