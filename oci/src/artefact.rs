//! One file that a registry has as an artefact, as `oras push` puts it there: a disk image, say.
//!
//! Source: OCI image specification 1.1, manifest.md, "Guidelines for Artifact Usage"; the title's annotation is ORAS'.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::image::Platform;
use crate::manifest::{BadManifest, Descriptor, Document, LAYERS_LIMIT, MANIFEST_LIMIT_BYTES};
use crate::reference::Reference;
use crate::registry::{Ended, Patience, Progress, PullError, Registries, Sink, Source};

/// What a file is called, in the annotations of its layer.
const TITLE: &str = "org.opencontainers.image.title";
/// An index of files for several platforms; nobody nests them deeper.
const LIMIT_NESTED: usize = 3;
/// Of a title, in words.
const TITLE_CHARS: usize = 100;

/// A file of a registry, and who gives it.
pub struct Artefact {
    source: Source,
    pub file: File,
}

/// What a manifest says of its one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub blob: Descriptor,
    /// As whoever pushed it called it.
    pub title: Option<String>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    blob: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Layers {
    #[serde(default)]
    layers: Option<Vec<Layer>>,
}

impl File {
    /// The one file of a manifest, whatever its type and the configuration's are; `None`: it is an index.
    ///
    /// # Errors
    /// Several files, none, or what is no manifest.
    pub fn of(json: &[u8]) -> Result<Option<File>, BadManifest> {
        if json.len() > MANIFEST_LIMIT_BYTES {
            return Err(BadManifest::TooLong { bytes: json.len() });
        }
        // What has layers of its own kinds is no image, and nothing else is wrong with it.
        match Document::read(json) {
            Ok(Document::Index(_)) => return Ok(None),
            Ok(Document::Manifest(_)) | Err(BadManifest::NoImage { .. }) => {}
            Err(why) => return Err(why),
        }
        let Layers { layers } = serde_json::from_slice(json)?;
        let mut layers = layers.unwrap_or_default();
        if layers.len() > LAYERS_LIMIT {
            return Err(BadManifest::TooManyLayers(layers.len()));
        }
        let title = |layer: &Layer| {
            let title = layer.annotations.get(TITLE)?;
            Some(title.chars().take(TITLE_CHARS).collect::<String>())
        };
        match (layers.pop(), layers.as_slice()) {
            (Some(one), []) if one.blob.media_type.ends_with("+encrypted") => Err(BadManifest::NoImage {
                what: "file",
                media_type: one.blob.media_type.chars().take(200).collect(),
            }),
            (Some(one), []) => Ok(Some(File {
                title: title(&one),
                blob: one.blob,
            })),
            (Some(last), others) => Err(BadManifest::ManyFiles(
                others
                    .iter()
                    .chain([&last])
                    .map(|layer| title(layer).unwrap_or_else(|| layer.blob.digest.to_string()))
                    .collect(),
            )),
            (None, _) => Err(BadManifest::NoLayers),
        }
    }
}

