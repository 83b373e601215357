//! Images of the server's own registry: what people bring, list and delete, and what machines are given by name.

mod bound;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use bound::Uses;
use bound::{Fetched, Held};
use coordinator::Error;
use coordinator::database::View;
use coordinator::images;
use coordinator::namespaces::{DEFAULT, Reach};
use coordinator::once::Once;
use coordinator::people::Caller;
use coordinator::templates;
use futures_util::TryStreamExt;
use oci::Reference;
use proto::v1::{DeleteImageResponse, Image, ListImagesResponse, PutImageRequest, WantedImage};
use registry::{Catalogue, CatalogueError, Named, Shelf, ShelfError, Tree, written};
use store::blobs::{BlobError, Digest};
use workflow::language::pulled_images;

use crate::clock;
use crate::control::ControlPlane;
use crate::grpc::with_causes;
use crate::once::note;

/// Contents that came since then may be those of an image that is being brought.
pub(crate) const YOUNG: Duration = Duration::from_secs(60 * 60);

/// Who changes images changes what machines of every namespace run.
///
/// # Errors
/// [`Error::Denied`] for a token of some namespaces.
pub(crate) fn for_all_namespaces(caller: &Caller) -> Result<(), Error> {
    match caller.reach.is_everything() {
        true => Ok(()),
        false => Err(Error::Denied(format!(
            "images are for machines of all namespaces, and the token of {} is for some: ask one whose token is for all",
            caller.name
        ))),
    }
}

/// A complete name with a tag.
fn named(text: &str) -> Result<Reference, Error> {
    let name: Reference = text
        .parse()
        .map_err(|error: oci::NotAReference| Error::Invalid(error.to_string()))?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err(Error::Invalid(format!(
            "{name} has a digest, by which it is known in any case: give it a name with a tag"
        ))),
    }
}

fn from_shelf(error: ShelfError) -> Error {
    match error {
        ShelfError::Blobs(error) => Error::Blob(error),
        ShelfError::TooMany(_) => Error::Invalid(error.to_string()),
    }
}

impl ControlPlane {
    /// The contents of images.
    pub fn shelf(&self) -> Shelf {
        Shelf::new(self.inner.config.images.clone())
    }

    /// The names of images, for machines.
    pub fn catalogue(&self) -> Arc<dyn Catalogue> {
        Arc::new(Names(self.clone()))
    }

    /// Gives an image, whose contents are there, a name.
    ///
    /// # Errors
    /// [`Error::Refused`] when something of it is not there.
    pub(crate) async fn put_image(&self, caller: Caller, request: PutImageRequest) -> Result<Image, Error> {
        for_all_namespaces(&caller)?;
        let name = named(&request.name)?.to_string();
        let digest: Digest = request.sha256.parse().map_err(BlobError::from)?;
        // What is there now stays until it has its name.
        let _turn = self.inner.images_turn.read().await;
        let tree = self.shelf().tree(&digest).await.map_err(from_shelf)?;
        if !tree.is_whole() {
            return Err(Error::Refused(lacks(&name, &digest, &tree)));
        }
        let image = images::Image {
            manifest: written(&digest),
            put_at: clock::wall(),
            put_by: caller.name,
            asked_at: None,
        };
        let (row, key) = (image.clone(), name.clone());
        let batch = self.inner.db.with(move |view| images::put(view, &key, &row));
        self.inner.db.commit(batch.await?).await?;
        Ok(shown(name, image, &tree))
    }

    /// All images, and those that stored templates name and that are not there.
    pub(crate) async fn list_images(&self, reach: Reach) -> Result<ListImagesResponse, Error> {
        let read = self
            .inner
            .db
            .with(move |view| Ok((images::all(view)?, wanted(view, &reach)?)));
        let (all, mut wanted) = read.await?;
        let shelf = self.shelf();
        let mut answer = ListImagesResponse {
            fetched_bytes: bound::fetched_bytes(&self.held().await?, &self.image_sizes().await?),
            keep_bytes: self.inner.config.registry_keep.unwrap_or_default(),
            ..ListImagesResponse::default()
        };
        let mut digests = BTreeSet::new();
        for (name, image) in all {
            let tree = match digest_of(&image) {
                Some(digest) => shelf.tree(&digest).await.map_err(from_shelf)?,
                None => Tree::default(),
            };
            if tree.is_whole() {
                wanted.remove(&name);
                digests.extend(tree.named.iter().map(written));
            }
            answer.images.push(shown(name, image, &tree));
        }
        wanted.retain(|name, _| {
            !name
                .split_once('@')
                .is_some_and(|(_, digest)| digests.contains(digest))
        });
        answer.wanted = wanted
            .into_iter()
            .map(|(name, templates)| WantedImage {
                name,
                templates: templates.into_iter().collect(),
            })
            .collect();
        Ok(answer)
    }

