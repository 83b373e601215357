//! How machines pull images by themselves, as the server's settings say it: by registry, each for all of its images.

use std::collections::BTreeMap;
use std::path::Path;

use reach::{Roots, Trust};
use server::RegistrySettings;

use super::outside::{Fetched, read};
use crate::failure::Failure;

/// Bytes of the authorities of one registry: what an agent is sent has room for them.
const MAX_AUTHORITIES_BYTES: usize = 1 << 20;

/// By the names of registries.
///
/// # Errors
/// [`Failure::Usage`] names what is given and what to write.
pub(super) fn pulls(
    mirrors: &[String],
    plain: &[String],
    authorities: &[String],
) -> Result<BTreeMap<String, RegistrySettings>, Failure> {
    let mut all: BTreeMap<String, RegistrySettings> = BTreeMap::new();
    for text in mirrors {
        let refused = || {
            Failure::Usage(format!(
                "--pull-mirror {text:?} is no mirror of a registry: write REGISTRY=http://HOST:PORT or REGISTRY=https://HOST"
            ))
        };
        let mirror: Fetched = text.parse().map_err(|_| refused())?;
        let url = mirror.url().ok_or_else(refused)?;
        let known = all.entry(mirror.name().to_owned()).or_default();
        known.mirrors.push(url.to_owned());
    }
    for text in plain {
        let registry = registry("--pull-plain", text)?;
        all.entry(registry).or_default().plain_http = true;
    }
    for text in authorities {
        let Some((name, path)) = text.split_once('=') else {
            return Err(Failure::Usage(format!(
                "--pull-ca {text:?} is not understood: write REGISTRY=FILE, such as lab:5000=/etc/farrier/lab.pem"
            )));
        };
        let registry = registry("--pull-ca", name)?;
        let pem = read(Path::new(path))?;
        let mut trust = Trust::new(Roots::BuiltIn);
        trust
            .add(&pem)
            .map_err(|why| Failure::Usage(format!("{path} has no authorities: {why}")))?;
        let known = &mut all.entry(registry).or_default().authorities_pem;
        known.push_str(&pem);
        known.push('\n');
        if known.len() > MAX_AUTHORITIES_BYTES {
            return Err(Failure::Usage(format!(
                "--pull-ca has {} B of authorities for {name}, {MAX_AUTHORITIES_BYTES} B at most: leave out those that the registry does not need",
                known.len()
            )));
        }
    }
    Ok(all)
}

/// A registry alone, as references have it.
fn registry(flag: &str, text: &str) -> Result<String, Failure> {
    match text.parse::<Fetched>() {
        Ok(named) if named.url().is_none() => Ok(named.name().to_owned()),
        _ => Err(Failure::Usage(format!(
            "{flag} {text:?} is no registry: write its name as images have it, such as docker.io or lab:5000"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn settings_of_a_registry_come_together_by_its_name() {
        let mirrors = owned(&[
            "docker.io=http://10.0.0.5:5000",
            "index.docker.io=https://m.example.com",
        ]);
        let all = pulls(&mirrors, &owned(&["lab:5000"]), &[]).expect("settings");
        assert_eq!(all.len(), 2);
        assert_eq!(
            all["docker.io"].mirrors,
            ["http://10.0.0.5:5000", "https://m.example.com"]
        );
        assert!(all["lab:5000"].plain_http && !all["docker.io"].plain_http);
    }

    #[test]
    fn what_is_none_is_refused_with_what_to_write() {
        let refused = |mirrors: &[&str], plain: &[&str], authorities: &[&str]| {
            let refused = pulls(&owned(mirrors), &owned(plain), &owned(authorities));
            refused.expect_err("refused").to_string()
        };
        for mirror in [
            "docker.io",
            "docker.io=10.0.0.5",
            "docker.io=http://u:p@h",
            "tools=http://h",
        ] {
            let said = refused(&[mirror], &[], &[]);
            assert!(said.contains("REGISTRY=http://HOST:PORT"), "{said}");
        }
        for plain in ["tools", "lab:5000=http://h", "http://lab"] {
            let said = refused(&[], &[plain], &[]);
            assert!(said.contains("such as docker.io or lab:5000"), "{said}");
        }
        assert!(refused(&[], &[], &["ca.pem"]).contains("REGISTRY=FILE"));
        assert!(refused(&[], &[], &["quay.io=/nowhere/ca.pem"]).contains("/nowhere/ca.pem"));
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "none").expect("written");
        let said = refused(&[], &[], &[&format!("quay.io={}", path.display())]);
        assert!(said.contains("has no authorities"), "{said}");
    }
}
