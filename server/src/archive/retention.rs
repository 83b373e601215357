//! What goes for good: archived workflows that are old enough, keys of requests that were kept for their time, fetched images beyond their
//! bound, and blobs and detached values that nothing names.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use serde::de::IgnoredAny;
use store::blobs::Digest;
use uuid::Uuid;
use workflow::engine::UnixMillis;

use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::images;
use crate::tasks::caught;
use coordinator::Error;
use coordinator::archive::Archived;
use coordinator::data;
use coordinator::database::{Batch, View, detached};
use coordinator::last::Last;
use coordinator::machines;
use coordinator::steps::rows;

/// How often old workflows are looked for, at most.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// How often garbage is looked for.
const COLLECT: Duration = Duration::from_secs(24 * 60 * 60);
/// Blobs that were put since then, before the look began, may be named by a commit that is under way.
const YOUNG: Duration = Duration::from_secs(60 * 60);
/// Rows of archives read in one go.
const PAGE: usize = 200;

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(control: Weak<Inner>, keep: Option<Duration>, stopped: impl Future<Output = ()>) {
    let look = keep.map_or(LOOK, |keep| (keep / 10).clamp(Duration::from_millis(100), LOOK));
    let mut collected: Option<tokio::time::Instant> = None;
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(look) => {}
        }
        let Some(inner) = control.upgrade() else { return };
        let control = ControlPlane { inner };
        let work = async {
            if let Err(error) = control.forget_keys().await {
                say(
                    "keys of requests that were kept for their time cannot be deleted now",
                    &error,
                );
            }
            if let Some(keep) = keep
                && let Err(error) = control.delete_old(keep).await
            {
                say("old workflows cannot be deleted now", &error);
            }
            if let Some(most_bytes) = control.inner.config.registry_keep
                && let Err(error) = control.keep_within(most_bytes, images::YOUNG).await
            {
                say("fetched images cannot be kept within their bound now", &error);
            }
            if collected.is_none_or(|at| at.elapsed() >= COLLECT) {
                collected = Some(tokio::time::Instant::now());
                if let Err(error) = control.forget_orphans(YOUNG).await {
                    say(
                        "pieces of values that no row has cannot be looked for now",
                        &error,
                    );
                }
                match control.collect_garbage(YOUNG).await {
                    Ok(0) => {}
                    Ok(count) => tracing::info!(count, "blobs that nothing named were deleted"),
                    Err(error) => say("blobs that nothing names cannot be looked for now", &error),
                }
                match control.collect_images(images::YOUNG).await {
                    Ok(0) => {}
                    Ok(count) => tracing::info!(count, "contents of images that nothing named were deleted"),
                    Err(error) => say(
                        "contents of images that nothing names cannot be looked for now",
                        &error,
                    ),
                }
            }
        };
        // All of it may be broken off anywhere.
        tokio::select! {
            _ = caught("deleting what is old", work) => {}
            () = &mut stopped => return,
        }
    }
}

fn say(what: &str, error: &Error) {
    tracing::error!(error = error as &dyn std::error::Error, "{what}");
}

impl ControlPlane {
    /// Deletes archived workflows that ended longer than `keep` ago, but for the last of each machine: what it boots goes
    /// by that one.
    ///
    /// The cost is that of those which were made before, as ids are in order of time.
    pub(crate) async fn delete_old(&self, keep: Duration) -> Result<u64, Error> {
        let keep_ms = UnixMillis::try_from(keep.as_millis()).unwrap_or(UnixMillis::MAX);
        let before = clock::now().saturating_sub(keep_ms);
        let kept = self.inner.db.with(last_ones).await?;
        let mut from = String::from("archived/");
        let mut deleted = 0;
        loop {
            let start = from.clone();
            let page = self.inner.db.with(move |view| archives(view, &start)).await?;
            let Some((last, _)) = page.last() else {
                return Ok(deleted);
            };
            from = format!("archived/{last}\0");
            for (id, archived) in page {
                let head = &archived.head;
                if head.parent.is_some() {
                    continue;
                }
                if head.created_at >= before {
                    return Ok(deleted);
                }
                if head.ended_at.is_some_and(|ended| ended < before) && !kept.contains(&id) {
                    tracing::info!(workflow = id, "an old workflow is deleted");
                    match self.delete_old_workflow(&id).await {
                        Ok(()) => deleted += 1,
                        // The others are old all the same.
                        Err(error) => say(&format!("old workflow {id} cannot be deleted now"), &error),
                    }
                }
            }
        }
    }

