//! Names of container images, checked as `github.com/distribution/reference`'s `ParseNormalizedNamed` does: what
//! container runtimes accept, `alpine` and `docker.io/library/alpine:latest@sha256:…` alike.
//!
//! Grammar: the package comment of that module's `reference.go`.

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("it is empty; write one like quay.io/tinkerbell/actions/image2disk:latest")]
    Empty,
    #[error("it has a {0:?}, which no part of it may have")]
    Character(char),
    #[error("the repository {0:?} has upper case; write {1:?}")]
    UpperCase(String, String),
    #[error("64 hexadecimal digits are an image id, not a name")]
    Identifier,
    #[error("the registry {0:?} is no host name with an optional port")]
    Domain(String),
    #[error(
        "the path part {0:?} is not lower case letters and digits, separated by single '.', '_', '__' or '-'s"
    )]
    Component(String),
    #[error("the name is longer than 255 characters")]
    TooLong,
    #[error("the tag {0:?} is not up to 128 letters, digits, '_', '.' and '-', the first no '.' or '-'")]
    Tag(String),
    #[error("the digest {0:?} is not like sha256:<64 hexadecimal digits>")]
    Digest(String),
}

/// Checks that `reference` is one that a container runtime takes.
pub fn check(reference: &str) -> Result<(), ReferenceError> {
    if reference.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let may_be = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]+".contains(c);
    if let Some(other) = reference.chars().find(|&c| !may_be(c)) {
        return Err(ReferenceError::Character(other));
    }
    if reference.len() == 64
        && reference
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(ReferenceError::Identifier);
    }
    let (domain, rest) = split_domain(reference);
    let (named, digest) = match rest.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    check_path(path)?;
    if let Some(domain) = domain.filter(|domain| !is_domain(domain)) {
        return Err(ReferenceError::Domain(domain.into()));
    }
    if path.len() > MAX_NAME_LEN {
        return Err(ReferenceError::TooLong);
    }
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Tag(tag.into()));
    }
    match digest.filter(|digest| !is_digest(digest)) {
        Some(digest) => Err(ReferenceError::Digest(digest.into())),
        None => Ok(()),
    }
}

/// Of the path; newer versions of the module do not count the registry.
const MAX_NAME_LEN: usize = 255;

/// The first part is a registry when it could be nothing else: it has a dot, a colon or upper case, or is localhost.
pub(super) fn split_domain(reference: &str) -> (Option<&str>, &str) {
    match reference.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, reference),
    }
}

pub(super) fn check_path(path: &str) -> Result<(), ReferenceError> {
    let lower = path.to_ascii_lowercase();
    if lower != path {
        return Err(ReferenceError::UpperCase(path.into(), lower));
    }
    match path.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(ReferenceError::Component(component.into())),
        None => Ok(()),
    }
}

/// path-component := [a-z0-9]+ (separator [a-z0-9]+)*; separator := '.' | '_' | '__' | '-'+
fn is_component(component: &str) -> bool {
    let mut rest = component;
    loop {
        let letters = rest.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if letters.len() == rest.len() {
            return false;
        }
        let next = letters.trim_start_matches(['.', '_', '-']);
        let separator = &letters[..letters.len() - next.len()];
        match separator {
            "" => return next.is_empty(),
            "." | "_" | "__" => {}
            dashes if dashes.bytes().all(|byte| byte == b'-') => {}
            _ => return false,
        }
        rest = next;
    }
}

/// domain := host [':' port]; host := domain-name | IPv4 | '[' IPv6 ']'
pub(super) fn is_domain(domain: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
        return port
            && !address.is_empty()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    }
    let (host, port) = match domain.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// `tag := [\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The algorithms that `github.com/opencontainers/go-digest` registers, with the digits that each has.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == digits && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_runtimes_take() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for good in [
            "alpine",
            "alpine:3.20",
            "a/b:tag",
            "tinkerbell/actions/image2disk",
            "quay.io/tinkerbell/actions/image2disk:latest",
            "localhost/x",
            "localhost:5000/x:y",
            "10.0.0.1:5000/img:v1.0.0",
            "[2001:db8::1]:5000/img",
            "REGISTRY.example.com/img",
            "Host/img",
            "a__b/c-d--e.f",
            "img:_tag",
            "host:80/x:TAG.with-All",
            &format!("img@{digest}"),
            &format!("quay.io/x/img:tag@{digest}"),
            &format!("img:{}", "t".repeat(128)),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let component = |part: &str| {
            format!(
                "the path part {part:?} is not lower case letters and digits, separated by single '.', '_', '__' or '-'s"
            )
        };
        let tag = |tag: &str| {
            format!(
                "the tag {tag:?} is not up to 128 letters, digits, '_', '.' and '-', the first no '.' or '-'"
            )
        };
        let digest =
            |digest: &str| format!("the digest {digest:?} is not like sha256:<64 hexadecimal digits>");
        let domain = |domain: &str| format!("the registry {domain:?} is no host name with an optional port");
        for (bad, message) in [
            (
                "",
                "it is empty; write one like quay.io/tinkerbell/actions/image2disk:latest".to_owned(),
            ),
            ("my image", "it has a ' ', which no part of it may have".into()),
            (
                "https://quay.io/x?y",
                "it has a '?', which no part of it may have".into(),
            ),
            (
                "Alpine",
                "the repository \"Alpine\" has upper case; write \"alpine\"".into(),
            ),
            (
                "quay.io/Tink/x:l",
                "the repository \"Tink/x\" has upper case; write \"tink/x\"".into(),
            ),
            (
                &"a".repeat(64),
                "64 hexadecimal digits are an image id, not a name".into(),
            ),
            (
                &format!("quay.io/{}", "a".repeat(256)),
                "the name is longer than 255 characters".into(),
            ),
            ("https://quay.io/x", component("")),
            ("a//b", component("")),
            ("a/b/", component("")),
            ("a___b", component("a___b")),
            ("a..b", component("a..b")),
            ("-a", component("-a")),
            ("a-", component("a-")),
            ("a:", tag("")),
            ("a:-x", tag("-x")),
            ("a:b:c", tag("b:c")),
            ("a@sha256:abc", digest("sha256:abc")),
            ("a@", digest("")),
            ("a@md5:00", digest("md5:00")),
            ("-x.io/a", domain("-x.io")),
            ("x.io:/a", domain("x.io:")),
            ("x..io/a", domain("x..io")),
            ("[::1/a", domain("[::1")),
        ] {
            assert_eq!(
                check(bad).map_err(|error| error.to_string()),
                Err(message),
                "{bad}"
            );
        }
    }
}
