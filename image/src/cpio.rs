//! Writes cpio archives in the `newc` format, which the Linux kernel unpacks as initramfs.
//!
//! The same tree always gives the same bytes: entries are sorted by path, inode numbers count up from one,
//! owners are root and times are zero.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// A tree of files to be written as one archive.
#[derive(Debug, Default)]
pub struct Tree {
    /// INVARIANT: keys are relative paths with normal components only, and every parent is there as a directory.
    nodes: BTreeMap<String, Node>,
}

/// What is at one path of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A character device.
    CharacterDevice {
        permissions: u32,
        major: u32,
        minor: u32,
    },
    /// A directory.
    Directory { permissions: u32 },
    /// A regular file.
    File { permissions: u32, content: Vec<u8> },
    /// A symbolic link to `target`.
    Symlink { target: String },
}

/// Why a path cannot be put into a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path is empty or absolute, or has `.`, `..` or a NUL in it.
    #[error("{path:?} is not a plain relative path")]
    BadPath { path: String },
    /// A parent of the path is there and is not a directory.
    #[error("{path:?} cannot be added: {parent:?} is not a directory")]
    ParentIsNoDirectory { path: String, parent: String },
}

impl Tree {
    /// Puts `node` at `path`, over what was there, and makes the parents that are missing (mode 0755).
    ///
    /// # Errors
    /// [`TreeError`] if the path is not plain and relative, or leads through something that is no directory.
    pub fn add(&mut self, path: &str, node: Node) -> Result<(), TreeError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if !path.split('/').all(plain) {
            return Err(TreeError::BadPath {
                path: path.to_string(),
            });
        }
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            let there = self
                .nodes
                .entry(parent.to_string())
                .or_insert(Node::Directory { permissions: 0o755 });
            if !matches!(there, Node::Directory { .. }) {
                return Err(TreeError::ParentIsNoDirectory {
                    path: path.to_string(),
                    parent: parent.to_string(),
                });
            }
        }
        self.nodes.insert(path.to_string(), node);
        Ok(())
    }

    /// Returns the paths and nodes in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Returns about how many bytes [`Tree::write_to`] will write.
    pub fn len_bytes(&self) -> u64 {
        self.nodes
            .iter()
            .map(|(path, node)| (HEADER_LEN + path.len() + node.content().len() + 6) as u64)
            .sum()
    }

    /// Writes the archive with its trailer, padded to a multiple of 512 bytes.
    ///
    /// # Errors
    /// What the writer gives, and [`io::ErrorKind::InvalidInput`] for a file of 4 GiB or more, which the
    /// format cannot hold.
    pub fn write_to(&self, output: impl Write) -> io::Result<()> {
        let mut archive = Archive {
            output,
            written: 0,
            inode: 0,
        };
        for (path, node) in &self.nodes {
            archive.entry(path, node.mode(), node.links(), node.device(), node.content())?;
        }
        archive.inode = 0;
        archive.header_and_name(TRAILER, 0, 1, (0, 0), 0, 0)?;
        archive.pad_to(512)?;
        archive.output.flush()
    }
}

impl Node {
    /// File type and permissions, as in `st_mode`.
    fn mode(&self) -> u32 {
        match self {
            Node::CharacterDevice { permissions, .. } => 0o020_000 | permissions,
            Node::Directory { permissions } => 0o040_000 | permissions,
            Node::File { permissions, .. } => 0o100_000 | permissions,
            Node::Symlink { .. } => 0o120_777,
        }
    }

    fn links(&self) -> u32 {
        if matches!(self, Node::Directory { .. }) {
            2
        } else {
            1
        }
    }

    fn device(&self) -> (u32, u32) {
        if let Node::CharacterDevice { major, minor, .. } = self {
            (*major, *minor)
        } else {
            (0, 0)
        }
    }

    fn content(&self) -> &[u8] {
        match self {
            Node::File { content, .. } => content,
            Node::Symlink { target } => target.as_bytes(),
            Node::CharacterDevice { .. } | Node::Directory { .. } => &[],
        }
    }
}

