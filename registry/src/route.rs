//! What a request to a registry asks. Pure.
//!
//! Source: OCI distribution specification 1.1, "Endpoints" and "Listing Tags". `ns` names the registry that is meant, as containerd
//! sends it to mirrors.

use axum::http::Method;
use oci::Reference;
use store::blobs::Digest;

use crate::blob_of;
use crate::problem::{Code, Problem};

/// What is asked for. GET and HEAD ask for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whether this is a registry.
    Base,
    /// A manifest by its name, with a tag or a digest.
    Manifest(Reference),
    /// A content by its digest, and an image that may have it.
    Blob { of: Reference, digest: Digest },
    Tags {
        registry: String,
        repository: String,
        /// How many at most.
        count: Option<usize>,
        /// Those behind this one.
        last: Option<String>,
    },
}

/// A path and a query of any length come in: more than a name, a digest and the words around them is none.
const PATH_LIMIT_BYTES: usize = 2_048;

/// Reads a request's head.
///
/// # Errors
/// [`Problem`] as it is to be answered.
pub fn asked(method: &Method, path: &str, query: Option<&str>) -> Result<Asked, Problem> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Problem::new(
            Code::Unsupported,
            "this registry takes nothing by HTTP: bring images with `farrier registry import`",
        ));
    }
    let below = path.strip_prefix("/v2").unwrap_or_default();
    if matches!(below, "" | "/") {
        return Ok(Asked::Base);
    }
    if below.len() > PATH_LIMIT_BYTES {
        return Err(Problem::new(Code::NameInvalid, "the path is too long for a name"));
    }
    let segments: Vec<&str> = below.split('/').skip(1).collect();
    match segments.as_slice() {
        [name @ .., "manifests", wanted] if !name.is_empty() => manifest(name, &unescaped(wanted), query),
        [name @ .., "blobs", digest] if !name.is_empty() => {
            let digest = digest_of(&unescaped(digest))?;
            let of = image(name, &format!("@sha256:{digest}"), query)?;
            Ok(Asked::Blob { of, digest })
        }
        [name @ .., "tags", "list"] if !name.is_empty() => tags(name, query),
        [name @ .., "referrers", _] if !name.is_empty() => Err(Problem {
            status: axum::http::StatusCode::NOT_FOUND,
            ..Problem::new(
                Code::Unsupported,
                "this registry does not know what refers to an image",
            )
        }),
        _ => Err(Problem {
            status: axum::http::StatusCode::NOT_FOUND,
            ..Problem::new(Code::Unsupported, "a registry has no such path")
        }),
    }
}

fn manifest(name: &[&str], wanted: &str, query: Option<&str>) -> Result<Asked, Problem> {
    // Whether the name is one is said before whether the tag is.
    image(name, ":latest", query)?;
    let behind = match wanted.contains(':') {
        true => format!("@sha256:{}", digest_of(wanted)?),
        false => format!(":{wanted}"),
    };
    let unknown = |_| {
        let wanted: String = wanted.chars().take(128).collect();
        Problem::new(
            Code::ManifestUnknown,
            format!("{wanted:?} is neither a tag nor a digest"),
        )
    };
    image(name, &behind, query).map_err(unknown).map(Asked::Manifest)
}

fn tags(name: &[&str], query: Option<&str>) -> Result<Asked, Problem> {
    let of = image(name, ":latest", query)?;
    let count = value(query, "n").map(|n| {
        let refused = |_| Problem {
            status: axum::http::StatusCode::BAD_REQUEST,
            ..Problem::new(Code::Unsupported, "n is no number")
        };
        n.parse().map_err(refused)
    });
    Ok(Asked::Tags {
        registry: of.registry().to_owned(),
        repository: of.repository().to_owned(),
        count: count.transpose()?,
        last: value(query, "last"),
    })
}

/// The name that a path and `ns` give together: without `ns`, a path may begin with the registry's name, as references do.
fn image(name: &[&str], behind: &str, query: Option<&str>) -> Result<Reference, Problem> {
    let name = name.join("/");
    let text = match value(query, "ns") {
        Some(registry) => format!("{registry}/{name}{behind}"),
        None => format!("{name}{behind}"),
    };
    text.parse()
        .map_err(|error: oci::NotAReference| Problem::new(Code::NameInvalid, error.to_string()))
}