    /// Deletes detached values of workflows that there are not, which were to be made longer than `young` ago: another
    /// request made them first, or the server was killed in between. Says of how many workflows.
    pub(crate) async fn forget_orphans(&self, young: Duration) -> Result<u64, Error> {
        let young_ms = UnixMillis::try_from(young.as_millis()).unwrap_or(UnixMillis::MAX);
        let before = clock::now().saturating_sub(young_ms);
        let (mut from, mut forgotten) = (detached::PREFIX.to_owned(), 0);
        loop {
            let start = from.clone();
            let next = self.inner.db.with(move |view| {
                let Some(id) = detached::workflow_from(view, &start)? else {
                    return Ok(None);
                };
                // One that is brought back has its row in the archive to the end.
                let is_there = view.get::<IgnoredAny>(&rows::head(&id))?.is_some()
                    || view.get::<IgnoredAny>(&coordinator::archive::key(&id))?.is_some();
                Ok(Some((id, is_there)))
            });
            let Some((id, is_there)) = next.await? else {
                return Ok(forgotten);
            };
            from = detached::behind(&id);
            let is_old = made_at(&id).is_some_and(|made_at| made_at < before);
            if is_old && !is_there {
                let mut batch = Batch::default();
                batch.absent(rows::head(&id));
                batch.absent(coordinator::archive::key(&id));
                batch.delete_below(&detached::below(&id));
                match self.inner.db.commit(batch).await {
                    Ok(_) => forgotten += 1,
                    Err(error) => say(&format!("pieces of values of {id} cannot be deleted now"), &error),
                }
            }
        }
    }

