//! What `-f` gives: files, standard input, and folders of files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::read_file;
use crate::failure::Failure;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) text: String,
    /// Its name, for messages.
    pub(crate) source: String,
}

/// The files that are named, in this order; of a folder its `*.yaml` and `*.yml`, by name, and nothing else.
///
/// # Errors
/// What cannot be read, all of it; a folder without such a file; standard input named twice.
pub(crate) fn read(paths: &[String]) -> Result<Vec<Given>, Failure> {
    if paths.iter().filter(|path| *path == "-").count() > 1 {
        return Err(Failure::Usage(
            "-f - is standard input, and there is one: name it once".into(),
        ));
    }
    let (mut all, mut wrong, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for path in paths {
        let files = match Path::new(path).is_dir() {
            true => in_folder(Path::new(path)),
            false => Ok(vec![path.clone()]),
        };
        match files {
            // A folder and a file of it may both be named.
            Ok(files) => all.extend(files.into_iter().filter(|file| seen.insert(file.clone()))),
            Err(failure) => wrong.push(failure.to_string()),
        }
    }
    let mut given = Vec::new();
    for path in all {
        match read_file(&path) {
            Ok((text, source)) => given.push(Given { text, source }),
            Err(failure) => wrong.push(failure.to_string()),
        }
    }
    match wrong.is_empty() {
        true => Ok(given),
        false => Err(Failure::Failed(wrong.join("\n"))),
    }
}

fn in_folder(folder: &Path) -> Result<Vec<String>, Failure> {
    let unread = |error: std::io::Error| {
        Failure::Failed(format!("cannot read the folder {}: {error}", folder.display()))
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::Failed(format!(
            "the folder {} has no file *.yaml or *.yml, and others are not read: name the file itself",
            folder.display()
        )));
    }
    files.sort();
    Ok(files.iter().map(|path| path.display().to_string()).collect())
}