fn digest_of(text: &str) -> Result<Digest, Problem> {
    let digest: oci::Digest = text
        .parse()
        .map_err(|error: oci::NotADigest| Problem::new(Code::DigestInvalid, error.to_string()))?;
    blob_of(&digest)
        .ok_or_else(|| Problem::new(Code::DigestInvalid, "contents are kept by their SHA-256 here"))
}

fn value(query: Option<&str>, key: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let found = pairs.find_map(|(name, value)| (name == key).then(|| value.into_owned()));
    found.filter(|value| !value.is_empty())
}

/// Some clients escape the colon of a digest; nothing else in names has to be.
fn unescaped(segment: &str) -> String {
    segment.replace("%3A", ":").replace("%3a", ":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn get(path: &str) -> Result<Asked, Problem> {
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        asked(&Method::GET, path, query)
    }

    #[test]
    fn what_the_specification_names_is_understood() {
        assert_eq!(get("/v2/"), Ok(Asked::Base));
        assert_eq!(get("/v2"), Ok(Asked::Base));
        for (path, image) in [
            (
                "/v2/library/hello-world/manifests/latest?ns=docker.io",
                "docker.io/library/hello-world:latest",
            ),
            ("/v2/hello-world/manifests/v1", "docker.io/library/hello-world:v1"),
            ("/v2/tools/flash/manifests/v1", "docker.io/tools/flash:v1"),
            (
                "/v2/docker.io/library/hello-world/manifests/v1",
                "docker.io/library/hello-world:v1",
            ),
            (
                "/v2/tools/flash/manifests/v1?ns=lab%3A5000",
                "lab:5000/tools/flash:v1",
            ),
            (
                "/v2/manifests/manifests/manifests",
                "docker.io/library/manifests:manifests",
            ),
        ] {
            assert_eq!(
                get(path),
                Ok(Asked::Manifest(image.parse().expect(image))),
                "{path}"
            );
        }
        let of: Reference = format!("quay.io/a/b@{DIGEST}").parse().expect("a name");
        for digest in [DIGEST.to_owned(), DIGEST.replace(':', "%3A")] {
            let manifest = get(&format!("/v2/quay.io/a/b/manifests/{digest}"));
            assert_eq!(manifest, Ok(Asked::Manifest(of.clone())));
            let blob = Asked::Blob {
                of: of.clone(),
                digest: Digest::of(b"abc"),
            };
            assert_eq!(get(&format!("/v2/a/b/blobs/{digest}?ns=quay.io")), Ok(blob));
        }
        assert_eq!(
            get("/v2/a/b/tags/list?n=5&last=v1&ns=quay.io"),
            Ok(Asked::Tags {
                registry: "quay.io".to_owned(),
                repository: "a/b".to_owned(),
                count: Some(5),
                last: Some("v1".to_owned())
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_answered_with_the_codes_of_the_specification() {
        for (path, code, status) in [
            ("/v2/UPPER/manifests/v1", Code::NameInvalid, 400),
            ("/v2/a/../b/manifests/v1", Code::NameInvalid, 400),
            ("/v2/a//b/manifests/v1", Code::NameInvalid, 400),
            // As the conformance tests of the specification ask for what is not there.
            (
                "/v2/a/manifests/.INVALID_MANIFEST_NAME",
                Code::ManifestUnknown,
                404,
            ),
            ("/v2/a/manifests/sha256:123", Code::DigestInvalid, 400),
            ("/v2/a/blobs/latest", Code::DigestInvalid, 400),
            ("/v2/a/tags/list?n=x", Code::Unsupported, 400),
            ("/v2/a/tags/other", Code::Unsupported, 404),
            ("/v2/_catalog", Code::Unsupported, 404),
            ("/v2/manifests/latest", Code::Unsupported, 404),
        ] {
            let problem = get(path).expect_err(path);
            assert_eq!(
                (problem.code, problem.status.as_u16()),
                (code, status),
                "{path}: {problem:?}"
            );
        }
        for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            let problem = asked(&method, "/v2/a/blobs/uploads/", None).expect_err("it takes nothing");
            assert_eq!(problem.status.as_u16(), 405);
        }
    }

    proptest! {
        #[test]
        fn no_request_leads_out_of_the_names_that_there_can_be(path in "/v2/[a-z./:%@A-Z_-]{0,60}", query in "[a-z=&%./0-9]{0,30}") {
            if let Ok(Asked::Manifest(image)) = asked(&Method::GET, &path, Some(&query)) {
                let again: Reference = image.to_string().parse().expect("a complete name is a name");
                prop_assert_eq!(again, image);
            }
        }
    }
}
