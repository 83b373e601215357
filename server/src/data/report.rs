//! What an agent says that an action changed, judged. Pure: trusts no number, no digest and no path.

use std::collections::BTreeMap;

use bytes::Bytes;
use ephemeral::{BadDigest, BadPath, Changes, DataPath, Digest, File, MAX_FILES};
use proto::v1;

use coordinator::data::{Changed, Refused};

/// Changes as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) changed: Changed,
    /// Contents that came in the report.
    pub(crate) inline: BTreeMap<Digest, Bytes>,
    /// Contents that were stored before, and their sizes.
    pub(crate) stored: BTreeMap<Digest, u64>,
}

/// Reads changes.
///
/// # Errors
/// `DataRefused`: no agent of ours says such a thing; names the path and what is wrong.
pub(crate) fn read(changes: v1::DataChanges) -> Result<Announced, Refused> {
    // A change of every file away, and of every file to come.
    if changes.put.len() > MAX_FILES || changes.deleted.len() > MAX_FILES {
        return Err(refused(format!(
            "{} files are put and {} deleted, at most {MAX_FILES} each",
            changes.put.len(),
            changes.deleted.len()
        )));
    }
    let mut announced = Announced {
        changed: Changed {
            base_version: changes.base_version,
            changes: Changes::default(),
        },
        inline: BTreeMap::new(),
        stored: BTreeMap::new(),
    };
    for file in changes.put {
        let (path, file, content) = read_file(file)?;
        match content {
            Some(content) => drop(announced.inline.insert(file.sha256, content)),
            None => drop(announced.stored.insert(file.sha256, file.size_bytes)),
        }
        announced.changed.changes.put.insert(path, file);
    }
    for path in changes.deleted {
        let path = read_path(&path)?;
        announced.changed.changes.deleted.insert(path);
    }
    let inline = &announced.inline;
    announced.stored.retain(|digest, _| !inline.contains_key(digest));
    Ok(announced)
}

fn read_file(file: v1::DataFile) -> Result<(DataPath, File, Option<Bytes>), Refused> {
    let path = read_path(&file.path)?;
    let sha256: Digest = file
        .sha256
        .parse()
        .map_err(|e: BadDigest| refused(format!("{path}: {e}")))?;
    let known = File {
        sha256,
        size_bytes: file.size_bytes,
        executable: file.executable,
    };
    if file.content.is_empty() && file.size_bytes > 0 {
        return Ok((path, known, None));
    }
    if file.content.len() as u64 != file.size_bytes || Digest::of(&file.content) != sha256 {
        return Err(refused(format!(
            "the content of {path} is not of the size and digest that are said of it"
        )));
    }
    Ok((path, known, Some(file.content.into())))
}

fn read_path(path: &str) -> Result<DataPath, Refused> {
    path.parse().map_err(|e: BadPath| refused(e.to_string()))
}

fn refused(why: String) -> Refused {
    Refused {
        reason: "DataRefused",
        message: format!("what the agent reports of the workflow's data makes no sense: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> v1::DataFile {
        v1::DataFile {
            path: path.into(),
            size_bytes: content.len() as u64,
            sha256: Digest::of(content).to_string(),
            executable: false,
            content: content.to_vec(),
        }
    }

    fn changes(put: Vec<v1::DataFile>) -> v1::DataChanges {
        v1::DataChanges {
            base_version: 3,
            put,
            deleted: vec!["gone".into()],
        }
    }

    #[test]
    fn contents_are_in_the_report_or_were_stored_before() {
        let mut large = file("large", b"12345");
        large.content.clear();
        // The same content under another path is there.
        let mut copy = file("copy", b"1");
        copy.content.clear();
        let announced = read(changes(vec![file("a/b", b"1"), file("empty", b""), large, copy])).unwrap();
        assert_eq!(announced.changed.base_version, 3);
        assert_eq!(announced.changed.changes.put.len(), 4);
        assert_eq!(announced.changed.changes.deleted.len(), 1);
        assert_eq!(announced.inline.len(), 2);
        assert_eq!(announced.stored, BTreeMap::from([(Digest::of(b"12345"), 5)]));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let with = |change: fn(&mut v1::DataFile)| {
            let mut file = file("a", b"1");
            change(&mut file);
            read(changes(vec![file])).unwrap_err().message
        };
        assert!(with(|file| file.path = "../a".into()).contains("../a"));
        assert!(with(|file| file.sha256 = "x".into()).contains("a: \"x\" is no SHA-256"));
        assert!(with(|file| file.size_bytes = 2).contains("content of a"));
        assert!(with(|file| file.content = b"2".to_vec()).contains("content of a"));
        let mut twisted = changes(vec![]);
        twisted.deleted.push("/etc".into());
        assert!(read(twisted).unwrap_err().message.contains("/etc"));
        let many = (0..=MAX_FILES).map(|n| file(&n.to_string(), b"")).collect();
        assert!(read(changes(many)).unwrap_err().message.contains("1001 files"));
    }
}
