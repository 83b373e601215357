//! `/workflow/<workflow id>`: the folder of the data under a second name, as Tinkerbell has it.
//!
//! It is a link in the folder to the folder itself, and no part of the data: whatever looks for files by name finds each
//! once, and clearing the folder takes it away without an error, as a mount in its place would not let it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use ephemeral::DataPath;

use super::DataError;
use super::tree::Tree;

/// Where the link leads: a path from the folder on, so that it is right wherever the folder is shown.
const TARGET: &str = ".";

/// One component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecondName(DataPath);

impl SecondName {
    /// The workflow's id, as a server says it; none when it says none.
    ///
    /// # Errors
    /// `DataBadName`: it is no single name of a file.
    pub(crate) fn of(workflow_id: &str) -> Result<Option<SecondName>, DataError> {
        if workflow_id.is_empty() {
            return Ok(None);
        }
        match workflow_id.parse::<DataPath>() {
            Ok(path) if path.parents().next().is_none() => Ok(Some(SecondName(path))),
            _ => {
                let shown: String = workflow_id.chars().take(80).collect();
                Err(DataError::new(
                    "DataBadName",
                    format!(
                        "the server's id of the workflow, {shown:?}, is no name of a file, so there can be no /workflow/<id>: \
                         netboot the machine with the agent of that server"
                    ),
                ))
            }
        }
    }

    /// Makes the link, unless the data have something of that name: they go before it. Whether it is there.
    pub(crate) fn make(&self, folder: &Path, given: &Tree) -> io::Result<bool> {
        let name = self.0.as_str();
        let taken = |path: &DataPath| path.as_str().split('/').next() == Some(name);
        if given.files.keys().any(taken) {
            return Ok(false);
        }
        std::os::unix::fs::symlink(TARGET, folder.join(name))?;
        Ok(true)
    }

    pub(super) fn is(&self, name: &OsStr) -> bool {
        name == self.0.as_str()
    }

    /// Whether it is as it was made. Follows nothing.
    ///
    /// # Errors
    /// `DataBadName`: an action has put something else there.
    pub(super) fn judge(&self, at: &Path) -> Result<(), DataError> {
        if std::fs::read_link(at).is_ok_and(|target| target == Path::new(TARGET)) {
            return Ok(());
        }
        Err(DataError::new(
            "DataBadName",
            format!(
                "/workflow/{} is /workflow itself under a second name, and what an action makes in its place is not handed over: \
                 give it another name",
                self.0
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tree::Content;

    fn name(workflow_id: &str) -> SecondName {
        SecondName::of(workflow_id).expect("a name").expect("one")
    }

    fn given(paths: &[&str]) -> Tree {
        let files = paths
            .iter()
            .map(|path| (path.parse().expect("path"), Content::new(vec![1], false)));
        Tree {
            files: files.collect(),
        }
    }

    #[test]
    fn an_id_is_one_name_or_refused() {
        assert_eq!(SecondName::of(""), Ok(None));
        assert_eq!(name("0199-ab").0.as_str(), "0199-ab");
        let long = "x".repeat(256);
        for bad in [
            "..", ".", "/", "a/b", "../etc", "/etc", "a/", "a\nb", "a\0b", &long,
        ] {
            let refused = SecondName::of(bad).expect_err(bad);
            assert_eq!(refused.reason, "DataBadName", "{bad:?}");
            assert!(refused.message.contains("no name of a file"), "{refused}");
            assert!(refused.message.len() < 400, "{refused}");
        }
    }

    #[test]
    fn it_shows_the_folder_wherever_that_is_and_is_no_part_of_the_data() {
        let folder = tempfile::tempdir().expect("folder");
        let own = name("w1");
        assert!(own.make(folder.path(), &Tree::default()).expect("made"));
        std::fs::write(folder.path().join("w1/x"), "1").expect("written");
        assert_eq!(std::fs::read(folder.path().join("x")).expect("read"), b"1");
        let moved = folder.path().with_extension("moved");
        std::fs::rename(folder.path(), &moved).expect("moved");
        assert_eq!(std::fs::read(moved.join("w1/x")).expect("read"), b"1");
        let read = Tree::read(&moved, Some(&own)).expect("read");
        assert_eq!(read.files.keys().map(DataPath::as_str).collect::<Vec<_>>(), ["x"]);
        // Without knowing of it, or by another name, it is a link like any other.
        assert_eq!(
            Tree::read(&moved, None).expect_err("a link").reason,
            "DataNotRegular"
        );
        assert!(Tree::read(&moved, Some(&name("w2"))).is_err());
        // Only at the top: elsewhere the name is a name.
        std::fs::create_dir_all(moved.join("a/w1")).expect("folder");
        std::fs::write(moved.join("a/w1/y"), "2").expect("written");
        let read = Tree::read(&moved, Some(&own)).expect("read");
        assert_eq!(read.files.len(), 2);
        // It may be gone, as after `rm -rf /workflow/*`.
        std::fs::remove_file(moved.join("w1")).expect("removed");
        assert_eq!(Tree::read(&moved, Some(&own)).expect("read").files.len(), 2);
        std::fs::remove_dir_all(&moved).expect("removed");
    }

    #[test]
    fn what_the_data_have_of_that_name_goes_before_it() {
        let taken: [&[&str]; 2] = [&["a", "w1"], &["w1/x/y"]];
        for paths in taken {
            let folder = tempfile::tempdir().expect("folder");
            let given = given(paths);
            given.write(folder.path()).expect("written");
            assert!(!name("w1").make(folder.path(), &given).expect("looked"));
            assert_eq!(Tree::read(folder.path(), None), Ok(given));
        }
        let folder = tempfile::tempdir().expect("folder");
        let beside = given(&["w11", "a/w1", "W1"]);
        beside.write(folder.path()).expect("written");
        assert!(name("w1").make(folder.path(), &beside).expect("made"));
        assert_eq!(Tree::read(folder.path(), Some(&name("w1"))), Ok(beside));
    }

    #[test]
    fn what_an_action_puts_in_its_place_is_refused_and_not_followed() {
        let own = name("w1");
        let makes: [fn(&Path); 5] = [
            |at| std::fs::write(at, "mine").expect("file"),
            |at| std::fs::create_dir(at).expect("folder"),
            |at| std::os::unix::fs::symlink("..", at).expect("link"),
            |at| std::os::unix::fs::symlink("/etc", at).expect("link"),
            |at| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).expect("pipe"),
        ];
        for make in makes {
            let folder = tempfile::tempdir().expect("folder");
            std::fs::write(folder.path().join("x"), "1").expect("written");
            make(&folder.path().join("w1"));
            let refused = Tree::read(folder.path(), Some(&own)).expect_err("another");
            assert_eq!(refused.reason, "DataBadName", "{refused}");
            assert!(
                refused.message.contains("/workflow/w1") && refused.message.contains("another name"),
                "{refused}"
            );
        }
    }
}
