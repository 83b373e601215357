//! What `docker save` wrote before it wrote OCI layouts, and what `podman save` writes: no manifest, so one is made. The image's digest is
//! that of ours, and not the one that a registry has.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use oci::{Algorithm, Hasher, ImageConfig, Reference};
use serde::Deserialize;
use serde_json::json;
use store::blobs::Digest;

use super::files::Files;
use super::{BadArchive, Content, IMAGES_LIMIT, JSON_LIMIT_BYTES, Packed, Place, json, refused};
use crate::blob_of;
use crate::document::PARTS_LIMIT;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn images(files: &Files) -> Result<Vec<Packed>, BadArchive> {
    let images: Vec<Image> = json(files, "manifest.json")?;
    if images.len() > IMAGES_LIMIT {
        return Err(refused(
            files,
            "manifest.json",
            format!("it names more than {IMAGES_LIMIT} images"),
        ));
    }
    let mut layers = Layers {
        files,
        known: BTreeMap::new(),
    };
    images.into_iter().map(|image| layers.image(image)).collect()
}

struct Layers<'a> {
    files: &'a Files,
    /// By their entries' names: images share layers.
    known: BTreeMap<String, Layer>,
}

#[derive(Clone)]
struct Layer {
    digest: oci::Digest,
    /// Without its packing.
    diff_id: oci::Digest,
    media_type: String,
    size_bytes: u64,
}

impl Layers<'_> {
    fn image(&mut self, image: Image) -> Result<Packed, BadArchive> {
        let files = self.files;
        if !files.has(&image.config) {
            return Err(self.missing(&image.config));
        }
        let config = files.small(&image.config, JSON_LIMIT_BYTES)?;
        let config_digest = oci::Digest::of(&config);
        // It is called by its digest in every version.
        let said = image.config.rsplit('/').next().unwrap_or_default();
        let said = said.strip_suffix(".json").unwrap_or(said);
        if said.len() == config_digest.hex().len() && said != config_digest.hex() {
            return Err(refused(
                files,
                &image.config,
                format!("the digest of its bytes is {config_digest}"),
            ));
        }
        let (_, diff_ids) =
            ImageConfig::read(&config).map_err(|error| refused(files, &image.config, error))?;
        if diff_ids.len() != image.layers.len() || image.layers.len() >= PARTS_LIMIT {
            let why = format!(
                "it is about {} layers, and manifest.json names {}",
                diff_ids.len(),
                image.layers.len()
            );
            return Err(refused(files, &image.config, why));
        }
        let mut contents = Vec::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(&diff_ids) {
            let layer = self.layer(name)?;
            if layer.diff_id != *diff_id {
                let why = format!(
                    "the digest of its bytes is {}, and {} says {diff_id}",
                    layer.diff_id, image.config
                );
                return Err(refused(files, name, why));
            }
            descriptors.push(
                json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size_bytes}),
            );
            contents.push((layer.digest, layer.size_bytes, Place::Named(name.clone())));
        }
        let size_bytes = config.len() as u64;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": size_bytes},
            "layers": descriptors,
        });
        contents.push((config_digest, size_bytes, Place::Here(config)));
        let manifest = manifest.to_string().into_bytes();
        let root = Digest::of(&manifest);
        let root_is = oci::Digest::of(&manifest);
        contents.push((root_is, manifest.len() as u64, Place::Here(manifest.into())));
        let mut all: Vec<Content> = Vec::new();
        for (digest, size_bytes, place) in contents {
            let digest = blob_of(&digest).unwrap_or(root);
            if !all.iter().any(|content| content.digest == digest) {
                all.push(Content {
                    digest,
                    size_bytes,
                    place,
                });
            }
        }
        let names = image.repo_tags.unwrap_or_default();
        let parsed = names.iter().map(|name| {
            let bad = |error: oci::NotAReference| refused(files, "manifest.json", error);
            name.parse::<Reference>().map_err(bad)
        });
        Ok(Packed {
            names: parsed.collect::<Result<_, _>>()?,
            root,
            contents: all,
        })
    }

    /// Reads a layer whole: nothing in the archive says its digest.
    fn layer(&mut self, name: &str) -> Result<Layer, BadArchive> {
        if let Some(layer) = self.known.get(name) {
            return Ok(layer.clone());
        }
        let Some(size_bytes) = self.files.size_bytes(name) else {
            return Err(self.missing(name));
        };
        let mut first = [0; 4];
        let mut beginning = self.files.open_entry(name)?.take(4);
        let read = beginning.read(&mut first).map_err(|error| self.files.io(error))?;
        let packing = oci::layer::packing_of(first.get(..read).unwrap_or_default());
        let digest = digest_of(self.files.open_entry(name)?).map_err(|error| self.files.io(error))?;
        let diff_id = match packing {
            "tar" => digest.clone(),
            _ => {
                let packed = BufReader::with_capacity(256 << 10, self.files.open_entry(name)?);
                let plain = oci::layer::unpacked(packed).and_then(digest_of);
                plain.map_err(|error| {
                    refused(self.files, name, format!("its {packing} data is bad: {error}"))
                })?
            }
        };
        let layer = Layer {
            digest,
            diff_id,
            media_type: match packing {
                "tar" => LAYER.to_owned(),
                packing => format!("{LAYER}+{packing}"),
            },
            size_bytes,
        };
        self.known.insert(name.to_owned(), layer.clone());
        Ok(layer)
    }

    fn missing(&self, entry: &str) -> BadArchive {
        BadArchive::Missing {
            path: self.files.path(),
            entry: entry.to_owned(),
            by: "manifest.json".to_owned(),
        }
    }
}

fn digest_of(mut bytes: impl Read) -> std::io::Result<oci::Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = bytes.read(&mut piece)?;
        match piece.get(..read) {
            None | Some([]) => return Ok(hasher.finish()),
            Some(some) => hasher.update(some),
        }
    }
}
