//! Archives of programs: those that actions may ask for (`profiles/tools.list`), and containerd with what it runs
//! (`profiles/containerd.list`), each with the libraries that it links.
//!
//! In the archive is what lies below `/usr` on a Debian 13: the agent mounts it there. A package of Debian 12, which has some of it beside
//! `/usr`, gives the same paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use drivers::{CONTAINERD_FILE, Seal, TOOLS_FILE, Tools};

use crate::apt::{AptError, Archive, Package};
use crate::archives::contents_of;
use crate::checksum::sha256_of_bytes;
use crate::cpio::{Node, Tree, TreeError};
use crate::deb::{self, DebError};
use crate::elf::{self, ElfError};
use crate::files::{self, About, FileError};
use crate::initramfs::{self, InitramfsError, Packing};
use crate::manifest::{ContentFile, FamilyBytes};
use crate::profile::bytes_of;
use crate::progress::{Progress, Report, step};
use crate::scratch::Scratch;
use crate::sources::{Sources, copyright_path};

/// Why there is no archive of programs.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A package could not be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A program or a library cannot be read.
    #[error("{path} of the package {package} cannot be read")]
    Elf {
        path: String,
        package: String,
        #[source]
        source: ElfError,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The archive could not be made.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// A package has not what the list names.
    #[error(
        "the package {package} has no {file}, which image/profiles/{list} names: name another package there, or leave it out"
    )]
    NoFile {
        package: String,
        file: String,
        list: &'static str,
    },
    /// A library is in no package that was looked into.
    #[error(
        "{path} of the package {package} links {library}, which is in none of the packages that it depends on: see whether `not` of \
         image/profiles/{list} leaves it out"
    )]
    NoLibrary {
        library: String,
        path: String,
        package: String,
        list: &'static str,
    },
    /// A path does not fit into the archive.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What the list says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name among the families of a manifest, and that of its list.
    name: &'static str,
    /// What the archive may have, packed.
    pub(crate) budget_bytes: u64,
    /// What the agent may have more for it, packed.
    pub(crate) client_bytes: u64,
    tools: Vec<Tool>,
    /// Packages that are not looked into: names, or their beginnings with `*`.
    left_out: Vec<&'static str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tool {
    program: &'static str,
    package: &'static str,
    reason: &'static str,
    links: Vec<&'static str>,
    files: Vec<&'static str>,
}

/// The archive, and what is said of it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) tools: Tools,
    pub(crate) contents: Vec<ContentFile>,
    pub(crate) family: FamilyBytes,
}

impl Wanted {
    /// The lists of this Farrier that an image takes.
    pub(crate) fn of_lists(has_containerd: bool) -> Vec<Self> {
        let lists = LISTS
            .into_iter()
            .filter(|(name, _)| has_containerd || *name != CONTAINERD);
        lists
            .map(|(name, list)| parse(name, list).expect("a test reads the lists"))
            .collect()
    }