impl Artefact {
    /// Asks the mirrors, then the registry itself; where there is one for each platform, for that of `platform`.
    ///
    /// # Errors
    /// [`PullError`], that of the registry itself where its mirrors failed, too.
    pub async fn find(
        reference: &Reference,
        registries: &Registries,
        platform: &Platform,
        patience: Patience,
    ) -> Result<Artefact, PullError> {
        let mut last = None;
        for source in Source::all(registries, reference, patience)? {
            match file_at(&source, reference, platform).await {
                Ok(file) => return Ok(Artefact { source, file }),
                Err(error) => {
                    tracing::info!(%reference, "{} does not give it: {error}", source.name());
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| PullError::Unusable {
            registry: reference.registry().to_owned(),
            what: "there is nobody to ask".to_owned(),
        }))
    }

    /// Who gives it, as it is called in messages.
    pub fn registry(&self) -> &str {
        self.source.name()
    }

    /// Brings the file, from its byte `from` on; a transfer that breaks goes on where it was. What comes is not compared with its digest.
    ///
    /// # Errors
    /// What asking again does not change, and [`PullError::Away`] when nothing new has come for too long.
    pub async fn bring(
        &self,
        from: u64,
        progress: &Progress,
        sink: &mut impl Sink,
    ) -> Result<Ended, PullError> {
        self.source.bring(&self.file.blob, from, progress, sink).await
    }

    /// `len` bytes from byte `from` on, or as many as there are.
    ///
    /// # Errors
    /// As of [`Artefact::bring`].
    pub async fn part(&self, from: u64, len: usize) -> Result<Vec<u8>, PullError> {
        let mut part = Part {
            bytes: Vec::new(),
            len,
        };
        self.bring(from, &Progress::default(), &mut part).await?;
        Ok(part.bytes)
    }
}

async fn file_at(source: &Source, reference: &Reference, platform: &Platform) -> Result<File, PullError> {
    let bad = |why| PullError::BadManifest {
        registry: source.name().to_owned(),
        image: reference.to_string(),
        why,
    };
    let mut json = source.manifest().await?;
    for _ in 0..LIMIT_NESTED {
        if let Some(file) = File::of(&json).map_err(bad)? {
            return Ok(file);
        }
        let Document::Index(index) = Document::read(&json).map_err(bad)? else {
            break;
        };
        let Some(chosen) = index.choose(platform).or_else(|| index.only()) else {
            return Err(PullError::NoSuchPlatform {
                image: reference.to_string(),
                wanted: platform.clone(),
                there: index.platforms(),
            });
        };
        json = source.manifest_of(&chosen.digest).await?;
    }
    Err(PullError::Unusable {
        registry: source.name().to_owned(),
        what: format!("{reference} is an index of indexes, more than {LIMIT_NESTED} deep"),
    })
}

struct Part {
    bytes: Vec<u8>,
    len: usize,
}

impl Sink for Part {
    async fn take(&mut self, bytes: Bytes) -> bool {
        let room = self.len - self.bytes.len();
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
        self.bytes.len() < self.len
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::digest::Digest;

    fn layer(title: Option<&str>, media_type: &str) -> Value {
        let annotations = title.map(|title| json!({TITLE: title}));
        json!({
            "mediaType": media_type, "digest": Digest::of(media_type.as_bytes()), "size": 7,
            "annotations": annotations.unwrap_or_else(|| json!({})),
        })
    }

    fn of(config: &str, layers: &[Value]) -> Result<Option<File>, BadManifest> {
        let json = json!({
            "schemaVersion": 2,
            "config": {"mediaType": config, "digest": Digest::of(b"c"), "size": 2},
            "layers": layers,
        });
        File::of(json.to_string().as_bytes())
    }

    /// What ORAS pushes: with its own types by default, with upstream's, and with any that somebody chose.
    #[test]
    fn the_one_file_of_a_manifest_is_found_whatever_its_type() {
        for (config, media_type, title) in [
            (
                "application/vnd.oci.empty.v1+json",
                "application/octet-stream",
                Some("debian.raw.zst"),
            ),
            (
                "application/vnd.unknown.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar",
                Some("ubuntu.raw.gz"),
            ),
            ("application/vnd.site.disk", "application/x-raw-disk-image", None),
        ] {
            let file = of(config, &[layer(title, media_type)]).unwrap().unwrap();
            assert_eq!(file.title.as_deref(), title);
            assert_eq!(
                (file.blob.media_type.as_str(), file.blob.size_bytes),
                (media_type, 7)
            );
            assert_eq!(file.blob.digest, Digest::of(media_type.as_bytes()));
        }
    }

    #[test]
    fn several_files_are_named_and_none_is_said() {
        let why = of("x/y", &[layer(Some("a.raw"), "x/a"), layer(None, "x/b")]).unwrap_err();
        let digest = Digest::of(b"x/b");
        assert_eq!(
            why.to_string(),
            format!("it has 2 files (a.raw, {digest}): push the one that is meant by itself")
        );
        assert!(matches!(of("x/y", &[]), Err(BadManifest::NoLayers)));
        let many: Vec<Value> = (0..=LAYERS_LIMIT).map(|_| layer(None, "x/a")).collect();
        assert!(matches!(of("x/y", &many), Err(BadManifest::TooManyLayers(_))));
        let locked = "application/vnd.oci.image.layer.v1.tar+encrypted";
        assert!(matches!(
            of("x/y", &[layer(None, locked)]),
            Err(BadManifest::NoImage { .. })
        ));
        assert!(matches!(File::of(b"{}"), Err(BadManifest::Neither)));
        assert!(matches!(File::of(b"<html>"), Err(BadManifest::Json(_))));
    }
}
