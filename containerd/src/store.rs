//! Images in containerd's stores: blobs come from a registry by `oci`, containerd unpacks their layers into snapshots.
//!
//! While an image comes, a lease holds what is here of it; then its name does, through the labels that containerd's garbage
//! collector follows: image → manifest → configuration → snapshot.
//!
//! Source: containerd's docs/garbage-collection.md and docs/content-flow.md, as facts.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use oci::manifest::{Descriptor, Document};
use oci::registry::PullError;
use oci::{Digest, Found, ImageConfig, Keep, Origin};
use prost_types::FieldMask;
use tonic::Status;

use crate::api;
use crate::api::content::content_client::ContentClient;
use crate::api::content::{InfoRequest, ReadContentRequest, UpdateRequest};
use crate::api::images::images_client::ImagesClient;
use crate::api::images::{CreateImageRequest, GetImageRequest, UpdateImageRequest};
use crate::api::leases::leases_client::LeasesClient;
use crate::connection::{Containerd, OWNER, Wire};
use crate::error::{Error, Kind, kind};
use crate::snapshot::{SNAPSHOTTER, chain_ids};

mod blob;

/// Manifests and configurations are read back; none that was kept is longer.
const READ_LIMIT_BYTES: usize = 4 << 20;
const GC_CONTENT: &str = "containerd.io/gc.ref.content";
const GC_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot";

/// An image in containerd's stores, ready to be run.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest for this machine's platform.
    pub digest: Digest,
    pub config: ImageConfig,
    /// The snapshot of all its layers.
    pub(crate) chain: String,
}

/// Why a step of keeping an image failed.
enum Failed {
    Containerd(Error),
    Pull(PullError),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Containerd(e)
    }
}

impl From<PullError> for Failed {
    fn from(e: PullError) -> Failed {
        Failed::Pull(e)
    }
}

impl Containerd {
    fn content(&self) -> ContentClient<Wire> {
        ContentClient::new(self.wire())
    }

    fn in_pull(&self, image: &str, failed: Failed) -> PullError {
        let store = format!("of containerd at {}", self.address().display());
        match failed {
            Failed::Pull(e) => e,
            Failed::Containerd(e @ Error::Full { .. }) => PullError::StoreFull {
                image: image.to_owned(),
                store,
                what: e.to_string(),
            },
            Failed::Containerd(e) => PullError::Store {
                store,
                what: e.to_string(),
            },
        }
    }

    async fn has_content(&self, digest: &Digest) -> Result<bool, Error> {
        let request = InfoRequest {
            digest: digest.to_string(),
        };
        let what = format!("whether {digest} is there");
        let answer = self.answer(&what, self.content().info(request)).await?;
        Ok(self.unless(&what, answer, Kind::NotThere)?.is_some())
    }

