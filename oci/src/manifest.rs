//! Manifests and indexes: what an image consists of, and which one is for this machine.
//!
//! Source: OCI image specification 1.1, manifest.md and image-index.md; Docker's image manifest version 2, schema 2.

use serde::Deserialize;

use crate::digest::Digest;
use crate::image::Platform;

/// What a registry has by a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// One image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub config: Descriptor,
    /// The lowest first. There is at least one.
    pub layers: Vec<Descriptor>,
}

/// The same image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
}

/// What content is named by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(rename = "size")]
    pub size_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<EntryPlatform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct EntryPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// Why what a registry has is no image that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    /// Both kinds at once: two readers would see two images (CVE-2021-41190).
    #[error("it says that it is an index and a manifest at once")]
    Ambiguous,
    #[error("it is neither an index nor a manifest")]
    Neither,
    /// Of what is to be one file.
    #[error("it has {} files ({}): push the one that is meant by itself", .0.len(), .0.join(", "))]
    ManyFiles(Vec<String>),
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has no layers: there is nothing to run in it")]
    NoLayers,
    #[error("it is no container image: its {what} is of the type {media_type:?}")]
    NoImage { what: &'static str, media_type: String },
    #[error(
        "it is of Docker's schema 1, which registries gave up: push the image again with a Docker of today"
    )]
    Schema1,
    #[error("it has {bytes} B; {MANIFEST_LIMIT_BYTES} B are read at most")]
    TooLong { bytes: usize },
    #[error("it has {0} layers; {LAYERS_LIMIT} are the most that an image may have")]
    TooManyLayers(usize),
}

/// What registries have to take: OCI distribution specification 1.1, "Pushing Manifests".
pub const MANIFEST_LIMIT_BYTES: usize = 4 << 20;
/// Docker builds no image with more.
pub const LAYERS_LIMIT: usize = 127;

/// What is asked for.
pub(crate) const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
const LAYER_TYPES: [&str; 3] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// In layers' types: nobody here has the key.
const ENCRYPTED: &str = "+encrypted";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    schema_version: Option<u64>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Entry>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads what a registry has sent.
    ///
    /// # Errors
    /// What is no image, in words that go on from "what is there is no image: ".
    pub fn read(json: &[u8]) -> Result<Document, BadManifest> {
        if json.len() > MANIFEST_LIMIT_BYTES {
            return Err(BadManifest::TooLong { bytes: json.len() });
        }
        let file: File = serde_json::from_slice(json)?;
        match file {
            File {
                schema_version: Some(1),
                ..
            }
            | File {
                fs_layers: Some(_), ..
            } => Err(BadManifest::Schema1),
            File {
                manifests: Some(_),
                layers,
                config,
                ..
            } if layers.is_some() || config.is_some() => Err(BadManifest::Ambiguous),
            File {
                manifests: Some(entries),
                ..
            } => Ok(Document::Index(Index { entries })),
            File {
                config: Some(config),
                layers: Some(layers),
                ..
            } => Manifest { config, layers }.judged().map(Document::Manifest),
            _ => Err(BadManifest::Neither),
        }
    }
}

impl Manifest {
    fn judged(self) -> Result<Manifest, BadManifest> {
        let refused = |what, media_type: &str| BadManifest::NoImage {
            what,
            media_type: media_type.chars().take(200).collect(),
        };
        let config = self.config.media_type.as_str();
        if !config.is_empty() && !CONFIG_TYPES.contains(&config) {
            return Err(refused("configuration", config));
        }
        if self.layers.len() > LAYERS_LIMIT {
            return Err(BadManifest::TooManyLayers(self.layers.len()));
        }
        if self.layers.is_empty() {
            return Err(BadManifest::NoLayers);
        }
        let is_layer = |media_type: &str| {
            media_type.is_empty()
                || (LAYER_TYPES.iter().any(|known| media_type.starts_with(known))
                    && !media_type.ends_with(ENCRYPTED))
        };
        match self.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(other) => Err(refused("layer", &other.media_type)),
            None => Ok(self),
        }
    }
}

impl Index {
    /// The entry for a platform; where several suit, the one that uses most of it.
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let variants = variants(wanted);
        variants.iter().find_map(|variant| {
            let entry = self.entries.iter().find(|entry| {
                entry.platform.as_ref().is_some_and(|platform| {
                    platform.os == wanted.os
                        && platform.architecture == wanted.architecture
                        && platform.variant == *variant
                })
            });
            entry.map(|entry| &entry.descriptor)
        })
    }

    /// The entry, where there is one only and it says nothing of a platform.
    pub(crate) fn only(&self) -> Option<&Descriptor> {
        match self.entries.as_slice() {
            [only] if only.platform.is_none() => Some(&only.descriptor),
            _ => None,
        }
    }

    /// The platforms that there are, in words; signatures and the like, which are for none, are not told.
    pub fn platforms(&self) -> Vec<String> {
        let known = self.entries.iter().filter_map(|entry| entry.platform.as_ref());
        let known = known.filter(|platform| platform.os != "unknown");
        known
            .take(32)
            .map(|platform| {
                let short = |text: &str| text.chars().take(20).collect::<String>();
                Platform {
                    os: short(&platform.os),
                    architecture: short(&platform.architecture),
                    variant: short(&platform.variant),
                }
                .to_string()
            })
            .collect()
    }
}

