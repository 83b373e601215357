//! Files that only their owner may read: keys, tokens, logins. They are there whole after a crash, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("it is no regular file")]
    NoFile,
    #[error("it may be read by others than its owner (mode {0:o})")]
    Open(u32),
}

/// What is in a file, at most `most` bytes; `None`: there is no file.
///
/// # Errors
/// When it is no regular file, may be read by others, or cannot be read as text.
pub fn read(path: &Path, most: u64) -> Result<Option<Zeroizing<String>>, NotPrivate> {
    // Before it is opened: a pipe in its place would be waited for.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(NotPrivate::NoFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(NotPrivate::Open(mode));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(most).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Writes a file that is not there yet.
///
/// # Errors
/// When it cannot be written, or is there already.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = unfinished(path, text)?;
    // Fails where there is one, which a rename would replace.
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    linked?;
    sync_name(path)
}

/// Writes a file in the place of the one that is there, if there is one. No reader sees anything between the two.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    fs::rename(unfinished(path, text)?, path)?;
    sync_name(path)
}

/// The file under another name beside its own.
fn unfinished(path: &Path, text: &str) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = folder(path).join(name);
    // What a crash has left.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(unfinished)
}

fn sync_name(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_there_is_never_replaced_unless_that_is_asked_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x");
        fs::write(dir.path().join("x.new"), "left by a crash").unwrap();
        write_new(&path, "one").unwrap();
        assert!(write_new(&path, "two").is_err());
        let text = || fs::read_to_string(&path).unwrap();
        assert_eq!(text(), "one");
        fs::write(dir.path().join("x.new"), "left by a crash").unwrap();
        replace(&path, "three").unwrap();
        assert_eq!(text(), "three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_what_its_owner_alone_may_read_is_taken() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("x");
        assert!(read(&path, 10).unwrap().is_none());
        write_new(&path, "0123456789").unwrap();
        assert_eq!(**read(&path, 10).unwrap().unwrap(), *"0123456789");
        assert_eq!(**read(&path, 4).unwrap().unwrap(), *"0123");
        for mode in [0o640, 0o604, 0o610, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path, 10), Err(NotPrivate::Open(said)) if said == mode));
        }
        assert!(matches!(read(dir.path(), 10), Err(NotPrivate::NoFile)));
    }
}