    /// The archive that it becomes.
    fn file(&self) -> &'static str {
        match self.name {
            CONTAINERD => CONTAINERD_FILE,
            _ => TOOLS_FILE,
        }
    }

    /// The file that it is read from, for messages.
    fn list(&self) -> &'static str {
        match self.name {
            CONTAINERD => "containerd.list",
            _ => "tools.list",
        }
    }

    /// The packages to look into, each with what there is of it and whether it is kept here: those of the list, and the libraries that
    /// these depend on.
    ///
    /// # Errors
    /// [`AptError`] for one that is not to be had.
    pub(crate) fn packages(
        &self,
        archive: &mut Archive,
        report: &mut Report<'_>,
    ) -> Result<Vec<(String, Package, bool)>, AptError> {
        let mut open: Vec<String> = self.tools.iter().map(|tool| tool.package.to_owned()).collect();
        let mut seen: BTreeSet<String> = open.iter().cloned().collect();
        let mut found = Vec::new();
        while let Some(name) = open.pop() {
            let (package, kept) = archive.look(&name, report)?;
            for library in self.libraries_of(&package) {
                if seen.insert(library.to_owned()) {
                    open.push(library.to_owned());
                }
            }
            found.push((name, package, kept));
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// Debian's packages of libraries begin with `lib`, but for one.
    ///
    /// Source: Debian Policy, 8.1.
    fn libraries_of<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a str> {
        let names = package
            .dependencies
            .iter()
            .map(|name| name.split('=').next().unwrap_or(name));
        names.filter(|name| {
            let is_library = name.starts_with("lib") || *name == "zlib1g";
            let is_left_out = self.left_out.iter().any(|entry| match entry.strip_suffix('*') {
                Some(begins) => name.starts_with(begins),
                None => name == entry,
            });
            is_library && !is_left_out
        })
    }

    /// Makes the archive, and puts it into `directory`.
    ///
    /// # Errors
    /// [`ToolError`].
    pub(crate) fn make(
        &self,
        directory: &Path,
        archive: &mut Archive,
        sources: &mut Sources,
        report: &mut Report<'_>,
    ) -> Result<Made, ToolError> {
        let mut unpacked = Vec::new();
        step(report, self.name, None, |report| -> Result<(), ToolError> {
            for (name, ..) in self.packages(archive, report)? {
                unpacked.push(Unpacked::of(archive.package(&name, report)?, self)?);
            }
            Ok(())
        })?;
        let (tree, from) = self.tree(&unpacked)?;
        let packing = format!("{}: packing", self.name);
        let packed = step(report, &packing, Some(tree.len_bytes()), |report| {
            initramfs::compress(&tree, Packing::Quick, &mut |bytes| {
                report(Progress::Advanced { bytes });
            })
        })?;
        for one in unpacked
            .iter()
            .filter(|one| from.values().any(|name| *name == one.package.name))
        {
            sources.package(&one.package, one.root.path(), &[self.file()], Vec::new());
        }
        let component_of = |path: &str| from.get(path).cloned().unwrap_or_default();
        let contents = contents_of(&tree, self.file(), &component_of);
        let seal = Seal {
            bytes: packed.len() as u64,
            sha256: sha256_of_bytes(&packed),
        };
        files::write(&directory.join(self.file()), packed)?;
        Ok(Made {
            family: FamilyBytes {
                name: self.name.to_owned(),
                delivery: "fetched".to_owned(),
                bytes: seal.bytes,
                budget_bytes: self.budget_bytes,
                sha256: seal.sha256.clone(),
            },
            tools: Tools {
                unpacked_bytes: contents.iter().map(|one| one.bytes).sum(),
                programs: self.programs(),
                seal,
            },
            contents,
        })
    }

    /// The names that actions may use.
    fn programs(&self) -> Vec<String> {
        let names = self
            .tools
            .iter()
            .flat_map(|tool| [tool.program].into_iter().chain(tool.links.iter().copied()));
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        names.into_iter().collect()
    }

    /// The files of the archive, and by path the package that each is from.
    fn tree(&self, unpacked: &[Unpacked]) -> Result<(Tree, BTreeMap<String, String>), ToolError> {
        let (mut tree, mut from) = (Tree::default(), BTreeMap::new());
        let mut open = Vec::new();
        for tool in &self.tools {
            let missing = |file: &str| ToolError::NoFile {
                package: tool.package.to_owned(),
                file: file.to_owned(),
                list: self.list(),
            };
            let of = |one: &&Unpacked| one.package.name == tool.package;
            let package = unpacked.iter().find(of).ok_or_else(|| missing("file at all"))?;
            let folders = PROGRAM_FOLDERS
                .iter()
                .map(|folder| format!("{folder}/{}", tool.program));
            let program = folders
                .into_iter()
                .find(|path| package.file(path).is_some())
                .ok_or_else(|| missing(tool.program))?;
            open.push((package, program.clone(), format!("sbin/{}", tool.program)));
            for link in &tool.links {
                let path = format!("sbin/{link}");
                let target = tool.program.to_owned();
                tree.add(&path, Node::Symlink { target })?;
                from.insert(path, package.package.name.clone());
            }
            for file in &tool.files {
                package.file(file).ok_or_else(|| missing(file))?;
                open.push((package, (*file).to_owned(), (*file).to_owned()));
            }
        }
        while let Some((package, path, place)) = open.pop() {
            if from.contains_key(&place) {
                continue;
            }
            let name = &package.package.name;
            let content = package.file(&path).map(|file| files::read(&file)).transpose()?;
            let content = content.unwrap_or_default();
            let is_program = elf::is_elf(&content);
            let needed = match is_program {
                true => elf::needed(&content).map_err(|source| ToolError::Elf {
                    path: path.clone(),
                    package: name.clone(),
                    source,
                })?,
                false => Vec::new(),
            };
            for library in needed {
                let found = unpacked
                    .iter()
                    .find_map(|one| Some((one, one.library(&library)?)));
                let (of, path) = found.ok_or_else(|| ToolError::NoLibrary {
                    library: library.clone(),
                    path: path.clone(),
                    package: name.clone(),
                    list: self.list(),
                })?;
                open.push((of, path, format!("{LIBRARIES}/{library}")));
            }
            let permissions = if is_program { 0o755 } else { 0o644 };
            tree.add(&place, Node::File { permissions, content })?;
            from.insert(place, name.clone());
        }
        let target = format!("../{LIBRARIES}/{LOADER}");
        if let Some(package) = from.get(&format!("{LIBRARIES}/{LOADER}")).cloned() {
            let path = format!("lib64/{LOADER}");
            tree.add(&path, Node::Symlink { target })?;
            from.insert(path, package);
        }
        Ok((tree, from))
    }
}

/// What was taken out of a package.
#[derive(Debug)]
struct Unpacked {
    package: Package,
    root: Scratch,
}

impl Unpacked {
    fn of(package: Package, wanted: &Wanted) -> Result<Self, ToolError> {
        let temporary = std::env::temp_dir();
        let root = Scratch::make("farrier-tools-", &temporary).about("create directory", &temporary)?;
        let licence = copyright_path(&package.name);
        let tools = wanted.tools.iter().filter(|tool| tool.package == package.name);
        let tools: Vec<&Tool> = tools.collect();
        deb::unpack(&package.file, root.path(), |path| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let is_library = LIBRARY_FOLDERS.contains(&folder) && name.contains(".so");
            // Programs may be links to others of their package.
            let is_program = !tools.is_empty() && PROGRAM_FOLDERS.contains(&folder);
            let is_file = tools.iter().any(|tool| tool.files.contains(&path));
            path == licence || is_library || is_program || is_file
        })?;
        Ok(Self { package, root })
    }

    /// Where the content of a path is, links followed as long as they stay in the package.
    fn file(&self, path: &str) -> Option<PathBuf> {
        let root = self.root.path();
        let mut path = PathBuf::from(path);
        for _ in 0..MOST_LINKS {
            let there = root.join(&path);
            let metadata = fs::symlink_metadata(&there).ok()?;
            if metadata.is_file() {
                return Some(there);
            }
            let target = fs::read_link(&there).ok()?;
            path = plain(path.parent()?, &target)?;
        }
        None
    }

    /// The path of a library by its name.
    fn library(&self, name: &str) -> Option<String> {
        let places = LIBRARY_FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        places.into_iter().find(|path| self.file(path).is_some())
    }
}

