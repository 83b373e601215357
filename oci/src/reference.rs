//! Names of images, as Docker reads them.
//!
//! `hello-world` is `docker.io/library/hello-world:latest`. Source: the grammar in distribution/reference, `reference.go`
//! and `normalize.go`, which Docker, containerd and Kubernetes share; OCI distribution specification 1.1, "Pulling manifests".

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::Digest;

/// The name of an image, complete: nothing is left to be filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} names no image: {why}")]
pub struct NotAReference {
    given: String,
    why: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("what stands behind @ is no digest: write sha256: and 64 lower-case hexadecimal digits")]
    Digest,
    #[error("it is empty; write NAME, NAME:TAG or NAME@sha256:DIGITS")]
    Empty,
    #[error("64 hexadecimal digits are an id of Docker's, which no registry knows; write NAME@sha256:DIGITS")]
    Id,
    #[error("the repository has more than {REPOSITORY_LIMIT_BYTES} letters")]
    Long,
    #[error("the repository {0:?} may have small letters, digits, and . _ __ - between them")]
    Repository(String),
    #[error("{0:?} is no host of a registry; write HOST, HOST:PORT or [IPV6]:PORT")]
    Registry(String),
    #[error(
        "the tag {0:?} may have letters, digits, _ . and -, begins with none of the last two, and has at most {TAG_LIMIT_BYTES}"
    )]
    Tag(String),
}

/// What a name without a registry means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// What a name without a tag and without a digest means.
const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library";
const TAG_LIMIT_BYTES: usize = 128;
const REPOSITORY_LIMIT_BYTES: usize = 255;
/// No reference that is one is longer: a host name, a port, repository, tag and the longest digest.
const LIMIT_BYTES: usize = 1024;

impl Reference {
    /// The registry, in small letters: `docker.io`, `localhost:5000`, `[fd00::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in it: `library/hello-world`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that was given: whatever the tag says, this is what is meant.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest where there is one, as Docker does, else the tag.
    pub fn asked_for(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Reference, NotAReference> {
        parse(text).map_err(|why| NotAReference {
            given: text.chars().take(200).collect(),
            why,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    if text.len() > LIMIT_BYTES {
        return Err(Fault::Long);
    }
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::Id);
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|_| Fault::Digest)?)),
        None => (text, None),
    };
    let (registry, rest) = registry_of(name);
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let registry = normal_registry(registry)?;
    let repository = match registry.as_str() {
        DEFAULT_REGISTRY if !repository.contains('/') => format!("{OFFICIAL}/{repository}"),
        _ => repository.to_owned(),
    };
    if repository.len() > REPOSITORY_LIMIT_BYTES {
        return Err(Fault::Long);
    }
    if !repository.split('/').all(is_path_component) {
        return Err(Fault::Repository(repository));
    }
    if let Some(bad) = tag.filter(|tag| !is_tag(tag)) {
        return Err(Fault::Tag(bad.to_owned()));
    }
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    Ok(Reference {
        registry,
        repository,
        tag: tag.map(str::to_owned),
        digest,
    })
}

