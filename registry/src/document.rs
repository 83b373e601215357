//! Manifests and indexes as a registry sees them: what each names, so that it is kept and asked for together.
//!
//! Whether an image can be run is not judged here: an index may also name signatures and attestations. Source: OCI image specification
//! 1.1, manifest.md and image-index.md; Docker's image manifest version 2, schema 2.

use serde::Deserialize;
use store::blobs::Digest;

use crate::blob_of;

pub use oci::manifest::MANIFEST_LIMIT_BYTES;

/// What a manifest or an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its own, as it is served.
    pub media_type: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Manifests, one for each platform.
    Index(Vec<Part>),
    /// Contents: the configuration, then the layers.
    Manifest(Vec<Part>),
}

/// A content that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub digest: Digest,
    pub size_bytes: u64,
    /// `linux/arm/v7`, of a manifest in an index that says it.
    pub platform: Option<String>,
}

/// Why bytes are no manifest that a registry could keep; in words that go on from "the manifest is refused: ".
#[derive(Debug, thiserror::Error)]
pub enum BadDocument {
    /// Two readers would see two images (CVE-2021-41190).
    #[error("it says that it is an index and a manifest at once")]
    Ambiguous,
    #[error("{0} is no SHA-256, by which contents are kept here")]
    Digest(String),
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is neither an index nor a manifest")]
    Neither,
    #[error(
        "it is of Docker's schema 1, which registries gave up: push the image again with a Docker of today"
    )]
    Schema1,
    #[error("it has {bytes} B; {MANIFEST_LIMIT_BYTES} B are read at most")]
    TooLong { bytes: usize },
    #[error("it names {0} contents; {PARTS_LIMIT} are the most")]
    TooMany(usize),
    #[error("its media type {0:?} is none of an image")]
    MediaType(String),
}

/// Of one document: an index of all of Docker Hub's platforms with their attestations has some forty.
pub const PARTS_LIMIT: usize = 1_000;
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: oci::Digest,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// [`BadDocument`].
    pub fn read(json: &[u8]) -> Result<Document, BadDocument> {
        if json.len() > MANIFEST_LIMIT_BYTES {
            return Err(BadDocument::TooLong { bytes: json.len() });
        }
        let file: File = serde_json::from_slice(json)?;
        if file.schema_version == Some(1) || file.fs_layers.is_some() {
            return Err(BadDocument::Schema1);
        }
        let (kind, known) = match (file.manifests, file.config, file.layers) {
            (Some(manifests), None, None) => (Kind::Index(parts(manifests)?), [OCI_INDEX, DOCKER_LIST]),
            (None, Some(config), layers) => {
                let all = std::iter::once(config).chain(layers.unwrap_or_default());
                (
                    Kind::Manifest(parts(all.collect())?),
                    [OCI_MANIFEST, DOCKER_MANIFEST],
                )
            }
            (Some(_), ..) => return Err(BadDocument::Ambiguous),
            (None, None, _) => return Err(BadDocument::Neither),
        };
        let media_type = file.media_type.filter(|said| !said.is_empty());
        let media_type = media_type.unwrap_or_else(|| known[0].to_owned());
        if !known.contains(&media_type.as_str()) {
            return Err(BadDocument::MediaType(media_type.chars().take(200).collect()));
        }
        Ok(Document { media_type, kind })
    }

    /// All that it names.
    pub fn parts(&self) -> &[Part] {
        match &self.kind {
            Kind::Index(parts) | Kind::Manifest(parts) => parts,
        }
    }
}

fn parts(descriptors: Vec<Descriptor>) -> Result<Vec<Part>, BadDocument> {
    if descriptors.len() > PARTS_LIMIT {
        return Err(BadDocument::TooMany(descriptors.len()));
    }
    descriptors
        .into_iter()
        .map(|descriptor| {
            let Descriptor {
                digest,
                size,
                platform,
            } = descriptor;
            let name = blob_of(&digest).ok_or_else(|| BadDocument::Digest(digest.to_string()))?;
            Ok(Part {
                digest: name,
                size_bytes: size,
                platform: platform.and_then(Platform::in_words),
            })
        })
        .collect()
}

impl Platform {
    /// None for what is for no platform, as attestations are (`unknown/unknown`).
    fn in_words(self) -> Option<String> {
        let said = [self.os, self.architecture, self.variant];
        if said[0] == "unknown" || said[0].is_empty() {
            return None;
        }
        let short = said.iter().filter(|word| !word.is_empty());
        let short: Vec<String> = short.map(|word| word.chars().take(20).collect()).collect();
        Some(short.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(of: &str) -> serde_json::Value {
        json!({"mediaType": "a", "digest": oci::Digest::of(of.as_bytes()), "size": of.len()})
    }

    fn read(json: &serde_json::Value) -> Result<Document, BadDocument> {
        Document::read(json.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_names_its_configuration_and_its_layers() {
        let document =
            read(&json!({"schemaVersion": 2, "config": named("c"), "layers": [named("l1"), named("l2")]}));
        let document = document.expect("it is one");
        assert_eq!(document.media_type, OCI_MANIFEST);
        let sizes: Vec<u64> = document.parts().iter().map(|part| part.size_bytes).collect();
        assert_eq!(sizes, [1, 2, 2]);
        assert_eq!(document.parts()[1].digest, Digest::of(b"l1"));
        let docker =
            json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": named("c"), "layers": []});
        assert_eq!(read(&docker).expect("it is one").media_type, DOCKER_MANIFEST);
    }

    #[test]
    fn an_index_names_manifests_and_says_which_platforms_they_are_for() {
        let mut arm = named("a");
        arm["platform"] = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
        let mut none = named("n");
        none["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        let document =
            read(&json!({"schemaVersion": 2, "manifests": [arm, none, named("x")]})).expect("it is one");
        assert_eq!(document.media_type, OCI_INDEX);
        let platforms: Vec<Option<&str>> = document
            .parts()
            .iter()
            .map(|part| part.platform.as_deref())
            .collect();
        assert_eq!(platforms, [Some("linux/arm/v7"), None, None]);
    }

    #[test]
    fn what_is_no_document_is_refused_in_words() {
        let config = named("c");
        let sha512 = format!("sha512:{}", "0".repeat(128));
        let many = vec![config.clone(); PARTS_LIMIT + 1];
        for (json, word) in [
            (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
            (json!({"manifests": [], "config": config}), "at once"),
            (json!({"manifests": [], "layers": []}), "at once"),
            (json!({"layers": []}), "neither"),
            (json!({}), "neither"),
            (json!([]), "no JSON"),
            (json!({"config": {"digest": "x", "size": 1}}), "no JSON"),
            (
                json!({"config": {"digest": config["digest"], "size": -1}}),
                "no JSON",
            ),
            (json!({"config": {"digest": sha512, "size": 1}}), "no SHA-256"),
            (json!({"manifests": many}), "names 1001"),
            (
                json!({"mediaType": OCI_INDEX, "config": config, "layers": []}),
                "media type",
            ),
        ] {
            let refused = read(&json).expect_err(word).to_string();
            assert!(refused.contains(word), "{refused}");
        }
        let long = vec![b' '; MANIFEST_LIMIT_BYTES + 1];
        assert!(matches!(Document::read(&long), Err(BadDocument::TooLong { .. })));
    }
}
