//! Who an image's user is, by the account files of the present root, and what such a user is given.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::user::{self, User};

/// Paths of a workflow's data have 255 bytes at most.
const MAX_DEPTH: usize = 256;
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Whom `spec` means in the image that is the root of this thread.
///
/// # Errors
/// A file of accounts is none or cannot be read, or knows no such user; in words.
pub fn find_user(spec: &str) -> io::Result<User> {
    user::resolve(spec, &account_file(PASSWD)?, &account_file(GROUP)?).map_err(io::Error::other)
}

/// All that lies there becomes the user's. No link is followed, and no other file system entered: it is the agent's own.
///
/// # Errors
/// The kernel's.
pub fn give(at: &Path, user: &User) -> io::Result<()> {
    give_below(at, user, MAX_DEPTH)
}

fn give_below(at: &Path, user: &User, depth: usize) -> io::Result<()> {
    std::os::unix::fs::lchown(at, Some(user.uid), Some(user.gid))?;
    if depth > 0 && std::fs::symlink_metadata(at)?.is_dir() {
        for entry in std::fs::read_dir(at)? {
            give_below(&entry?.path(), user, depth - 1)?;
        }
    }
    Ok(())
}

/// Links in it lead nowhere else: the image is the root by now.
fn account_file(path: &str) -> io::Result<String> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        // An image need not have one.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        Err(e) => {
            return Err(io::Error::new(
                e.kind(),
                format!("reading {path} of the image failed: {e}"),
            ));
        }
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{path} of the image is no file")));
    }
    let mut text = Vec::new();
    file.take(user::MAX_FILE_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
