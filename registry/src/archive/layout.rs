//! OCI layouts: contents by their digests, and an index that says which of them are images.

use std::collections::BTreeMap;

use oci::Reference;
use serde::Deserialize;
use store::blobs::Digest;

use super::files::Files;
use super::{BadArchive, Content, IMAGES_LIMIT, Packed, Place, blob_entry, json, refused};
use crate::document::{Document, Kind, MANIFEST_LIMIT_BYTES};
use crate::{blob_of, written};

/// Deeper, nobody nests indexes.
const NESTED_LIMIT: usize = 3;
/// Contents of one image.
const CONTENTS_LIMIT: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: oci::Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

pub(super) fn images(files: &Files) -> Result<Vec<Packed>, BadArchive> {
    let layout: Layout = json(files, "oci-layout")?;
    if !layout.image_layout_version.starts_with("1.") {
        let version: String = layout.image_layout_version.chars().take(40).collect();
        return Err(refused(
            files,
            "oci-layout",
            format!("it is of version {version:?}; 1.0.0 is understood"),
        ));
    }
    let index: Index = json(files, "index.json")?;
    if index.manifests.len() > IMAGES_LIMIT {
        return Err(refused(
            files,
            "index.json",
            format!("it names more than {IMAGES_LIMIT} images"),
        ));
    }
    let mut images: Vec<Packed> = Vec::new();
    for descriptor in index.manifests {
        let no_sha256 = || {
            refused(
                files,
                "index.json",
                format!("{} is no SHA-256", descriptor.digest),
            )
        };
        let root = blob_of(&descriptor.digest).ok_or_else(no_sha256)?;
        let names = named(&descriptor.annotations);
        match images.iter_mut().find(|image| image.root == root) {
            Some(image) => image.names.extend(names),
            None => {
                let mut contents = Vec::new();
                below(files, root, "index.json", 0, &mut contents)?;
                images.push(Packed {
                    names: names.into_iter().collect(),
                    root,
                    contents,
                });
            }
        }
    }
    Ok(images)
}

/// The image's name: containerd and Docker give all of it, others a tag at times, which is none.
fn named(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    let whole = annotations.get("io.containerd.image.name");
    let given = annotations.get("org.opencontainers.image.ref.name");
    let given = given.filter(|name| name.contains(['/', ':']));
    whole.or(given)?.parse().ok()
}

/// Takes a manifest or an index with all that it names; what is named comes first.
fn below(
    files: &Files,
    digest: Digest,
    by: &str,
    depth: usize,
    into: &mut Vec<Content>,
) -> Result<(), BadArchive> {
    let entry = blob_entry(&digest);
    if depth > NESTED_LIMIT || into.len() > CONTENTS_LIMIT {
        let why = format!(
            "the image has more than {CONTENTS_LIMIT} contents, or indexes more than {NESTED_LIMIT} deep"
        );
        return Err(refused(files, &entry, why));
    }
    if !files.has(&entry) {
        return Err(missing(files, &entry, by));
    }
    let bytes = files.small(&entry, MANIFEST_LIMIT_BYTES as u64)?;
    let actual = Digest::of(&bytes);
    if actual != digest {
        return Err(refused(
            files,
            &entry,
            format!("the digest of its bytes is {}", written(&actual)),
        ));
    }
    let document = Document::read(&bytes).map_err(|error| refused(files, &entry, error))?;
    match &document.kind {
        Kind::Index(parts) => {
            let mut found = 0;
            for part in parts {
                // An archive of one platform may have the index of all.
                if files.has(&blob_entry(&part.digest)) {
                    found += 1;
                    below(files, part.digest, &entry, depth + 1, into)?;
                }
            }
            if let (0, Some(part)) = (found, parts.first()) {
                return Err(missing(files, &blob_entry(&part.digest), &entry));
            }
        }
        Kind::Manifest(parts) => {
            for part in parts {
                let name = blob_entry(&part.digest);
                let size_bytes = files
                    .size_bytes(&name)
                    .ok_or_else(|| missing(files, &name, &entry))?;
                if size_bytes != part.size_bytes {
                    let why = format!("it has {size_bytes} B, and {entry} says {} B", part.size_bytes);
                    return Err(refused(files, &name, why));
                }
                take(into, part.digest, size_bytes, Place::Named(name));
            }
        }
    }
    let size_bytes = bytes.len() as u64;
    take(into, digest, size_bytes, Place::Here(bytes));
    Ok(())
}

fn take(into: &mut Vec<Content>, digest: Digest, size_bytes: u64, place: Place) {
    if !into.iter().any(|content| content.digest == digest) {
        into.push(Content {
            digest,
            size_bytes,
            place,
        });
    }
}

fn missing(files: &Files, entry: &str, by: &str) -> BadArchive {
    BadArchive::Missing {
        path: files.path(),
        entry: entry.to_owned(),
        by: by.to_owned(),
    }
}