    /// A small blob that is there; `None`: it is not, or is none of ours.
    async fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let request = ReadContentRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        };
        let what = format!("reading {digest}");
        let refused = |status: Status| match kind(&status) {
            Kind::NotThere => Ok(None),
            _ => Err(self.refused(&what, &status)),
        };
        let mut pieces = match self.answer(&what, self.content().read(request)).await? {
            Ok(pieces) => pieces,
            Err(status) => return refused(status),
        };
        let mut whole = Vec::new();
        loop {
            match pieces.message().await {
                Ok(Some(piece)) => whole.extend_from_slice(&piece.data),
                Ok(None) => break,
                Err(status) => return refused(status),
            }
            if whole.len() > READ_LIMIT_BYTES {
                return Ok(None);
            }
        }
        Ok(Some(whole).filter(|whole| Digest::of(whole) == *digest))
    }

    /// The image of a manifest, where all that running it takes is here.
    async fn here(&self, digest: &Digest) -> Result<Option<Image>, Error> {
        let Some(json) = self.read(digest).await? else {
            return Ok(None);
        };
        let Ok(Document::Manifest(manifest)) = Document::read(&json) else {
            return Ok(None);
        };
        let Some(json) = self.read(&manifest.config.digest).await? else {
            return Ok(None);
        };
        let Ok((config, diff_ids)) = ImageConfig::read(&json) else {
            return Ok(None);
        };
        let Some(chain) = chain_ids(&diff_ids).pop() else {
            return Ok(None);
        };
        let is_here = self.has_snapshot(&chain).await?;
        Ok(is_here.then(|| Image {
            digest: digest.clone(),
            config,
            chain,
        }))
    }

    /// The image has this name from now on.
    async fn name(&self, name: &str, digest: &Digest, size_bytes: usize) -> Result<(), Error> {
        let image = api::images::Image {
            name: name.to_owned(),
            labels: HashMap::from([(OWNER.to_owned(), self.owner().to_owned())]),
            target: Some(api::types::Descriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                digest: digest.to_string(),
                size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
                annotations: HashMap::new(),
            }),
        };
        let mut images = ImagesClient::new(self.wire());
        let what = format!("naming image {name}");
        let request = CreateImageRequest {
            image: Some(image.clone()),
        };
        let made = self.answer(&what, images.create(request)).await?;
        if self.unless(&what, made, Kind::AlreadyThere)?.is_none() {
            let request = UpdateImageRequest { image: Some(image) };
            self.call(&what, images.update(request)).await?;
        }
        Ok(())
    }

    async fn target(&self, name: &str) -> Result<Option<Digest>, Error> {
        let mut images = ImagesClient::new(self.wire());
        let request = GetImageRequest {
            name: name.to_owned(),
        };
        let what = format!("image {name}");
        let answer = self.answer(&what, images.get(request)).await?;
        let found = self.unless(&what, answer, Kind::NotThere)?;
        let target = found.and_then(|found| found.image?.target);
        Ok(target.and_then(|target| target.digest.parse().ok()))
    }

    /// Sets labels of a blob, and leaves its others.
    async fn label(&self, digest: &Digest, labels: HashMap<String, String>) -> Result<(), Error> {
        let request = UpdateRequest {
            update_mask: Some(FieldMask {
                paths: labels.keys().map(|name| format!("labels.{name}")).collect(),
            }),
            info: Some(api::content::Info {
                digest: digest.to_string(),
                size: 0,
                labels,
            }),
        };
        let what = format!("labelling {digest}");
        self.call(&what, self.content().update(request)).await.map(drop)
    }

    async fn bring(&self, found: &Found, source: &Origin<'_>) -> Result<Image, Failed> {
        let chain = chain_ids(&found.diff_ids);
        let mut here = 0;
        for (number, name) in chain.iter().enumerate().rev() {
            if self.has_snapshot(name).await? {
                here = number + 1;
                break;
            }
        }
        for layer in found.manifest.layers.iter().take(here) {
            source.progress.came(layer.size_bytes);
            source.progress.layer_is_here();
        }
        let wanted = found.manifest.layers.iter().skip(here);
        let coming = wanted.map(|layer| async move { self.blob(layer, source).await.map(|()| layer) });
        // Each is unpacked upon the one below it, while those above still come.
        let mut coming = stream::iter(coming.collect::<Vec<_>>()).buffered(source.pull.at_once.max(1));
        let mut number = here;
        while let Some(layer) = coming.next().await {
            self.unpack(layer?, found, &chain, number, source).await?;
            source.progress.layer_is_here();
            number += 1;
        }
        drop(coming);
        let top = chain.last().cloned().unwrap_or_default();
        let config = &found.manifest.config;
        self.small(&config.digest, &found.config_json).await?;
        let snapshot = (format!("{GC_SNAPSHOT}.{SNAPSHOTTER}"), top.clone());
        self.label(&config.digest, HashMap::from([snapshot])).await?;
        self.small(&found.digest, &found.manifest_json).await?;
        let config = (format!("{GC_CONTENT}.config"), config.digest.to_string());
        self.label(&found.digest, HashMap::from([config])).await?;
        self.name(&source.name(), &found.digest, found.manifest_json.len())
            .await?;
        Ok(Image {
            digest: found.digest.clone(),
            config: found.config.clone(),
            chain: top,
        })
    }

    /// Has containerd unpack a layer upon those below it.
    async fn unpack(
        &self,
        layer: &Descriptor,
        found: &Found,
        chain: &[String],
        number: usize,
        source: &Origin<'_>,
    ) -> Result<(), Failed> {
        let (Some(name), Some(diff_id)) = (chain.get(number), found.diff_ids.get(number)) else {
            return Ok(());
        };
        let parent = number
            .checked_sub(1)
            .and_then(|below| chain.get(below))
            .map_or("", String::as_str);
        let key = format!("farrier-extract-{} {name}", random());
        let mounts = self.prepare_snapshot(&key, parent, HashMap::new()).await?;
        let request = api::diff::ApplyRequest {
            diff: Some(descriptor(layer)),
            mounts,
        };
        let mut differ = api::diff::diff_client::DiffClient::new(self.wire());
        // As long as it takes: the pull as a whole has its time.
        let applied = differ
            .apply(request)
            .await
            .map(|applied| applied.into_inner().applied);
        let unpacked = match applied {
            Ok(applied) => applied.map(|applied| applied.digest).unwrap_or_default(),
            Err(status) => {
                let _ = self.remove_snapshot(&key).await;
                return Err(self
                    .refused(&format!("unpacking layer {}", layer.digest), &status)
                    .into());
            }
        };
        if unpacked != diff_id.to_string() {
            let _ = self.remove_snapshot(&key).await;
            let actual = unpacked.parse().unwrap_or_else(|_| layer.digest.clone());
            let what = format!("the archive of layer {}", layer.digest);
            return Err(source.other_bytes(what, diff_id.clone(), actual).into());
        }
        self.commit_snapshot(&key, name).await?;
        Ok(())
    }
}

