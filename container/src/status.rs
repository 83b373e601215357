//! How an action ended, as its keeper leaves it for whoever started it: a file with one JSON value.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The longest one that is read.
const MAX_BYTES: u64 = 64 << 10;

/// How the action's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Exited {
        code: i32,
    },
    Killed {
        signal: i32,
    },
    /// It never ran. The code is 127 where the image has no such program, else 126, as shells say it.
    NotStarted {
        code: i32,
        message: String,
    },
}

/// What the keeper left in the file.
///
/// # Errors
/// There is none: the keeper was killed before it could tell. Or it is not one of ours.
pub fn read(file: &Path) -> io::Result<Ended> {
    let mut text = Vec::new();
    File::open(file)?.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

pub(crate) fn write(file: &Path, ended: &Ended) -> io::Result<()> {
    std::fs::write(file, serde_json::to_vec(ended)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_no_end() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("status");
        assert!(read(&file).is_err());
        let ended = Ended::NotStarted {
            code: 127,
            message: "no such program".to_owned(),
        };
        write(&file, &ended).expect("written");
        assert_eq!(read(&file).expect("read"), ended);
        std::fs::write(&file, "").expect("emptied");
        assert!(read(&file).is_err());
    }
}