struct Archive<W> {
    output: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        links: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| {
            let reason = format!(
                "{path} has {} B, a newc archive holds at most 4 GiB",
                content.len()
            );
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        self.inode += 1;
        self.header_and_name(path, mode, links, device, size, self.inode)?;
        self.write(content)?;
        self.pad_to(4)
    }

    fn header_and_name(
        &mut self,
        name: &str,
        mode: u32,
        links: u32,
        (major, minor): (u32, u32),
        size: u32,
        inode: u32,
    ) -> io::Result<()> {
        let name_len = name.len() + 1;
        // Magic, inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), name, check.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}{major:08x}{minor:08x}\
             {name_len:08x}{0:08x}",
            0
        );
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.pad_to(4)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, alignment: u64) -> io::Result<()> {
        let missing = self.written.next_multiple_of(alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), missing), &mut self.output)?;
        self.written += missing;
        Ok(())
    }
}

const HEADER_LEN: usize = 110;
const TRAILER: &str = "TRAILER!!!";

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.add(
            "init",
            Node::File {
                permissions: 0o755,
                content: b"#!/nothing\n".to_vec(),
            },
        )
        .unwrap();
        tree.add(
            "dev/console",
            Node::CharacterDevice {
                permissions: 0o600,
                major: 5,
                minor: 1,
            },
        )
        .unwrap();
        tree.add(
            "bin",
            Node::Symlink {
                target: "usr/bin".into(),
            },
        )
        .unwrap();
        tree.add("tmp", Node::Directory { permissions: 0o1777 }).unwrap();
        tree
    }

    fn bytes_of(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree.write_to(&mut bytes).unwrap();
        bytes
    }

    /// Path, mode, device, content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    fn read_back(mut archive: &[u8]) -> Vec<Entry> {
        let whole = archive.len();
        let mut entries = Vec::new();
        loop {
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&archive[..6], b"070701");
            let (mode, size, name_len) = (field(1), field(6) as usize, field(11) as usize);
            let device = (field(9), field(10));
            let name = String::from_utf8(archive[110..110 + name_len - 1].to_vec()).unwrap();
            let content_at = (110 + name_len).next_multiple_of(4);
            if name == TRAILER {
                assert_eq!(whole % 512, 0);
                return entries;
            }
            entries.push((
                name,
                mode,
                device,
                archive[content_at..content_at + size].to_vec(),
            ));
            archive = &archive[(content_at + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn reads_back_as_it_was_written() {
        let entries = read_back(&bytes_of(&sample()));
        let paths: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(paths, ["bin", "dev", "dev/console", "init", "tmp"]);
        assert_eq!(entries[0].3, b"usr/bin");
        assert_eq!((entries[1].1, entries[4].1), (0o040_755, 0o041_777));
        assert_eq!((entries[2].1, entries[2].2), (0o020_600, (5, 1)));
        assert_eq!(
            (entries[3].1, entries[3].3.as_slice()),
            (0o100_755, &b"#!/nothing\n"[..])
        );
    }

    #[test]
    fn order_of_adding_does_not_show() {
        let mut other = Tree::default();
        for (path, node) in sample().iter().collect::<Vec<_>>().into_iter().rev() {
            other.add(path, node.clone()).unwrap();
        }
        assert_eq!(bytes_of(&other), bytes_of(&sample()));
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["", "/etc", "a/../b", "a//b", "./a", "a/"] {
            let error = sample()
                .add(path, Node::Directory { permissions: 0o755 })
                .unwrap_err();
            assert!(matches!(error, TreeError::BadPath { .. }), "{path:?}");
        }
        let error = sample()
            .add("init/child", Node::Directory { permissions: 0o755 })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""init/child" cannot be added: "init" is not a directory"#
        );
    }

    #[test]
    fn gnu_cpio_lists_it() {
        let spawned = Command::new("cpio")
            .arg("-tv")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut cpio) = spawned else {
            println!("cpio is not installed here: the round trip above has to do");
            return;
        };
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&bytes_of(&sample()))
            .unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(
            listing
                .lines()
                .any(|line| line.starts_with("crw-------") && line.ends_with("dev/console")),
            "{listing}"
        );
        assert!(
            listing
                .lines()
                .any(|line| line.starts_with("-rwxr-xr-x") && line.ends_with("init")),
            "{listing}"
        );
    }
}