/// The target of a link in a folder, below the package's root.
fn plain(folder: &Path, target: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let from = if target.is_absolute() {
        Path::new("")
    } else {
        folder
    };
    for part in from.components().chain(target.components()) {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop().then_some(())?;
            }
            _ => {}
        }
    }
    Some(path)
}

/// Reads a list.
fn parse(name: &'static str, text: &'static str) -> Result<Wanted, String> {
    let (mut budget_bytes, mut client_bytes) = (None, 0);
    let (mut tools, mut left_out) = (Vec::<Tool>::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let at = |what: &str| format!("line {}: {what}: {line:?}", index + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        if line.starts_with(' ') {
            let tool = tools.last_mut().ok_or_else(|| at("no program before it"))?;
            match words.next() {
                Some("link") => tool.links.extend(words),
                Some("with") => tool.files.extend(words),
                _ => return Err(at("neither `link` nor `with`")),
            }
            continue;
        }
        match (words.next(), line.split_once(": ")) {
            (Some("budget"), None) => {
                let (_, kilobytes) = line.split_once(' ').unwrap_or_default();
                budget_bytes = Some(bytes_of(kilobytes).ok_or_else(|| at("no size in kB"))?);
            }
            (Some("agent"), None) => {
                let (_, kilobytes) = line.split_once(' ').unwrap_or_default();
                client_bytes = bytes_of(kilobytes).ok_or_else(|| at("no size in kB"))?;
            }
            (Some("not"), None) => left_out.extend(words),
            (_, Some((head, reason))) => {
                let (program, package) = head
                    .split_once(' ')
                    .ok_or_else(|| at("no package behind the program"))?;
                tools.push(Tool {
                    program,
                    package,
                    reason,
                    ..Tool::default()
                });
            }
            _ => return Err(at("neither a setting nor `PROGRAM PACKAGE: reason`")),
        }
    }
    Ok(Wanted {
        name,
        budget_bytes: budget_bytes.ok_or("no budget")?,
        client_bytes,
        tools,
        left_out,
    })
}

/// By their names among the families of a manifest.
pub(crate) const LISTS: [(&str, &str); 2] = [
    ("tools", include_str!("../profiles/tools.list")),
    (CONTAINERD, include_str!("../profiles/containerd.list")),
];
const CONTAINERD: &str = "containerd";
const PROGRAM_FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];
/// Debian 12 has the first two, Debian 13 the others.
const LIBRARY_FOLDERS: [&str; 3] = ["lib/x86_64-linux-gnu", "lib64", "usr/lib/x86_64-linux-gnu"];
/// Where the loader looks, below `/usr`.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// As many as Linux follows.
const MOST_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const TEXT: &str = "budget 7 kB\nmke2fs e2fsprogs: for a test\n  link mkfs.ext4\n  with etc/mke2fs.conf\nnot libicu* libss2\n";

    /// A package that was unpacked, with these files; content that begins with `->` is a link's.
    fn unpacked(name: &str, files: &[(&str, &[u8])]) -> Unpacked {
        let root = Scratch::make("farrier-tools-test-", &std::env::temp_dir()).unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix(b"->") {
                Some(target) => symlink(std::str::from_utf8(target).unwrap(), path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        Unpacked {
            package: package(name, &[]),
            root,
        }
    }

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: "1".into(),
            first_dependency: None,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            suite: "trixie".into(),
            path: "pool/x.deb".into(),
            bytes: 1,
            sha256: "s".into(),
            file: PathBuf::new(),
        }
    }

    /// A program that links a library which links the C library; one as Debian 12 lays it out, the other as Debian 13 does.
    fn packages(usr: &str) -> Vec<Unpacked> {
        let program = elf::program(
            &["libext2fs.so.2", "libc.so.6"],
            Some("/lib64/ld-linux-x86-64.so.2"),
        );
        let library = elf::program(&["libc.so.6"], None);
        let c_library = elf::program(&["ld-linux-x86-64.so.2"], None);
        let loader = elf::program(&[], None);
        let at = |path: &str| format!("{usr}{path}");
        let (sbin, lib) = (at("sbin/mke2fs"), at("lib/x86_64-linux-gnu"));
        let of = |name: &str| format!("{lib}/{name}");
        vec![
            unpacked(
                "e2fsprogs",
                &[(&sbin, &program), ("etc/mke2fs.conf", b"[defaults]\n")],
            ),
            unpacked(
                "libext2fs2t64",
                &[
                    (&of("libext2fs.so.2"), b"->libext2fs.so.2.4"),
                    (&of("libext2fs.so.2.4"), &library),
                    (&of("libe2p.so.2"), &library),
                ],
            ),
            unpacked(
                "libc6",
                &[
                    (&of("libc.so.6"), &c_library),
                    (&of("ld-linux-x86-64.so.2"), &loader),
                ],
            ),
        ]
    }

    #[test]
    fn the_list_gives_a_reason_for_each_program_and_each_package_is_there_once() {
        let [wanted, containerd] = <[Wanted; 2]>::try_from(Wanted::of_lists(true)).unwrap();
        assert_eq!(
            containerd.programs(),
            ["containerd", "containerd-shim-runc-v2", "runc"],
            "as the agent starts them, and they each other"
        );
        assert_eq!(Wanted::of_lists(false).len(), 1);
        let mut packages = BTreeSet::new();
        for tool in wanted.tools.iter().chain(&containerd.tools) {
            assert!(tool.reason.len() > 10 || tool.reason == "LUKS", "{tool:?}");
        }
        for tool in &wanted.tools {
            assert!(packages.insert(tool.package), "{tool:?}");
        }
        // What was asked for; the agent knows them by these names.
        let programs = wanted.programs();
        for name in [
            "cryptsetup",
            "efibootmgr",
            "ipmitool",
            "kexec",
            "lvm",
            "mdadm",
            "mkfs.btrfs",
            "mkfs.ext4",
            "mkfs.vfat",
            "mkfs.xfs",
            "mkswap",
            "nvme",
            "sgdisk",
        ] {
            assert!(programs.iter().any(|program| program == name), "{name}");
        }
    }

    #[test]
    fn a_list_that_is_wrong_is_named_by_its_line() {
        for (text, want) in [
            ("a b: reason\n", "no budget"),
            ("budget much\n", "line 1: no size in kB"),
            ("budget 7 kB\n  link x\n", "line 2: no program before it"),
            ("budget 7 kB\na: reason\n", "line 2: no package behind"),
            (
                "budget 7 kB\na b: reason\n  and c\n",
                "line 3: neither `link` nor",
            ),
            ("a b\n", "line 1: neither a setting nor"),
        ] {
            let error = parse("tools", text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn libraries_are_followed_and_what_the_list_leaves_out_is_not() {
        let wanted = parse("tools", TEXT).unwrap();
        let package = package(
            "x",
            &[
                "libc6",
                "libicu76",
                "python3:any",
                "libext2fs2t64=1.47",
                "zlib1g",
                "libss2",
                "udev",
            ],
        );
        let libraries: Vec<&str> = wanted.libraries_of(&package).collect();
        assert_eq!(libraries, ["libc6", "libext2fs2t64", "zlib1g"]);
    }

    #[test]
    fn a_program_brings_what_it_links_and_what_that_links() {
        let paths = [
            "etc",
            "etc/mke2fs.conf",
            "lib",
            "lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib/x86_64-linux-gnu/libext2fs.so.2",
            "lib64",
            "lib64/ld-linux-x86-64.so.2",
            "sbin",
            "sbin/mke2fs",
            "sbin/mkfs.ext4",
        ];
        for usr in ["", "usr/"] {
            let (tree, from) = parse("tools", TEXT).unwrap().tree(&packages(usr)).unwrap();
            let found: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
            assert_eq!(found, paths, "libe2p, which nothing links, is not taken");
            assert_eq!(from["lib/x86_64-linux-gnu/libext2fs.so.2"], "libext2fs2t64");
            assert_eq!(from["lib64/ld-linux-x86-64.so.2"], "libc6");
            let node = |path: &str| {
                tree.iter()
                    .find(|(at, _)| *at == path)
                    .map(|(_, node)| node.clone())
            };
            let target = "mke2fs".to_owned();
            assert_eq!(node("sbin/mkfs.ext4"), Some(Node::Symlink { target }));
            let library = node("lib/x86_64-linux-gnu/libext2fs.so.2");
            assert!(
                matches!(
                    library,
                    Some(Node::File {
                        permissions: 0o755,
                        ..
                    })
                ),
                "{library:?}"
            );
        }
    }

    #[test]
    fn a_library_that_is_missing_ends_the_build_by_name() {
        let mut packages = packages("usr/");
        packages.remove(2);
        let error = parse("tools", TEXT)
            .unwrap()
            .tree(&packages)
            .unwrap_err()
            .to_string();
        let want = "links ld-linux-x86-64.so.2, which is in none of the packages that it depends on";
        assert!(
            error.starts_with("usr/sbin/mke2fs of the package e2fsprogs")
                && error.contains("which is in none"),
            "{error}\n{want}"
        );
        packages.remove(1);
        let error = parse("tools", TEXT)
            .unwrap()
            .tree(&packages)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("of the package e2fsprogs links libext2fs.so.2"),
            "{error}"
        );
    }

    #[test]
    fn a_program_or_a_file_that_its_package_has_not_ends_the_build_by_name() {
        let other = "budget 7 kB\nmkfs.zfs e2fsprogs: for a test\n";
        let error = parse("tools", other)
            .unwrap()
            .tree(&packages(""))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the package e2fsprogs has no mkfs.zfs"),
            "{error}"
        );
        let other = "budget 7 kB\nmke2fs e2fsprogs: for a test\n  with etc/other\n";
        let error = parse("tools", other)
            .unwrap()
            .tree(&packages(""))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the package e2fsprogs has no etc/other"),
            "{error}"
        );
    }

    #[test]
    fn a_link_that_leads_out_of_its_package_is_not_followed() {
        let package = unpacked(
            "x",
            &[
                ("usr/sbin/a", b"->/etc/passwd"),
                ("usr/sbin/b", b"->../../../etc/passwd"),
                ("usr/sbin/c", b"->c"),
                ("usr/sbin/d", b"->/usr/sbin/e"),
                ("usr/sbin/e", b"e"),
            ],
        );
        for name in ["a", "b", "c"] {
            assert_eq!(package.file(&format!("usr/sbin/{name}")), None, "{name}");
        }
        assert!(package.file("usr/sbin/d").unwrap().ends_with("usr/sbin/e"));
    }
}