fn descriptor(layer: &Descriptor) -> api::types::Descriptor {
    api::types::Descriptor {
        media_type: layer.media_type.clone(),
        digest: layer.digest.to_string(),
        size: i64::try_from(layer.size_bytes).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    }
}

/// For names that nobody has; the standard library's hash seeds are random.
fn random() -> String {
    use std::hash::{BuildHasher, Hasher};
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

impl Keep for Containerd {
    type Image = Image;

    async fn named(&self, name: &str) -> Result<Option<Image>, PullError> {
        let found = async {
            match self.target(name).await? {
                Some(digest) => self.here(&digest).await,
                None => Ok(None),
            }
        };
        found.await.map_err(|e| self.in_pull(name, Failed::Containerd(e)))
    }

    async fn kept(&self, name: &str, digest: &Digest) -> Result<Option<Image>, PullError> {
        let found = async {
            let Some(image) = self.here(digest).await? else {
                return Ok(None);
            };
            let length = self.read(digest).await?.unwrap_or_default().len();
            self.name(name, digest, length).await?;
            Ok(Some(image))
        };
        found.await.map_err(|e| self.in_pull(name, Failed::Containerd(e)))
    }

    async fn keep(&self, found: &Found, source: &Origin<'_>) -> Result<Image, PullError> {
        let image = source.reference.to_string();
        let lease = Lease::take(self)
            .await
            .map_err(|e| self.in_pull(&image, Failed::Containerd(e)))?;
        let kept = lease.leased.bring(found, source).await;
        lease.end().await;
        kept.map_err(|failed| self.in_pull(&image, failed))
    }
}

/// Holds what comes until it has a name. Given back when it is dropped, too.
struct Lease {
    of: Containerd,
    leased: Containerd,
    id: String,
}

impl Lease {
    async fn take(of: &Containerd) -> Result<Lease, Error> {
        let id = format!("farrier-pull-{}", random());
        let request = api::leases::CreateRequest {
            id: id.clone(),
            labels: HashMap::from([(OWNER.to_owned(), of.owner().to_owned())]),
        };
        of.call("a lease", LeasesClient::new(of.wire()).create(request))
            .await?;
        Ok(Lease {
            leased: of.with_lease(&id),
            of: of.clone(),
            id,
        })
    }

    async fn end(mut self) {
        delete(self.of.clone(), std::mem::take(&mut self.id)).await;
    }
}

async fn delete(of: Containerd, id: String) {
    let request = api::leases::DeleteRequest { id, sync: false };
    let deleted = of
        .call(
            "giving a lease back",
            LeasesClient::new(of.wire()).delete(request),
        )
        .await;
    if let Err(e) = deleted {
        tracing::warn!("{e}");
    }
}

impl Drop for Lease {
    /// A pull that was given up.
    fn drop(&mut self) {
        let id = std::mem::take(&mut self.id);
        if !id.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(delete(self.of.clone(), id));
        }
    }
}
