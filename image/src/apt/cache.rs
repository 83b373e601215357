//! The packages that were fetched before: files in a directory, and an index of what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{AptError, Package};
use crate::checksum::sha256_of_file;
use crate::files::{self, About};

/// A directory of package files with its index.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    packages: BTreeMap<String, Package>,
}

impl Cache {
    /// Opens the cache, making the directory if it is not there. An index that cannot be read counts as empty.
    pub(super) fn open(directory: &Path) -> Result<Self, AptError> {
        files::create_directory(directory)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            packages: read_index(directory),
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the package if its file is there with the right content.
    /// `key` is what was asked for: `suite/name`, or `suite/name=version`.
    pub(super) fn find(&self, key: &str) -> Option<Package> {
        let mut package = self.packages.get(key)?.clone();
        if package.path.is_empty() {
            // Kept by Farrier 0.1: a manifest could not say where it came from, so it is fetched once more.
            return None;
        }
        package.file = self.directory.join(file_name(&package));
        let same = sha256_of_file(&package.file).is_ok_and(|actual| actual == package.sha256);
        same.then_some(package)
    }

    /// What the index says of a package, whether or not its file is there.
    pub(super) fn known(&self, key: &str) -> Option<&Package> {
        self.packages.get(key)
    }

    /// Takes the file `downloaded` over as the content of `package`, after checking that it is.
    pub(super) fn put(
        &mut self,
        key: &str,
        mut package: Package,
        downloaded: &Path,
    ) -> Result<Package, AptError> {
        let actual = sha256_of_file(downloaded).about("read", downloaded)?;
        if actual != package.sha256 {
            let file = downloaded.to_path_buf();
            return Err(AptError::Checksum {
                file,
                expected: package.sha256,
                actual,
            });
        }
        // Another build may have put packages there since this one has read the index.
        let _lock = files::lock(&self.directory)?;
        self.packages = read_index(&self.directory);
        package.file = self.directory.join(file_name(&package));
        fs::rename(downloaded, &package.file).about("write", &package.file)?;
        if let Some(older) = self.packages.insert(key.to_string(), package.clone())
            && self
                .packages
                .values()
                .all(|kept| file_name(kept) != file_name(&older))
        {
            // What the index no longer names would never be used again.
            let _ = fs::remove_file(self.directory.join(file_name(&older)));
        }
        let text = serde_json::to_vec_pretty(&self.packages).unwrap_or_default();
        let (index, fresh) = (self.directory.join(INDEX), self.directory.join(".packages.json"));
        files::write(&fresh, text)?;
        fs::rename(&fresh, &index).about("write", &index)?;
        Ok(package)
    }
}

/// What is not there, or cannot be read, counts as empty.
fn read_index(directory: &Path) -> BTreeMap<String, Package> {
    let text = fs::read(directory.join(INDEX)).unwrap_or_default();
    let packages: BTreeMap<String, Package> = serde_json::from_slice(&text).unwrap_or_default();
    packages.into_iter().map(with_suite).collect()
}

/// Farrier 0.1 kept packages of its one suite by their names alone.
fn with_suite((key, mut package): (String, Package)) -> (String, Package) {
    if key.contains('/') {
        return (key, package);
    }
    if package.suite.is_empty() {
        package.suite = FIRST_SUITE.to_string();
    }
    (format!("{FIRST_SUITE}/{key}"), package)
}

fn file_name(package: &Package) -> String {
    let short: String = package.sha256.chars().take(16).collect();
    // An epoch's colon is awkward in file names.
    format!(
        "{}_{}_{short}.deb",
        package.name,
        package.version.replace(':', "%3a")
    )
}

const INDEX: &str = "packages.json";
const FIRST_SUITE: &str = "bookworm";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::sha256_of_bytes;

    fn package(version: &str, content: &[u8]) -> Package {
        Package {
            name: "ipxe".into(),
            version: version.into(),
            first_dependency: None,
            dependencies: vec![],
            suite: "bookworm".into(),
            path: "pool/ipxe.deb".into(),
            bytes: content.len() as u64,
            sha256: sha256_of_bytes(content),
            file: PathBuf::new(),
        }
    }

    #[test]
    fn finds_again_what_was_put_and_drops_what_it_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let downloaded = directory.path().join("download");
        for content in [&b"one"[..], b"two"] {
            fs::write(&downloaded, content).unwrap();
            let mut cache = Cache::open(directory.path()).unwrap();
            let version = String::from_utf8_lossy(content);
            cache
                .put(
                    "bookworm/ipxe",
                    package(&format!("1:{version}"), content),
                    &downloaded,
                )
                .unwrap();
        }
        let found = Cache::open(directory.path())
            .unwrap()
            .find("bookworm/ipxe")
            .unwrap();
        assert_eq!(
            (found.version.as_str(), fs::read(&found.file).unwrap()),
            ("1:two", b"two".to_vec())
        );
        // The package, the index and the lock.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_two_builds_put_at_the_same_time_is_all_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut builds = [(); 2].map(|()| Cache::open(directory.path()).unwrap());
        for (cache, name) in builds.iter_mut().zip(["ipxe", "linux"]) {
            let downloaded = directory.path().join("download");
            fs::write(&downloaded, name).unwrap();
            let key = format!("bookworm/{name}");
            cache
                .put(&key, package(name, name.as_bytes()), &downloaded)
                .unwrap();
        }
        let cache = Cache::open(directory.path()).unwrap();
        assert!(cache.find("bookworm/ipxe").is_some() && cache.find("bookworm/linux").is_some());
    }

    #[test]
    fn what_was_kept_without_a_suite_is_of_debian_12() {
        let directory = tempfile::tempdir().unwrap();
        let downloaded = directory.path().join("download");
        fs::write(&downloaded, "one").unwrap();
        let mut cache = Cache::open(directory.path()).unwrap();
        let mut old = package("1", b"one");
        old.suite.clear();
        cache.put("ipxe", old, &downloaded).unwrap();
        let mut nowhere = package("1", b"two");
        nowhere.path.clear();
        fs::write(&downloaded, "two").unwrap();
        cache.put("bookworm/grub", nowhere, &downloaded).unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        assert_eq!(
            cache.find("bookworm/grub"),
            None,
            "it is not known where it is from"
        );
        assert_eq!(cache.find("bookworm/ipxe").unwrap().suite, "bookworm");
        assert_eq!((cache.find("ipxe"), cache.find("trixie/ipxe")), (None, None));
    }

    #[test]
    fn a_damaged_file_is_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let downloaded = directory.path().join("download");
        fs::write(&downloaded, "one").unwrap();
        let mut cache = Cache::open(directory.path()).unwrap();
        let put = cache
            .put("bookworm/ipxe", package("1", b"one"), &downloaded)
            .unwrap();
        fs::write(&put.file, "on").unwrap();
        assert_eq!(cache.find("bookworm/ipxe"), None);
    }

    #[test]
    fn a_download_with_other_content_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let downloaded = directory.path().join("download");
        fs::write(&downloaded, "other").unwrap();
        let error = Cache::open(directory.path())
            .unwrap()
            .put("bookworm/ipxe", package("1", b"one"), &downloaded)
            .unwrap_err();
        assert!(matches!(error, AptError::Checksum { .. }));
    }
}