/// What is before the first slash is a registry if it cannot be a part of a repository's name of Docker Hub.
fn registry_of(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn normal_registry(registry: &str) -> Result<String, Fault> {
    let refused = || Fault::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or_else(refused)?;
            let address: Ipv6Addr = address.parse().map_err(|_| refused())?;
            let port = match behind {
                "" => None,
                _ => Some(behind.strip_prefix(':').ok_or_else(refused)?),
            };
            (format!("[{address}]"), port)
        }
        None => {
            let (host, port) = match registry.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (registry, None),
            };
            if !host.split('.').all(is_host_label) {
                return Err(refused());
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    let port = port
        .map(|digits| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits
                .parse::<u16>()
                .ok()
                .filter(|number| is_number && *number > 0);
            number.ok_or_else(refused)
        })
        .transpose()?;
    // What Docker Hub was called once.
    let host = match host.as_str() {
        "index.docker.io" if port.is_none() => DEFAULT_REGISTRY.to_owned(),
        _ => host,
    };
    Ok(match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

fn is_host_label(label: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    match label.as_bytes() {
        [] => false,
        [first, .., last] if !(first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric()) => false,
        [b'-'] => false,
        bytes => bytes.len() <= 63 && bytes.iter().all(is_inner),
    }
}

/// `alpha-numeric [separator alpha-numeric]*`, where a separator is `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let mut rest = component.as_bytes();
    loop {
        let word = rest
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            .count();
        let (word, behind) = rest.split_at(word);
        if word.is_empty() {
            return false;
        }
        rest = match behind {
            [] => return true,
            [b'.', after @ ..] => after,
            [b'_', b'_', after @ ..] | [b'_', after @ ..] => after,
            [b'-', ..] => {
                let dashes = behind.iter().take_while(|byte| **byte == b'-').count();
                behind.split_at(dashes).1
            }
            _ => return false,
        };
    }
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT_BYTES
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGITS: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        for (given, complete) in [
            ("hello-world", "docker.io/library/hello-world:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("tinkerbell/waitdaemon", "docker.io/tinkerbell/waitdaemon:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("quay.io/a/b/c:v1.0", "quay.io/a/b/c:v1.0"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("[FD00:0::1]/a", "[fd00::1]/a:latest"),
            ("Registry/a", "registry/a:latest"),
            ("REGISTRY.Example.com/a", "registry.example.com/a:latest"),
            // Without a dot, a colon or a capital it is a part of the repository.
            ("registry/a", "docker.io/registry/a:latest"),
            ("a__b/c-d---e.f_g", "docker.io/a__b/c-d---e.f_g:latest"),
            ("a:_x.Y-1", "docker.io/library/a:_x.Y-1"),
            // A name with a colon and no slash is one with a tag.
            ("localhost:5000", "docker.io/library/localhost:5000"),
        ] {
            let read: Reference = given.parse().expect(given);
            assert_eq!(read.to_string(), complete, "{given}");
        }
    }

    #[test]
    fn a_digest_is_what_is_asked_for_and_the_tag_beside_it_stays() {
        let given = format!("ghcr.io/a/b:v1@sha256:{DIGITS}");
        let read: Reference = given.parse().expect("it is one");
        assert_eq!(read.to_string(), given);
        assert_eq!((read.registry(), read.repository()), ("ghcr.io", "a/b"));
        assert_eq!(read.tag(), Some("v1"));
        assert_eq!(read.asked_for(), format!("sha256:{DIGITS}"));
        let alone: Reference = format!("a@sha256:{DIGITS}").parse().expect("it is one");
        assert_eq!(alone.tag(), None);
        assert_eq!(alone.asked_for(), format!("sha256:{DIGITS}"));
        let tagged: Reference = "a:b".parse().expect("it is one");
        assert_eq!(tagged.asked_for(), "b");
    }

    #[test]
    fn what_names_no_image_is_refused_in_words() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long_name = format!("quay.io/{}", "x".repeat(256));
        let very_long = "x".repeat(1025);
        let id = DIGITS.to_owned();
        for (given, word) in [
            ("", "empty"),
            ("UPPER", "small letters"),
            ("a/UPPER", "small letters"),
            ("a//b", "small letters"),
            ("a/", "small letters"),
            ("/a", "small letters"),
            ("../a", "host"),
            ("a/..", "small letters"),
            ("a b", "small letters"),
            ("a._b", "small letters"),
            ("a___b", "small letters"),
            ("-a", "small letters"),
            ("a-", "small letters"),
            ("ä", "small letters"),
            ("a:", "tag"),
            ("a:.x", "tag"),
            ("a:b:c", "tag"),
            ("a:b/c", "host"),
            ("a:b@c", "digest"),
            ("a@", "digest"),
            ("a@sha256:12", "digest"),
            ("@sha256:12", "digest"),
            ("host:0/a", "host"),
            ("host:65536/a", "host"),
            ("host:+1/a", "host"),
            ("host:/a", "host"),
            ("-host.com/a", "host"),
            ("a..b/c", "host"),
            ("[::1/a", "host"),
            ("[::1]5000/a", "host"),
            ("[x]/a", "host"),
            ("http://host/a", "host"),
            ("user:pass@host/a", "digest"),
            (&long_tag, "tag"),
            (&long_name, "255"),
            (&very_long, "255"),
            (&id, "id of Docker's"),
        ] {
            let refused = given.parse::<Reference>().expect_err(given).to_string();
            assert!(refused.contains(word), "{given}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_taken_apart(
            registry in "([a-z0-9]{1,8}(-[a-z0-9]{1,3})?\\.){1,3}[a-z]{2,5}(:[1-9][0-9]{0,3})?",
            repository in "[a-z0-9]{1,9}(([._]|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,9}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
            digest in proptest::option::of("sha256:[0-9a-f]{64}"),
        ) {
            prop_assume!(registry != "docker.io" && registry != "index.docker.io");
            let mut text = format!("{registry}/{repository}");
            if let Some(tag) = &tag { text += &format!(":{tag}"); }
            if let Some(digest) = &digest { text += &format!("@{digest}"); }
            let read: Reference = text.parse().expect(&text);
            prop_assert_eq!(read.registry(), registry);
            prop_assert_eq!(read.repository(), repository);
            let default = digest.is_none().then_some("latest");
            prop_assert_eq!(read.tag(), tag.as_deref().or(default));
            prop_assert_eq!(read.digest().map(Digest::to_string), digest);
        }

        #[test]
        fn what_is_complete_means_itself(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,60}") {
            if let Ok(read) = text.parse::<Reference>() {
                let again: Reference = read.to_string().parse().expect("a complete name is a name");
                prop_assert_eq!(again, read);
            }
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,300}") {
            let _ = text.parse::<Reference>();
        }
    }
}
