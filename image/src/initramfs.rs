//! The initramfs: the agent as `/init`, kernel modules with their indexes, and the directories that it mounts on.

use std::io::{self, Write};

use drivers::{SEALS_FILE, Seals};

use crate::cpio::{Node, Tree, TreeError};
use crate::modules::{ModuleError, Selection};

/// Why the initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The archive could not be compressed.
    #[error("could not compress the initramfs")]
    Compress(#[source] io::Error),
    /// A module could not be read.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// A path does not fit into the archive.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Returns the tree with `agent` as `/init`, and the site's own certificate authorities where the agent looks for them.
///
/// It is an archive of its own behind that of the drivers: the kernel unpacks both, and another agent leaves the other as it is.
pub(crate) fn agent_tree(agent: Vec<u8>, authorities: Vec<u8>) -> Result<Tree, InitramfsError> {
    let mut tree = Tree::default();
    tree.add(
        AGENT,
        Node::File {
            permissions: 0o755,
            content: agent,
        },
    )?;
    if !authorities.is_empty() {
        tree.add(AUTHORITIES, file(authorities))?;
    }
    Ok(tree)
}

/// Returns the tree with everything else: directories, devices, the modules below `/lib/modules/<kernel>`, and the seals of the lists
/// of those that lie elsewhere.
pub(crate) fn drivers_tree(
    kernel: &str,
    modules: &Selection<'_>,
    seals: &Seals,
) -> Result<Tree, InitramfsError> {
    let mut tree = Tree::default();
    for directory in DIRECTORIES {
        tree.add(directory, Node::Directory { permissions: 0o755 })?;
    }
    tree.add("tmp", Node::Directory { permissions: 0o1777 })?;
    tree.add("root", Node::Directory { permissions: 0o700 })?;
    // The kernel opens /dev/console for init before anything is mounted.
    tree.add(
        "dev/console",
        Node::CharacterDevice {
            permissions: 0o600,
            major: 5,
            minor: 1,
        },
    )?;
    tree.add(
        "dev/null",
        Node::CharacterDevice {
            permissions: 0o666,
            major: 1,
            minor: 3,
        },
    )?;
    for (path, content) in TEXTS {
        tree.add(path, file(content.as_bytes().to_vec()))?;
    }

    let directory = format!("lib/modules/{kernel}");
    for (_, module) in modules.iter() {
        // Not compressed again: the archive is, as a whole, and the agent has less to do.
        tree.add(
            &format!("{directory}/{}", module.path),
            file(modules.content(module)?),
        )?;
    }
    let indexes = modules.indexes();
    for (name, content) in [
        ("modules.dep", indexes.dependencies),
        ("modules.alias", indexes.aliases),
        ("modules.softdep", indexes.soft_dependencies),
        ("modules.builtin", indexes.builtin),
        ("modules.builtin.alias", indexes.builtin_aliases),
    ] {
        tree.add(&format!("{directory}/{name}"), file(content.into_bytes()))?;
    }
    if *seals != Seals::default() {
        let text = seals.to_text().into_bytes();
        tree.add(&format!("{directory}/{SEALS_FILE}"), file(text))?;
    }
    Ok(tree)
}

/// Puts firmware where the kernel looks for it.
pub(crate) fn add_firmware(tree: &mut Tree, name: &str, content: Vec<u8>) -> Result<(), InitramfsError> {
    Ok(tree.add(&format!("lib/firmware/{name}"), file(content))?)
}

/// How much time is taken to make an archive small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// For what seldom changes. 19 halves what level 3 leaves, and decompression stays as fast.
    Small,
    /// For the agent, which changes often: in pieces, so that two cores have work. Measured with 10.8 MB: 7 kB more than [`Packing::Small`].
    Quick,
}

/// Returns the tree as a compressed cpio archive, telling `advanced` how many bytes went in.
pub(crate) fn compress(
    tree: &Tree,
    packing: Packing,
    advanced: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, InitramfsError> {
    let compressed = (|| {
        let level = match packing {
            Packing::Small => 19,
            Packing::Quick => 18,
        };
        let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
        if packing == Packing::Quick {
            encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(QUICK_PIECE))?;
        }
        // Debian's kernels have CONFIG_RD_ZSTD since 5.10; they check the checksum as well.
        encoder.include_checksum(true)?;
        // How many there are changes nothing in what comes out, as long as there is one.
        let workers =
            std::thread::available_parallelism().map_or(1, |workers| workers.get().min(MOST_WORKERS));
        encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
        tree.write_to(Counted {
            output: &mut encoder,
            advanced,
        })?;
        encoder.finish()
    })();
    compressed.map_err(InitramfsError::Compress)
}

