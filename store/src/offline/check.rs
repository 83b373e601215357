//! Whether a store is sound, and what it holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;

use super::read_only::ReadOnly;
use super::{FILE, OfflineError, Progress, blobs_as_they_are, runtime};
use crate::KeyValue;
use crate::blobs::{BlobError, Blobs, Digest};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub file: PathBuf,
    pub file_bytes: u64,
    pub revision: u64,
    pub keys: u64,
    /// Keys by their first segment, in order.
    pub segments: Vec<Segment>,
    pub blobs: BlobsReport,
    /// What is wrong, in words; nothing when the store is sound.
    pub problems: Vec<String>,
}

/// Keys that begin alike: up to their first slash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    pub name: String,
    pub keys: u64,
    pub key_bytes: u64,
    pub value_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlobsReport {
    pub blobs: u64,
    pub bytes: u64,
    pub damaged: Vec<Digest>,
    /// Named by a row, and not there.
    pub missing: Vec<Digest>,
    /// Named by no row: they are garbage, or were put for a commit that a crash prevented.
    pub unnamed: u64,
}

/// What a row names, which has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub blobs: Vec<Digest>,
    pub keys: Vec<Bytes>,
}

/// What a row names: what the rows mean is their owner's to know.
pub type Names<'a> = &'a dyn Fn(&KeyValue) -> Named;

/// Reads all of the store in `data` and every blob, and looks for keys and blobs that rows name. Changes nothing.
pub fn check(
    data: &Path,
    names: Names<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, OfflineError> {
    let file = data.join(FILE);
    let mut store = ReadOnly::open(data)?;
    let mut problems: Vec<String> = store
        .integrity()
        .map(|what| format!("{}: {what}", file.display()))
        .into_iter()
        .collect();
    let total = store.count()?;
    let revision = store.revision()?;
    let mut segments: BTreeMap<String, Segment> = BTreeMap::new();
    let mut keys = 0;
    // With the first row that names each.
    let mut named: BTreeMap<Digest, Bytes> = BTreeMap::new();
    let mut named_keys: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let walked = store.walk(|row| {
        keys += 1;
        if row.modified > revision {
            problems.push(format!(
                "key {:?} has revision {}, the store only {revision}",
                row.key, row.modified
            ));
        }
        let names = names(row);
        for digest in names.blobs {
            named.entry(digest).or_insert_with(|| row.key.clone());
        }
        let keys_of = names.keys.into_iter().map(|key| (key, row.key.clone()));
        named_keys.extend(keys_of);
        let name = segment_of(&row.key);
        let segment = segments.entry(name.clone()).or_insert(Segment {
            name,
            keys: 0,
            key_bytes: 0,
            value_bytes: 0,
        });
        segment.keys += 1;
        segment.key_bytes += row.key.len() as u64;
        segment.value_bytes += row.value.len() as u64;
        progress(Progress {
            what: "keys",
            done: keys,
            total,
        });
        Ok(())
    });
    if let Err(error) = walked {
        problems.push(error.to_string());
    } else if keys != total {
        problems.push(format!("{keys} keys are there, {total} should be"));
    } else if !named_keys.is_empty() {
        store.walk(|row| {
            named_keys.remove(&row.key);
            Ok(())
        })?;
    }
    let missing = named_keys.iter().map(|(missing, key)| {
        let [missing, key] = [missing, key].map(|key| String::from_utf8_lossy(key));
        format!("key {missing} is missing: {key} names it")
    });
    problems.extend(missing);
    let blobs = match blobs_as_they_are(data)? {
        Some(blobs) => runtime()?.block_on(check_blobs(&blobs, &mut named, progress))?,
        None => BlobsReport::default(),
    };
    let missing = named.iter().map(|(digest, key)| {
        let key = String::from_utf8_lossy(key);
        format!("blob {digest} is missing: {key} names it")
    });
    problems.extend(missing);
    let blobs = BlobsReport {
        missing: named.into_keys().collect(),
        ..blobs
    };
    let damaged = blobs
        .damaged
        .iter()
        .map(|digest| format!("blob {digest} is damaged"));
    problems.extend(damaged);
    Ok(Report {
        file_bytes: std::fs::metadata(&file)
            .map_err(|error| OfflineError::io("read", &file, error))?
            .len(),
        file,
        revision,
        keys,
        segments: segments.into_values().collect(),
        blobs,
        problems,
    })
}

/// Takes those that are there out of `named`.
async fn check_blobs(
    blobs: &Blobs,
    named: &mut BTreeMap<Digest, Bytes>,
    progress: &mut dyn FnMut(Progress),
) -> Result<BlobsReport, OfflineError> {
    let mut report = BlobsReport::default();
    let mut list = blobs.list();
    while let Some(info) = list.next().await {
        let digest = info?.digest;
        let (len_bytes, mut chunks) = blobs.read(&digest).await?;
        report.blobs += 1;
        report.bytes += len_bytes;
        report.unnamed += u64::from(named.remove(&digest).is_none());
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(_) => {}
                Err(BlobError::Damaged { .. }) => report.damaged.push(digest),
                Err(error) => return Err(error.into()),
            }
        }
        progress(Progress {
            what: "blobs",
            done: report.blobs,
            total: 0,
        });
    }
    report.damaged.sort_unstable();
    Ok(report)
}

fn segment_of(key: &[u8]) -> String {
    let segment = key.split(|byte| *byte == b'/').next().unwrap_or_default();
    match std::str::from_utf8(segment) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => "(not text)".into(),
    }
}