/// Which variants of an architecture run on one, the best first.
///
/// Source: containerd's `platforms` package, `defaults` and `compare.go`.
fn variants(wanted: &Platform) -> Vec<&str> {
    match (wanted.architecture.as_str(), wanted.variant.as_str()) {
        ("amd64", "" | "v1") => vec!["", "v1"],
        ("arm64", "" | "v8") => vec!["v8", ""],
        ("arm", "v8") => vec!["v8", "v7", "v6", "v5", ""],
        ("arm", "" | "v7") => vec!["v7", "v6", "v5", ""],
        ("arm", "v6") => vec!["v6", "v5", ""],
        (_, "") => vec![""],
        (_, variant) => vec![variant, ""],
    }
}

/// Whether an image that is for one platform only runs on another; one that says nothing does.
pub(crate) fn suits(image: &Platform, wanted: &Platform) -> bool {
    let same = |image: &str, wanted: &str| image.is_empty() || image == wanted;
    same(&image.os, &wanted.os)
        && same(&image.architecture, &wanted.architecture)
        && variants(wanted).contains(&image.variant.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: &str) -> Digest {
        Digest::of(of.as_bytes())
    }

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Platform {
            os: part(),
            architecture: part(),
            variant: part(),
        }
    }

    fn index(platforms: &[&str]) -> Index {
        let entries: Vec<_> = platforms
            .iter()
            .map(|text| {
                let Platform { os, architecture, variant } = platform(text);
                let digest = digest(text);
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                    "platform": {"os": os, "architecture": architecture, "variant": variant, "os.features": []},
                    "annotations": {"a": "b"},
                })
            })
            .collect();
        let json = serde_json::json!({"schemaVersion": 2, "manifests": entries}).to_string();
        match Document::read(json.as_bytes()).expect("it is one") {
            Document::Index(index) => index,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_manifest_is_read_in_both_forms() {
        for (config, layer) in [
            (CONFIG_TYPES[0], "application/vnd.oci.image.layer.v1.tar+zstd"),
            (
                CONFIG_TYPES[1],
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            ("", ""),
        ] {
            let json = serde_json::json!({
                "schemaVersion": 2,
                "config": {"mediaType": config, "digest": digest("c"), "size": 10},
                "layers": [{"mediaType": layer, "digest": digest("l"), "size": 20}],
            });
            let read = Document::read(json.to_string().as_bytes()).expect("it is one");
            let Document::Manifest(manifest) = read else {
                panic!("{read:?}")
            };
            assert_eq!(manifest.config.digest, digest("c"));
            assert_eq!((manifest.layers.len(), manifest.layers[0].size_bytes), (1, 20));
        }
    }

    #[test]
    fn the_machines_platform_is_chosen() {
        let all = index(&[
            "unknown/unknown",
            "windows/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
            "linux/s390x",
        ]);
        for (wanted, found) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm64/v8", Some("linux/arm64/v8")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/riscv64", None),
            ("freebsd/amd64", None),
        ] {
            let chosen = all.choose(&platform(wanted)).map(|chosen| chosen.digest.clone());
            assert_eq!(chosen, found.map(digest), "{wanted}");
        }
        assert_eq!(all.platforms().len(), 6);
        assert!(all.platforms().contains(&"linux/arm/v5".to_owned()));
        // What was built for a newer processor is not run on any.
        assert!(
            index(&["linux/amd64/v3"])
                .choose(&platform("linux/amd64"))
                .is_none()
        );
    }

    #[test]
    fn an_image_for_one_platform_suits_it_and_one_that_says_none_suits_all() {
        let here = platform("linux/amd64");
        for (image, suitable) in [
            ("linux/amd64", true),
            ("", true),
            ("linux/arm64", false),
            ("windows/amd64", false),
            ("linux/amd64/v3", false),
        ] {
            assert_eq!(suits(&platform(image), &here), suitable, "{image}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused_in_words() {
        let descriptor =
            |media_type: &str| serde_json::json!({"mediaType": media_type, "digest": digest("x"), "size": 1});
        let config = descriptor(CONFIG_TYPES[0]);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar");
        for (json, word) in [
            (
                serde_json::json!({"schemaVersion": 1, "fsLayers": []}),
                "schema 1",
            ),
            (
                serde_json::json!({"schemaVersion": 2, "fsLayers": []}),
                "schema 1",
            ),
            (serde_json::json!({}), "neither"),
            (serde_json::json!([]), "no JSON"),
            (serde_json::json!({"manifests": [], "layers": []}), "at once"),
            (serde_json::json!({"manifests": [], "config": config}), "at once"),
            (serde_json::json!({"config": config, "layers": []}), "no layers"),
            (
                serde_json::json!({"config": config, "layers": vec![layer.clone(); 128]}),
                "128 layers; 127 are",
            ),
            (
                serde_json::json!({"config": descriptor("application/vnd.cncf.helm.config.v1+json"), "layers": [layer]}),
                "helm",
            ),
            (
                serde_json::json!({"config": config, "layers": [descriptor("application/vnd.in-toto+json")]}),
                "in-toto",
            ),
            (
                serde_json::json!({"config": config, "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+encrypted")]}),
                "encrypted",
            ),
            (
                serde_json::json!({"config": {"digest": "x", "size": 1}, "layers": []}),
                "no JSON",
            ),
            (
                serde_json::json!({"config": {"digest": digest("x"), "size": -1}, "layers": []}),
                "no JSON",
            ),
        ] {
            let refused = Document::read(json.to_string().as_bytes())
                .expect_err(word)
                .to_string();
            assert!(refused.contains(word), "{refused}");
        }
        let long = vec![b' '; MANIFEST_LIMIT_BYTES + 1];
        assert!(matches!(Document::read(&long), Err(BadManifest::TooLong { .. })));
    }
}
