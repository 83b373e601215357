//! Registries outside, as the server's settings say how they are reached.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci::Reference;
use oci::registry::{LOGINS_LIMIT_BYTES, Login, Registries};
use reach::{Proxies, Reach, Roots, Trust};
use registry::Outside;
use serde::Deserialize;

use crate::failure::Failure;

/// A registry that the server fetches from: `quay.io`, or `lab:5000=http://10.0.0.5:5000`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Fetched {
    name: String,
    url: Option<String>,
}

impl FromStr for Fetched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) => (name, Some(url.to_owned())),
            None => (text, None),
        };
        let refused = || {
            format!(
                "{text:?} is no registry: write NAME as images have it, such as docker.io or lab:5000, or NAME=https://HOST"
            )
        };
        // What images of it are called by.
        let image: Reference = format!("{name}/image").parse().map_err(|_| refused())?;
        let is_bare = image.repository() == "image" || image.repository() == "library/image";
        if name.contains('/') || !is_bare {
            return Err(refused());
        }
        let fetched = Fetched {
            name: image.registry().to_owned(),
            url,
        };
        match fetched.told(&mut Registries::default()) {
            Ok(()) => Ok(fetched),
            Err(_) => Err(refused()),
        }
    }
}

impl TryFrom<String> for Fetched {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Fetched {
    /// As references have it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Where it is said to be, its own name does not lead there.
    fn told(&self, registries: &mut Registries) -> Result<(), String> {
        match &self.url {
            Some(url) => registries
                .be_at(&self.name, url)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// Who is asked, and how.
///
/// # Errors
/// [`Failure::Usage`] for files that are not what they should be; nothing of what is secret is told.
pub(super) fn outside(
    fetched: &[Fetched],
    authorities: Option<&PathBuf>,
    logins: Option<&PathBuf>,
) -> Result<Outside, Failure> {
    let mut trust = Trust::new(Roots::System);
    if let Some(path) = authorities {
        let pem = read(path)?;
        trust
            .add(&pem)
            .map_err(|why| Failure::Usage(format!("{} has no authorities: {why}", path.display())))?;
    }
    let proxies = Proxies::of(|name| std::env::var(name).ok()).map_err(Failure::Usage)?;
    let mut registries = Registries {
        reach: Reach { proxies, trust },
        ..Registries::default()
    };
    for one in fetched {
        one.told(&mut registries).map_err(Failure::Usage)?;
    }
    if let Some(path) = logins {
        for_its_owner(path)?;
        let all = Login::all(&read(path)?)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        for (name, login) in all {
            registries.log_in(&name, login);
        }
    }
    let names: BTreeSet<String> = fetched.iter().map(|one| one.name.clone()).collect();
    Ok(Outside::new(names, registries))
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let unread =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let size_bytes = fs::metadata(path).map_err(|error| unread(&error))?.len();
    if size_bytes > 4 * LOGINS_LIMIT_BYTES as u64 {
        return Err(unread(&format!("it has {size_bytes} B, which is too much")));
    }
    fs::read_to_string(path).map_err(|error| unread(&error))
}

/// Passwords that others on this host read are none.
fn for_its_owner(path: &Path) -> Result<(), Failure> {
    let mode = fs::metadata(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?
        .permissions()
        .mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(Failure::Usage(format!(
            "{} has passwords, and others than its owner may read it: `chmod 600 {}`",
            path.display(),
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_said_by_its_name_and_where_it_is() {
        for (text, name) in [
            ("docker.io", "docker.io"),
            ("quay.io", "quay.io"),
            ("index.docker.io", "docker.io"),
            ("lab:5000", "lab:5000"),
            ("lab:5000=http://10.0.0.5:5000", "lab:5000"),
            ("docker.io=https://mirror.example.com", "docker.io"),
        ] {
            assert_eq!(
                text.parse::<Fetched>().map(|one| one.name).as_deref(),
                Ok(name),
                "{text}"
            );
        }
        for text in [
            "",
            "tools",
            "docker.io/library",
            "lab:5000=10.0.0.5",
            "https://quay.io",
            "a b",
            "quay.io=http://u:p@a.b",
        ] {
            let refused = text.parse::<Fetched>().expect_err(text);
            assert!(refused.contains("NAME=https://HOST"), "{refused}");
        }
    }

    #[test]
    fn logins_that_others_may_read_are_refused_and_never_told() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"auths": {"quay.io": {"auth": "secret!"}}}"#).expect("written");
        let fetched = ["quay.io".parse().expect("a registry")];
        for (mode, word) in [(0o644, "chmod 600"), (0o600, "base64")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            let refused = outside(&fetched, None, Some(&path)).expect_err(word).to_string();
            assert!(refused.contains(word) && !refused.contains("secret"), "{refused}");
        }
        let login = r#"{"auths": {"quay.io": {"username": "ali", "password": "open sesame"}}}"#;
        fs::write(&path, login).expect("written");
        let shown = format!("{:?}", outside(&fetched, None, Some(&path)).expect("logins"));
        assert!(shown.contains("ali") && !shown.contains("sesame"), "{shown}");
        let refused = outside(&fetched, Some(&path), None)
            .expect_err("no PEM")
            .to_string();
        assert!(refused.contains("has no authorities"), "{refused}");
    }
}