    /// Deletes blobs that no workflow names, if they were last put longer than `young` ago; says how many.
    pub(crate) async fn collect_garbage(&self, young: Duration) -> Result<u64, Error> {
        let before = SystemTime::now()
            .checked_sub(young)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let used = self.inner.db.with(|view| {
            let mut used = used_by_archives(view)?;
            for digest in data::versions::all_contents(view.rows())? {
                used.insert(data::blob_of(&digest)?);
            }
            Ok(used)
        });
        let used = used.await?;
        let blobs = &self.inner.config.blobs;
        let all: Vec<_> = blobs.list().try_collect().await?;
        let mut deleted = 0;
        for blob in all {
            if blob.put_at < before
                && !used.contains(&blob.digest)
                && blobs.delete_unused(&blob.digest, before).await?
            {
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// When a workflow's id was made, which is a UUIDv7.
fn made_at(id: &str) -> Option<UnixMillis> {
    let (seconds, _) = Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    seconds.checked_mul(1000)
}

/// The workflow that ended last on each machine that there is.
fn last_ones(view: &View) -> Result<BTreeSet<String>, Error> {
    let mut ids = BTreeSet::new();
    for (machine, last) in view.list::<Last>("last/")? {
        if !ids.contains(&last.id) && machines::namespace_of(view, &machine)?.is_some() {
            ids.insert(last.id);
        }
    }
    Ok(ids)
}

fn archives(view: &View, from: &str) -> Result<Vec<(String, Archived)>, Error> {
    view.page("archived/", from, PAGE)
}

fn used_by_archives(view: &View) -> Result<BTreeSet<Digest>, Error> {
    let mut used = BTreeSet::new();
    let mut from = String::from("archived/");
    loop {
        let page = archives(view, &from)?;
        let Some((last, _)) = page.last() else {
            return Ok(used);
        };
        from = format!("archived/{last}\0");
        for (_, archived) in &page {
            used.extend(archived.parts.iter().map(|part| part.blob));
        }
    }
}

#[cfg(test)]
mod tests {
    use store::blobs::Blobs;
    use store::{Commit, MemoryStore, Operation, StoreHandle};

    use super::*;
    use crate::Config;

    #[tokio::test(flavor = "multi_thread")]
    async fn blobs_that_nothing_names_are_deleted_when_they_are_old_enough() {
        let blobs = Blobs::in_memory();
        let mut named = Vec::new();
        for content in ["an archive", "data", "garbage", "more garbage"] {
            named.push(blobs.put(content).await.unwrap());
        }
        let put = |key: &str, value: String| Operation::Put {
            key: key.to_owned().into(),
            value: value.into(),
        };
        let head = r#"{"id":"w","name":"w","template":"","state":"SUCCESS","run":1,"tasks":[],"created_at":0,
            "started_at":null,"ended_at":1,"last_event":1,"last_at":1}"#;
        let archived = format!(
            r#"{{"head":{head},"tasks":[],"parts":[{{"first":"a","blob":"{}"}}]}}"#,
            named[0]
        );
        let manifest = format!(r#"{{"a":{{"sha256":"{}","size_bytes":4}}}}"#, named[1]);
        let store = MemoryStore::default();
        let commit = Commit {
            operations: vec![put("archived/w", archived), put("data/v/0000000001", manifest)],
            ..Commit::default()
        };
        store::Store::commit(&store, &commit).unwrap();
        let config = Config {
            blobs: blobs.clone(),
            ..Config::default()
        };
        let control = ControlPlane::open(StoreHandle::new(store), config).await.unwrap();
        assert_eq!(control.collect_garbage(YOUNG).await.unwrap(), 0);
        assert_eq!(control.collect_garbage(Duration::ZERO).await.unwrap(), 2);
        let there = async |n: usize| blobs.exists(&named[n]).await.unwrap();
        assert!(there(0).await && there(1).await);
        assert!(!there(2).await && !there(3).await);
        control.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn detached_values_of_workflows_that_are_not_there_go_when_they_are_old() {
        let store = MemoryStore::default();
        let ids: [String; 3] = std::array::from_fn(|_| Uuid::now_v7().to_string());
        let old = "01890a5d-ac96-774b-bcce-b302099a8057";
        let all: Vec<&str> = ids.iter().map(String::as_str).chain([old, "w"]).collect();
        let mut keys: Vec<String> = all.iter().map(|id| format!("detached/{id}/d/00000")).collect();
        keys.push(format!("detached/{old}/d/00001"));
        keys.push(format!("workflow/{}", ids[1]));
        keys.push(coordinator::archive::key(&ids[2]));
        let head = "{\"id\":\"w\",\"name\":\"w\",\"template\":\"\",\"state\":\"SUCCESS\",\"run\":1,\"tasks\":[],\
                    \"created_at\":0,\"started_at\":null,\"ended_at\":1,\"last_event\":1,\"last_at\":1}";
        let value = |key: &str| match key.split('/').next() {
            Some("archived") => format!("{{\"head\":{head},\"tasks\":[],\"parts\":[]}}"),
            Some("workflow") => head.to_owned(),
            _ => "1".to_owned(),
        };
        let operations = keys.iter().map(|key| Operation::Put {
            key: key.clone().into(),
            value: value(key).into(),
        });
        let commit = Commit {
            operations: operations.collect(),
            ..Commit::default()
        };
        store::Store::commit(&store, &commit).unwrap();
        let control = ControlPlane::open(StoreHandle::new(store), Config::default())
            .await
            .unwrap();
        let left = async || {
            let rows = control
                .inner
                .db
                .list::<IgnoredAny>("detached/".into())
                .await
                .unwrap();
            let ids = rows
                .into_iter()
                .filter_map(|(key, _)| Some(key.split_once('/')?.0.to_owned()));
            ids.collect::<Vec<_>>()
        };
        let sorted = |ids: &[&str]| {
            let mut ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(control.forget_orphans(YOUNG).await.unwrap(), 1);
        assert_eq!(left().await, sorted(&[&ids[0], &ids[1], &ids[2], "w"]));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(control.forget_orphans(Duration::ZERO).await.unwrap(), 1);
        assert_eq!(left().await, sorted(&[&ids[1], &ids[2], "w"]));
        control.close().await;
    }
}
