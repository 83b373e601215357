//! Whether a store is sound, and what it holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;

use super::read_only::ReadOnly;
use super::{FILE, OfflineError, Progress, blobs_as_they_are, runtime};
use crate::blobs::{BlobError, Blobs, Digest};
use crate::formats::{self, RowFormats};
use crate::{KeyValue, StoreError};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub file: PathBuf,
    pub file_bytes: u64,
    pub revision: u64,
    /// What the rows are in, as the store says.
    pub rows: RowFormats,
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
    let mut stamp = None;
    let Examined {
        revision,
        keys,
        segments,
        mut problems,
        mut named,
    } = examine(&mut ReadOnly::open(data)?, names, progress, &mut |row| {
        if row.key == formats::KEY {
            stamp = Some(row.clone());
        }
    });
    let rows = RowFormats::read(stamp.as_ref()).unwrap_or_else(|error| {
        problems.push(message_of(&error));
        RowFormats::only(1, "")
    });
    let blobs = match blobs_as_they_are(data)? {
        Some(blobs) => runtime()?.block_on(check_blobs(&blobs, &mut named, progress))?,
        None => BlobsReport::default(),
    };
    problems.extend(missing_blobs(&named));
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
        rows,
        keys,
        segments,
        blobs,
        problems,
    })
}

/// Reads all of the store's file in `data`, where there is one, and refuses what [`check`] finds something wrong with.
///
/// Changes nothing, and reads no blob: a blob is verified whenever it is read.
///
/// # Errors
/// [`StoreError::Corrupt`] with the first thing that is wrong.
pub fn verify(data: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), OfflineError> {
    let mut store = match ReadOnly::open(data) {
        Err(OfflineError::NotFound { .. }) => return Ok(()),
        store => store?,
    };
    let mut problems = examine(&mut store, &|_| Named::default(), progress, &mut |_| {}).problems;
    if problems.is_empty() {
        return Ok(());
    }
    let path = data.join(FILE);
    let message = in_short(&mut problems);
    Err(StoreError::Corrupt { path, message }.into())
}

/// The first problem, and how many there are more.
pub(super) fn in_short(problems: &mut Vec<String>) -> String {
    let first = problems.remove(0);
    match problems.len() {
        0 => first,
        more => format!("{first} (and {more} more, which `farrier store check` names)"),
    }
}

/// What the rows are, and what is wrong in the file and in what they name.
pub(super) struct Examined {
    pub(super) revision: u64,
    pub(super) keys: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) problems: Vec<String>,
    /// Blobs that rows name, each with the first row that does.
    pub(super) named: BTreeMap<Digest, Bytes>,
}

/// Looks at all of the file: every page, every row, and the keys that rows name. Calls `each` for every sound row.
pub(super) fn examine(
    store: &mut ReadOnly,
    names: Names<'_>,
    progress: &mut dyn FnMut(Progress),
    each: &mut dyn FnMut(&KeyValue),
) -> Examined {
    let mut problems: Vec<String> = store.integrity().into_iter().collect();
    let mut or_problem = |read: Result<u64, StoreError>| {
        read.map_err(|error| problems.push(message_of(&error)))
            .unwrap_or(0)
    };
    let (total, revision) = (or_problem(store.count()), or_problem(store.revision()));
    let mut segments: BTreeMap<String, Segment> = BTreeMap::new();
    let mut keys = 0;
    let mut named: BTreeMap<Digest, Bytes> = BTreeMap::new();
    let mut named_keys: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let walked = store.walk(|row| {
        keys += 1;
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                problems.push(message_of(&error));
                return Ok(());
            }
        };
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
        each(row);
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
        let walked = store.walk(|row| {
            if let Ok(row) = row {
                named_keys.remove(&row.key);
            }
            Ok(())
        });
        problems.extend(walked.err().map(|error| error.to_string()));
        let missing = named_keys.iter().map(|(missing, key)| {
            let [missing, key] = [missing, key].map(|key| String::from_utf8_lossy(key));
            format!("key {missing} is missing: {key} names it")
        });
        problems.extend(missing);
    }
    Examined {
        revision,
        keys,
        segments: segments.into_values().collect(),
        problems,
        named,
    }
}

/// Without the file and the cure, which whoever puts problems together says once.
fn message_of(error: &StoreError) -> String {
    match error {
        StoreError::Corrupt { message, .. } => message.clone(),
        StoreError::Damaged { key, .. } => {
            let key = String::from_utf8_lossy(key);
            format!("key {key} is damaged: its checksum does not match")
        }
        error => error.to_string(),
    }
}

/// What is wrong when these blobs, which rows name, are not there.
pub(super) fn missing_blobs(named: &BTreeMap<Digest, Bytes>) -> impl Iterator<Item = String> {
    named.iter().map(|(digest, key)| {
        let key = String::from_utf8_lossy(key);
        format!("blob {digest} is missing: {key} names it")
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
