//! The ephemeral data of workflows: every success merges once, into the newest version, in the commit of its report.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::v1;
use serde_json::Value;

#[derive(Default)]
pub(super) struct Data {
    /// What each attempt said that it changed: paths and digests, paths that are gone.
    brought: BTreeMap<String, Brought>,
    /// By root: the version, and what ought to be in it.
    newest: BTreeMap<String, (u64, BTreeMap<String, String>)>,
    /// Manifests that the present commit writes, by key.
    written: BTreeMap<String, Value>,
}

struct Brought {
    put: Vec<(String, String)>,
    deleted: Vec<String>,
}

impl Data {
    /// A commit is looked at.
    pub(super) fn begin<'a>(&mut self, puts: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) {
        self.written = puts
            .filter_map(|(key, value)| {
                let key = std::str::from_utf8(key)
                    .ok()
                    .filter(|key| key.starts_with("data/"))?;
                Some((key.to_owned(), serde_json::from_slice(value).ok()?))
            })
            .collect();
    }

    pub(super) fn brings(&mut self, attempt: &str, changes: Option<&v1::DataChanges>) {
        let Some(changes) = changes else {
            return;
        };
        let put = changes
            .put
            .iter()
            .map(|file| (file.path.clone(), file.sha256.clone()));
        let brought = Brought {
            put: put.collect(),
            deleted: changes.deleted.clone(),
        };
        self.brought.insert(attempt.to_owned(), brought);
    }

    /// A success is recorded, and with it what it brought.
    pub(super) fn succeeded(
        &mut self,
        root: &str,
        attempt: &str,
        version: Option<u64>,
    ) -> Result<(), String> {
        let Some(brought) = self.brought.get(attempt) else {
            return match version {
                None => Ok(()),
                Some(version) => Err(format!(
                    "it makes version {version} of the data, and brought none"
                )),
            };
        };
        let (newest, files) = self.newest.entry(root.to_owned()).or_default();
        if version != Some(*newest + 1) {
            return Err(format!("it makes version {version:?} of the data after {newest}"));
        }
        *newest += 1;
        files.extend(brought.put.iter().cloned());
        for path in &brought.deleted {
            files.remove(path);
        }
        let written = self.written.get(&format!("data/{root}/{newest:010}"));
        let digests = |manifest: &Value| -> Option<BTreeMap<String, String>> {
            let files = manifest.as_object()?.iter();
            files
                .map(|(path, file)| Some((path.clone(), file.get("sha256")?.as_str()?.to_owned())))
                .collect()
        };
        match written.and_then(digests) {
            Some(written) if written == *files => Ok(()),
            written => Err(format!(
                "version {newest} of the data is {written:?}, and ought to be {files:?}"
            )),
        }
    }
}
