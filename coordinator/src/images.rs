//! What images of the server's own registry are called. Their contents lie elsewhere, by digest.
//!
//! ```text
//! image/<registry>/<repository>//<tag>          Image
//! image/<registry>/<repository>//@sha256:…      Image, of one that was fetched by its digest
//! ```
//!
//! They are of no namespace: a machine asks for an image before anybody knows for what. Names are complete ones.

use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;

use crate::database::{Batch, Stored, View};
use crate::error::Error;

/// Names in one store.
pub const MAX_IMAGES: usize = 10_000;
const PREFIX: &str = "image/";

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest or index, as registries write it: `sha256:…`.
    pub manifest: String,
    pub put_at: UnixMillis,
    /// The token that it was brought with; empty: a machine asked for it, and it was fetched from its registry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub put_by: String,
    /// When its registry was last asked what the name means, of one that was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<UnixMillis>,
}

fn key(name: &str) -> String {
    match (name.split_once('@'), name.rsplit_once(':')) {
        (Some((repository, digest)), _) => format!("{PREFIX}{repository}//@{digest}"),
        (None, Some((repository, tag))) => format!("{PREFIX}{repository}//{tag}"),
        (None, None) => format!("{PREFIX}{name}//"),
    }
}

/// The name that a key is of.
fn name_of(key: &str) -> String {
    match key.split_once("//") {
        Some((repository, digest)) if digest.starts_with('@') => format!("{repository}{digest}"),
        Some((repository, tag)) => format!("{repository}:{tag}"),
        None => key.to_owned(),
    }
}

/// What a name means; `None`: nothing.
///
/// # Errors
/// When the store cannot be read.
pub fn get(view: &View, name: &str) -> Result<Option<Image>, Error> {
    Ok(view.get::<Image>(&key(name))?.map(|found| found.value))
}

/// All names, in the order of their repositories.
///
/// # Errors
/// As [`get`].
pub fn all(view: &View) -> Result<Vec<(String, Image)>, Error> {
    let found: Vec<(String, Image)> = view.list(PREFIX)?;
    Ok(found
        .into_iter()
        .map(|(key, image)| (name_of(&key), image))
        .collect())
}

/// What a repository has: tags in their order, and digests, which begin with `@`.
///
/// # Errors
/// As [`get`].
pub fn of_repository(view: &View, registry: &str, repository: &str) -> Result<Vec<(String, Image)>, Error> {
    view.list(&format!("{PREFIX}{registry}/{repository}//"))
}

/// Gives an image a name, and takes it from whichever had it.
///
/// # Errors
/// [`Error::TooMuch`].
pub fn put(view: &View, name: &str, image: &Image) -> Result<Batch, Error> {
    let mut batch = Batch::default();
    let known: Option<Stored<Image>> = view.get(&key(name))?;
    if known.is_none() && all(view)?.len() >= MAX_IMAGES {
        return Err(Error::TooMuch(format!(
            "there are {MAX_IMAGES} images already: delete some that no template wants with `farrier registry delete`"
        )));
    }
    batch.expect(key(name), known.map(|known| known.modified));
    batch.put(key(name), image);
    Ok(batch)
}

/// Takes a name away.
///
/// # Errors
/// [`Error::NotFound`].
pub fn deletion(view: &View, name: &str) -> Result<Batch, Error> {
    let Some(known) = view.get::<Image>(&key(name))? else {
        return Err(Error::NotFound(format!(
            "the server's registry has no image {name}: `farrier registry list` shows those that it has"
        )));
    };
    let mut batch = Batch::default();
    batch.unchanged(key(name), known.modified);
    batch.delete(key(name));
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use store::{Commit, MemoryStore, Operation, Store};

    use super::*;
    use crate::database::read;

    fn image() -> Image {
        Image {
            manifest: format!("sha256:{}", "0".repeat(64)),
            put_at: 1,
            put_by: "admin".to_owned(),
            asked_at: None,
        }
    }

    fn with(names: impl Iterator<Item = String>) -> MemoryStore {
        let store = MemoryStore::default();
        let value = serde_json::to_vec(&image()).expect("json");
        let rows = names.map(|name| Operation::Put {
            key: key(&name).into(),
            value: value.clone().into(),
        });
        for rows in rows.collect::<Vec<_>>().chunks(100) {
            let commit = Commit {
                operations: rows.to_vec(),
                ..Commit::default()
            };
            store.commit(&commit).expect("committed");
        }
        store
    }

    #[test]
    fn there_are_ten_thousand_names_at_most() {
        let store = with((0..MAX_IMAGES).map(|n| format!("lab:5000/box:v{n}")));
        let put = |name: &str| read(&store, |view| put(view, name, &image()));
        let refused = put("lab:5000/box:one-more").map(drop).expect_err("too many");
        assert!(matches!(refused, Error::TooMuch(_)), "{refused}");
        assert!(
            put("lab:5000/box:v7").is_ok(),
            "a name that is there may be another image's"
        );
    }

    #[test]
    fn a_repository_has_its_own_tags_and_digests_and_names_come_back() {
        let digest = format!("lab:5000/box@sha256:{}", "1".repeat(64));
        let names = [
            &digest,
            "lab:5000/box:v1",
            "lab:5000/box:v2",
            "lab:5000/box/inner:v3",
            "lab:5000/boxes:v4",
        ];
        let store = with(names.iter().map(ToString::to_string));
        let found = read(&store, |view| of_repository(view, "lab:5000", "box")).expect("read");
        let found: Vec<&str> = found.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(found, [&digest[12..], "v1", "v2"]);
        let mut all: Vec<String> = read(&store, all)
            .expect("read")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        all.sort();
        let mut names = names.map(str::to_owned);
        names.sort();
        assert_eq!(all, names);
        assert!(
            read(&store, |view| get(view, "lab:5000/box:v2"))
                .expect("read")
                .is_some()
        );
        assert!(read(&store, |view| get(view, &digest)).expect("read").is_some());
    }
}