    /// Takes a name away, and what nothing names then.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) async fn delete_image(
        &self,
        caller: &Caller,
        name: String,
        once: Option<Once>,
    ) -> Result<DeleteImageResponse, Error> {
        for_all_namespaces(caller)?;
        let name = named(&name)?.to_string();
        let batch = self.inner.db.with(move |view| images::deletion(view, &name));
        let mut batch = batch.await?;
        let answer = DeleteImageResponse {};
        note(once.as_ref(), &mut batch, &answer);
        self.inner.db.commit(batch).await?;
        // The name is gone; what it leaves behind goes now, or with the next look for garbage.
        if let Err(error) = self.collect_images(YOUNG).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "contents of images that nothing names cannot be deleted now"
            );
        }
        Ok(answer)
    }

    /// All images, with what they have that is there.
    async fn held(&self) -> Result<Vec<Held>, Error> {
        let read = |view: &_| Ok((images::all(view)?, wanted(view, &Reach::everything())?));
        let (all, wanted) = self.inner.db.with(read).await?;
        let shelf = self.shelf();
        let mut held = Vec::new();
        for (name, image) in all {
            let Some(digest) = digest_of(&image) else { continue };
            let mut contents = shelf.tree(&digest).await.map_err(from_shelf)?.named;
            contents.insert(digest);
            let fetched = image.asked_at.map(|asked_at| {
                // What a machine was given before this process began, its row says.
                let known = UNIX_EPOCH + Duration::from_millis(asked_at.max(image.put_at));
                let used_at = self.inner.image_uses.last_of(&contents);
                Fetched {
                    used_at: used_at.map_or(known, |used_at| used_at.max(known)),
                    is_named: wanted.contains_key(&name) || is_wanted_by_digest(&wanted, &contents),
                }
            });
            held.push(Held {
                name,
                contents,
                fetched,
            });
        }
        Ok(held)
    }

    /// Of all contents that are there.
    async fn image_sizes(&self) -> Result<BTreeMap<Digest, u64>, Error> {
        let there: Vec<_> = self.shelf().blobs().list().try_collect().await?;
        Ok(there
            .into_iter()
            .map(|blob| (blob.digest, blob.len_bytes))
            .collect())
    }

    /// Takes names of fetched images away until these have `most_bytes` at most, and what nothing names then. Nothing that a machine was
    /// given in the last `young` goes: its pull may be under way. Says how many names.
    ///
    /// # Errors
    /// When the store or the contents cannot be read.
    pub(crate) async fn keep_within(&self, most_bytes: u64, young: Duration) -> Result<usize, Error> {
        let since = SystemTime::now().checked_sub(young).unwrap_or(UNIX_EPOCH);
        let choice = {
            let _turn = self.inner.images_turn.write().await;
            let sizes = self.image_sizes().await?;
            self.inner.image_uses.keep(|digest| sizes.contains_key(digest));
            let choice = bound::choose(&self.held().await?, &sizes, most_bytes, since);
            for name in &choice.gone {
                let key = name.clone();
                let batch = self.inner.db.with(move |view| images::deletion(view, &key));
                self.inner.db.commit(batch.await?).await?;
                tracing::info!(
                    image = name,
                    "a fetched image is deleted: {most_bytes} B are kept (--registry-keep)"
                );
            }
            choice
        };
        if choice.left_bytes > most_bytes {
            tracing::warn!(
                "fetched images have {} B, and {most_bytes} B are to be kept (--registry-keep): machines were given the rest within the last \
                 {} min",
                choice.left_bytes,
                young.as_secs() / 60
            );
        }
        if !choice.gone.is_empty() {
            self.collect_images(young).await?;
        }
        Ok(choice.gone.len())
    }

    /// Deletes contents of images that no name leads to, if they came longer than `young` ago; says how many.
    pub(crate) async fn collect_images(&self, young: Duration) -> Result<u64, Error> {
        let before = SystemTime::now()
            .checked_sub(young)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let _turn = self.inner.images_turn.write().await;
        let all = self.inner.db.with(images::all).await?;
        let shelf = self.shelf();
        let mut used = BTreeSet::new();
        for digest in all.iter().filter_map(|(_, image)| digest_of(image)) {
            used.append(&mut shelf.tree(&digest).await.map_err(from_shelf)?.named);
        }
        let there: Vec<_> = shelf.blobs().list().try_collect().await?;
        let mut deleted = 0;
        for blob in there {
            if blob.put_at < before
                && !used.contains(&blob.digest)
                && shelf.blobs().delete_unused(&blob.digest, before).await?
            {
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// The images that stored templates name, and which templates.
fn wanted(view: &View, reach: &Reach) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for template in templates::all(view, reach)? {
        let by = match template.namespace.as_str() {
            DEFAULT => template.name.clone(),
            namespace => format!("{namespace}/{}", template.name),
        };
        for image in pulled_images(&template.text) {
            // One by digest is not asked for by name.
            if let Ok(name) = image.parse::<Reference>() {
                wanted.entry(name.to_string()).or_default().insert(by.clone());
            }
        }
    }
    Ok(wanted)
}

fn is_wanted_by_digest(wanted: &BTreeMap<String, BTreeSet<String>>, contents: &BTreeSet<Digest>) -> bool {
    wanted.keys().any(|name| {
        let digest = name
            .split_once("@sha256:")
            .and_then(|(_, digest)| digest.parse().ok());
        digest.is_some_and(|digest: Digest| contents.contains(&digest))
    })
}

fn digest_of(image: &images::Image) -> Option<Digest> {
    image.manifest.strip_prefix("sha256:")?.parse().ok()
}

fn shown(name: String, image: images::Image, tree: &Tree) -> Image {
    Image {
        name,
        digest: image.manifest,
        size_bytes: tree.size_bytes,
        state: match tree.is_whole() {
            true => "WHOLE",
            false => "INCOMPLETE",
        }
        .to_owned(),
        platforms: tree.platforms.clone(),
        put_at: Some(clock::timestamp(image.put_at)),
        put_by: image.put_by,
    }
}

fn lacks(name: &str, digest: &Digest, tree: &Tree) -> String {
    let first = tree.missing.iter().chain(&tree.absent).next();
    match first {
        Some(part) => format!(
            "the server has not all of {name}: {} is missing, or of another size; bring it again with `farrier registry import`",
            written(&part.digest)
        ),
        None => format!("{} is no image: it names no manifest", written(digest)),
    }
}

/// What images are called, as machines ask.
struct Names(ControlPlane);

#[tonic::async_trait]
impl Catalogue for Names {
    async fn find(&self, image: &Reference) -> Result<Option<Named>, CatalogueError> {
        let name = image.to_string();
        let found = self.0.inner.db.with(move |view| images::get(view, &name)).await;
        Ok(found.map_err(not_now)?.as_ref().and_then(meant))
    }

    async fn of_repository(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Vec<(Option<String>, Named)>, CatalogueError> {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        let read = move |view: &_| images::of_repository(view, &registry, &repository);
        let all = self.0.inner.db.with(read).await.map_err(not_now)?;
        let known = all.into_iter().filter_map(|(tag, image)| {
            let tag = (!tag.starts_with('@')).then_some(tag);
            Some((tag, meant(&image)?))
        });
        Ok(known.collect())
    }

    async fn fetched(&self, image: &Reference, digest: Digest) -> Result<(), CatalogueError> {
        let _turn = self.0.inner.images_turn.read().await;
        let name = image.to_string();
        let row = images::Image {
            manifest: written(&digest),
            put_at: clock::wall(),
            put_by: String::new(),
            asked_at: Some(clock::wall()),
        };
        let batch = self.0.inner.db.with(move |view| images::put(view, &name, &row));
        let kept = async { self.0.inner.db.commit(batch.await?).await };
        kept.await.map(drop).map_err(not_now)
    }

    fn given(&self, digest: Digest) {
        self.0.inner.image_uses.note(digest, SystemTime::now());
    }
}

fn meant(image: &images::Image) -> Option<Named> {
    let asked_at = image
        .asked_at
        .map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at));
    Some(Named {
        digest: digest_of(image)?,
        asked_at,
    })
}

fn not_now(error: Error) -> CatalogueError {
    CatalogueError(with_causes(&error))
}

#[cfg(test)]
mod tests {
    use coordinator::people::Role;
    use store::{MemoryStore, StoreHandle};

    use super::*;
    use crate::Config;

    fn admin() -> Caller {
        Caller {
            name: "admin".to_owned(),
            groups: Vec::new(),
            role: Role::Admin,
            reach: Reach::everything(),
        }
    }

    /// A manifest that names this one content.
    fn manifest(content: &[u8]) -> Vec<u8> {
        let config = serde_json::json!({"digest": written(&Digest::of(content)), "size": content.len()});
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []});
        manifest.to_string().into_bytes()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn fetched_images_are_kept_within_their_bound_and_what_a_person_brought_stays() {
        let store = StoreHandle::new(MemoryStore::default());
        let config = Config {
            registry_keep: Some(1),
            ..Config::default()
        };
        let control = ControlPlane::open(store, config).await.expect("open");
        let (shelf, names) = (control.shelf(), control.catalogue());
        let mut roots = Vec::new();
        for content in ["brought", "first", "second"] {
            shelf.blobs().put(content).await.expect("put");
            let manifest = manifest(content.as_bytes());
            roots.push(shelf.blobs().put(manifest).await.expect("put"));
        }
        let request = PutImageRequest {
            name: "brought:v1".to_owned(),
            sha256: roots[0].to_string(),
        };
        control.put_image(admin(), request).await.expect("whole");
        let name = |name: &str| name.parse::<Reference>().expect("a name");
        for (tag, root) in [("first:v1", roots[1]), ("second:v1", roots[2])] {
            names.fetched(&name(tag), root).await.expect("kept");
        }
        let bytes = shelf.tree(&roots[1]).await.expect("tree").size_bytes;
        let listed = control.list_images(Reach::everything()).await.expect("listed");
        let both = bytes + shelf.tree(&roots[2]).await.expect("tree").size_bytes;
        assert_eq!((listed.fetched_bytes, listed.keep_bytes), (both, 1));
        // A machine has just been given both.
        assert_eq!(control.keep_within(1, YOUNG).await.expect("looked"), 0);
        tokio::time::sleep(Duration::from_millis(5)).await;
        // The one that was fetched first was given last.
        names.given(Digest::of(b"first"));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(
            control
                .keep_within(both - 1, Duration::ZERO)
                .await
                .expect("looked"),
            1
        );
        let is_there = async |tag: &str, content: &str| {
            let named = names.find(&name(tag)).await.expect("looked").is_some();
            let content = shelf
                .blobs()
                .exists(&Digest::of(content.as_bytes()))
                .await
                .expect("looked");
            (named, content)
        };
        assert_eq!(is_there("first:v1", "first").await, (true, true));
        assert_eq!(is_there("second:v1", "second").await, (false, false));
        assert_eq!(control.keep_within(1, Duration::ZERO).await.expect("looked"), 1);
        assert_eq!(is_there("first:v1", "first").await, (false, false));
        assert_eq!(is_there("brought:v1", "brought").await, (true, true));
        control.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_image_has_its_name_when_all_of_it_is_there_and_goes_with_its_last_name() {
        let store = StoreHandle::new(MemoryStore::default());
        let control = ControlPlane::open(store, Config::default()).await.expect("open");
        let shelf = control.shelf();
        let blobs = shelf.blobs();
        let manifest = manifest(b"shared");
        let root = blobs.put(manifest).await.expect("put");
        let name = |name: &str| {
            let request = PutImageRequest {
                name: name.to_owned(),
                sha256: root.to_string(),
            };
            control.put_image(admin(), request)
        };
        let refused = name("box:v1").await.expect_err("it is not whole").to_string();
        assert!(refused.contains(&written(&Digest::of(b"shared"))), "{refused}");
        let content = blobs.put("shared").await.expect("put");
        blobs.put("garbage").await.expect("put");
        for tag in ["box:v1", "box:v2"] {
            assert_eq!(name(tag).await.expect("it is whole").state, "WHOLE");
        }
        assert_eq!(
            control.collect_images(YOUNG).await.expect("looked"),
            0,
            "it is young"
        );
        assert_eq!(control.collect_images(Duration::ZERO).await.expect("looked"), 1);
        for (tag, stays) in [("box:v1", true), ("box:v2", false)] {
            control
                .delete_image(&admin(), tag.to_owned(), None)
                .await
                .expect("deleted");
            control.collect_images(Duration::ZERO).await.expect("looked");
            for digest in [root, content] {
                assert_eq!(blobs.exists(&digest).await.expect("looked"), stays, "{tag}");
            }
        }
        control.close().await;
    }
}