/// Packs what is fetched for itself.
pub(crate) fn pack(content: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    encoder.write_all(content)?;
    encoder.finish()
}

struct Counted<'a, W> {
    output: W,
    advanced: &'a mut dyn FnMut(u64),
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // In pieces: a whole binary at once would leave the progress standing for seconds.
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        let written = self.output.write(piece)?;
        (self.advanced)(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

pub(crate) fn file(content: Vec<u8>) -> Node {
    Node::File {
        permissions: 0o644,
        content,
    }
}

/// What the kernel starts.
pub(crate) const AGENT: &str = "init";
/// Where the agent looks for a site's own certificate authorities.
pub(crate) const AUTHORITIES: &str = "etc/ssl/farrier-site.pem";
const DIRECTORIES: [&str; 9] = [
    "dev",
    "etc",
    "lib/modules",
    "mnt",
    "proc",
    "run",
    "sys",
    "usr",
    "var",
];
const TEXTS: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];
/// Bytes that one core has at a time.
const QUICK_PIECE: u32 = 4 << 20;
const MOST_WORKERS: usize = 16;
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::tree_with;

    fn build() -> (Tree, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let modules = [
            ("kernel/drivers/virtio/virtio.ko.xz", "depends= "),
            (
                "kernel/drivers/block/virtio_blk.ko",
                "depends=virtio alias=virtio:d2v* ",
            ),
            ("kernel/drivers/unused.ko", "depends= "),
        ];
        let modules = tree_with(directory.path(), &modules, "kernel/fs/ext4/ext4.ko\n");
        let selection = modules.select(&["virtio_blk", "ext4"], &[]).unwrap();
        let tree = drivers_tree("6.1.0-1", &selection, &Seals::default()).unwrap();
        let compressed = compress(&tree, Packing::Small, &mut |_| {}).unwrap();
        (tree, compressed)
    }

    #[test]
    fn modules_are_where_the_kernel_and_the_agent_look() {
        let (tree, _) = build();
        let content = |path: &str| match tree.iter().find(|(at, _)| *at == path).unwrap().1 {
            Node::File { permissions, content } => {
                (*permissions, String::from_utf8_lossy(content).into_owned())
            }
            other => panic!("{path} is {other:?}"),
        };
        let directory = "lib/modules/6.1.0-1";
        assert!(
            content(&format!("{directory}/kernel/drivers/virtio/virtio.ko"))
                .1
                .starts_with("\x7fELF")
        );
        assert!(
            content(&format!("{directory}/modules.dep"))
                .1
                .contains("virtio_blk.ko: kernel/drivers/virtio/virtio.ko")
        );
        assert_eq!(
            content(&format!("{directory}/modules.builtin")).1,
            "kernel/fs/ext4/ext4.ko\n"
        );
        assert_eq!(tree.iter().filter(|(path, _)| path.ends_with(".ko")).count(), 2);
        for directory in ["dev", "proc", "sys", "run", "tmp"] {
            let found = tree.iter().find(|(path, _)| *path == directory);
            assert!(matches!(found, Some((_, Node::Directory { .. }))), "{directory}");
        }
    }

    #[test]
    fn the_agent_is_what_the_kernel_starts_and_authorities_lie_where_it_looks_for_them() {
        let tree = agent_tree(b"agent".to_vec(), b"pem".to_vec()).unwrap();
        let found = |path: &str| tree.iter().find(|(at, _)| *at == path).map(|(_, node)| node);
        let Some(Node::File { permissions, content }) = found("init") else {
            panic!("{tree:?}")
        };
        assert_eq!((*permissions, &content[..]), (0o755, &b"agent"[..]));
        let pem = found("etc/ssl/farrier-site.pem");
        assert!(matches!(pem, Some(Node::File { content, .. }) if content == b"pem"));
        let without = agent_tree(b"agent".to_vec(), vec![]).unwrap();
        assert_eq!(without.iter().count(), 1);
    }

    #[test]
    fn two_builds_are_the_same_bytes() {
        let (one, other) = (build().1, build().1);
        assert_eq!(one, other);
        let mut archive = Vec::new();
        build().0.write_to(&mut archive).unwrap();
        assert_eq!(zstd::decode_all(&one[..]).unwrap(), archive);
    }
}
