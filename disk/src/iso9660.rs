//! Writes a small ISO 9660 of files in memory, with Rock Ridge and Joliet names: the same bytes for the same files.
//!
//! Its two trees of folders share the files. Dates are left out, owners are root, nobody else may read. Pure.
//! Source: ECMA-119 4th edition; Rock Ridge Interchange Protocol (IEEE P1282, as RRIP_1991A); Joliet specification of 1995.

use std::collections::BTreeMap;

/// A logical sector, and a logical block.
pub const SECTOR_BYTES: usize = 2048;
/// Where the volume descriptors begin, by which it is known: ECMA-119, 6.2.1.
pub const DESCRIPTORS_AT: usize = 16 * SECTOR_BYTES;
/// Primary, supplementary, terminator.
const DESCRIPTORS: usize = 3;
/// All of them.
pub const DESCRIPTORS_BYTES: usize = DESCRIPTORS * SECTOR_BYTES;
/// Of a record without name and system use: ECMA-119, 9.1.
const RECORD_BYTES: usize = 33;
const FOLDER: u8 = 2;
/// `S_IFREG | 0400` and `S_IFDIR | 0500`.
const FILE_MODE: u32 = 0o100_400;
const FOLDER_MODE: u32 = 0o040_500;

/// The volume of these files: path without a leading slash, and content. A path that comes again counts once, by its last content.
///
/// Names have 64 letters at most, and the label has 16 (Joliet); what is longer is cut.
pub fn volume(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let tree = Tree::of(files);
    let mut next = DESCRIPTORS_AT / SECTOR_BYTES + DESCRIPTORS;
    let mut layouts = [Names::Rock, Names::Joliet].map(|names| {
        let layout = Layout::of(&tree, names, next);
        next = layout.end;
        layout
    });
    let mut extents = Vec::new();
    for content in &tree.files {
        extents.push(next);
        next += content.len().div_ceil(SECTOR_BYTES);
    }
    let mut out = vec![0; next * SECTOR_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        let at = at * SECTOR_BYTES;
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    for (number, layout) in layouts.iter_mut().enumerate() {
        layout.files.clone_from(&extents);
        put(
            DESCRIPTORS_AT / SECTOR_BYTES + number,
            &layout.descriptor(label, next),
        );
        put(
            layout.tables[0],
            &layout.path_table(&tree, u32::to_le_bytes, u16::to_le_bytes),
        );
        put(
            layout.tables[1],
            &layout.path_table(&tree, u32::to_be_bytes, u16::to_be_bytes),
        );
        for (folder, at) in layout.folders.iter().enumerate() {
            put(*at, &layout.records(&tree, folder));
        }
    }
    put(DESCRIPTORS_AT / SECTOR_BYTES + 2, b"\xffCD001\x01");
    for (content, at) in tree.files.iter().zip(&extents) {
        put(*at, content);
    }
    out
}

/// Folders, the root first, each behind the one that it lies in; and the files.
struct Tree<'a> {
    folders: Vec<Folder>,
    files: Vec<&'a [u8]>,
}

struct Folder {
    name: String,
    parent: usize,
    children: Vec<(String, Child)>,
}

#[derive(Clone, Copy)]
enum Child {
    File(usize),
    Folder(usize),
}

impl<'a> Tree<'a> {
    fn of(files: &[(&str, &'a [u8])]) -> Tree<'a> {
        let files: BTreeMap<&str, &[u8]> = files.iter().copied().collect();
        let root = Folder {
            name: String::new(),
            parent: 0,
            children: Vec::new(),
        };
        let mut tree = Tree {
            folders: vec![root],
            files: Vec::new(),
        };
        let depth = |path: &&str| path.matches('/').count();
        let mut paths: Vec<&str> = files.keys().copied().collect();
        // By depth, so that every folder stands behind all that are above it: ECMA-119, 6.9.1.
        paths.sort_by_key(depth);
        for level in 0..=paths.last().map_or(0, depth) {
            for path in &paths {
                tree.add(path, level, &files);
            }
        }
        tree
    }

    /// What there is of a path at a level: a folder, or the file itself.
    fn add(&mut self, path: &str, level: usize, files: &BTreeMap<&str, &'a [u8]>) {
        let names: Vec<&str> = path.split('/').collect();
        let mut at = 0;
        for (depth, name) in names.iter().enumerate().take(level + 1) {
            let found = self.folders[at].children.iter().find(|(known, _)| known == name);
            match found.map(|(_, child)| *child) {
                Some(Child::Folder(folder)) => at = folder,
                Some(Child::File(_)) => return,
                None if depth + 1 == names.len() => {
                    let content = files.get(path).copied().unwrap_or_default();
                    self.files.push(content);
                    let file = Child::File(self.files.len() - 1);
                    self.folders[at].children.push(((*name).to_owned(), file));
                    return;
                }
                None => {
                    self.folders.push(Folder {
                        name: (*name).to_owned(),
                        parent: at,
                        children: Vec::new(),
                    });
                    let folder = self.folders.len() - 1;
                    self.folders[at]
                        .children
                        .push(((*name).to_owned(), Child::Folder(folder)));
                    at = folder;
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// ISO 9660's own, with Rock Ridge's beside them.
    Rock,
    Joliet,
}

impl Names {
    fn of(self, name: &str, is_folder: bool) -> Vec<u8> {
        match self {
            Names::Joliet => wide(&name.chars().take(64).collect::<String>()),
            Names::Rock => {
                let letter = |c: char| match c.to_ascii_uppercase() {
                    c if c.is_ascii_uppercase() || c.is_ascii_digit() => c as u8,
                    _ => b'_',
                };
                // Of level 2: 30 letters with the dot between name and extension.
                let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
                let mut text: Vec<u8> = stem.chars().take(26).map(letter).collect();
                if !is_folder || !extension.is_empty() {
                    text.push(if is_folder { b'_' } else { b'.' });
                    text.extend(extension.chars().take(3).map(letter));
                }
                if !is_folder {
                    text.extend(b";1");
                }
                text
            }
        }
    }
}

/// Where everything of one of the two trees lies, in sectors.
struct Layout {
    names: Names,
    /// Path tables, little-endian and big-endian.
    tables: [usize; 2],
    table_bytes: usize,
    folders: Vec<usize>,
    folder_bytes: Vec<usize>,
    files: Vec<usize>,
    end: usize,
}

impl Layout {
    fn of(tree: &Tree<'_>, names: Names, start: usize) -> Layout {
        let mut layout = Layout {
            names,
            tables: [start; 2],
            table_bytes: 0,
            folders: vec![0; tree.folders.len()],
            folder_bytes: vec![0; tree.folders.len()],
            files: vec![0; tree.files.len()],
            end: start,
        };
        layout.table_bytes = layout.path_table(tree, u32::to_le_bytes, u16::to_le_bytes).len();
        let table = layout.table_bytes.div_ceil(SECTOR_BYTES);
        layout.tables = [start, start + table];
        layout.end = start + 2 * table;
        for folder in 0..tree.folders.len() {
            let bytes = layout.records(tree, folder).len();
            layout.folders[folder] = layout.end;
            layout.folder_bytes[folder] = bytes;
            layout.end += bytes / SECTOR_BYTES;
        }
        layout
    }

    /// ECMA-119, 8.4 and 8.5.
    fn descriptor(&self, label: &str, sectors: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR_BYTES);
        let is_joliet = self.names == Names::Joliet;
        let text = |out: &mut Vec<u8>, text: &str, len: usize| {
            let (bytes, space): (Vec<u8>, &[u8]) = match is_joliet {
                true => (wide(text), &[0, b' ']),
                false => (text.as_bytes().to_vec(), b" "),
            };
            let mut field: Vec<u8> = bytes.into_iter().take(len).collect();
            while field.len() + space.len() <= len {
                field.extend(space);
            }
            field.resize(len, 0);
            out.extend(field);
        };
        out.push(if is_joliet { 2 } else { 1 });
        out.extend(b"CD001\x01\0");
        text(&mut out, "", 32);
        let label: String = label.chars().take(16).collect();
        text(&mut out, &label, 32);
        out.resize(80, 0);
        out.extend(both32(number(sectors)));
        // UCS-2, level 3: Joliet specification, "Escape sequences".
        out.extend(if is_joliet { *b"%/E" } else { [0; 3] });
        out.resize(120, 0);
        out.extend(both16(1));
        out.extend(both16(1));
        out.extend(both16(SECTOR_BYTES as u16));
        out.extend(both32(number(self.table_bytes)));
        out.extend(number(self.tables[0]).to_le_bytes());
        out.extend([0; 4]);
        out.extend(number(self.tables[1]).to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.record(&[0], self.folders[0], self.folder_bytes[0], FOLDER, &[]));
        for len in [128, 128, 128, 128, 37, 37, 37] {
            text(&mut out, "", len);
        }
        // Four dates that are not told.
        for _ in 0..4 {
            out.extend([b'0'; 16]);
            out.push(0);
        }
        out.push(1);
        out.resize(SECTOR_BYTES, 0);
        out
    }

    /// ECMA-119, 9.4.
    fn path_table(&self, tree: &Tree<'_>, le32: fn(u32) -> [u8; 4], le16: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number_of, folder) in tree.folders.iter().enumerate() {
            let name = match number_of {
                0 => vec![0],
                _ => self.names.of(&folder.name, true),
            };
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.push(0);
            out.extend(le32(number(self.folders[number_of])));
            out.extend(le16(u16::try_from(folder.parent + 1).unwrap_or(1)));
            out.extend(&name);
            if name.len() % 2 == 1 {
                out.push(0);
            }
        }
        out
    }

    /// Whole sectors: no record lies in two. ECMA-119, 6.8.1.
    fn records(&self, tree: &Tree<'_>, of: usize) -> Vec<u8> {
        let Folder { parent, children, .. } = &tree.folders[of];
        let is_rock = self.names == Names::Rock;
        let links = |folder: usize| {
            let below = tree.folders[folder].children.iter();
            let folders = below.filter(|(_, child)| matches!(child, Child::Folder(_)));
            number(2 + folders.count())
        };
        let mut own = Vec::new();
        if is_rock {
            if of == 0 {
                own.extend(b"SP\x07\x01\xbe\xef\0");
            }
            own.extend(attributes(FOLDER_MODE, links(of)));
            if of == 0 {
                own.extend(b"ER\x12\x01\x0a\0\0\x01RRIP_1991A");
            }
        }
        let above = if is_rock {
            attributes(FOLDER_MODE, links(*parent))
        } else {
            Vec::new()
        };
        let mut records = vec![
            self.record(&[0], self.folders[of], self.folder_bytes[of], FOLDER, &own),
            self.record(
                &[1],
                self.folders[*parent],
                self.folder_bytes[*parent],
                FOLDER,
                &above,
            ),
        ];
        let mut sorted: Vec<(Vec<u8>, &str, Child)> = children
            .iter()
            .map(|(name, child)| {
                let is_folder = matches!(child, Child::Folder(_));
                (self.names.of(name, is_folder), name.as_str(), *child)
            })
            .collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (identifier, name, child) in sorted {
            let (at, len, flags, mode, links) = match child {
                Child::Folder(folder) => (
                    self.folders[folder],
                    self.folder_bytes[folder],
                    FOLDER,
                    FOLDER_MODE,
                    links(folder),
                ),
                Child::File(file) => (self.files[file], tree.files[file].len(), 0, FILE_MODE, 1),
            };
            let mut system = Vec::new();
            if is_rock {
                system.extend(attributes(mode, links));
                let name: String = name.chars().take(64).collect();
                system.extend(b"NM");
                system.extend([u8::try_from(5 + name.len()).unwrap_or(u8::MAX), 1, 0]);
                system.extend(name.as_bytes());
            }
            records.push(self.record(&identifier, at, len, flags, &system));
        }
        let mut out = Vec::new();
        for record in records {
            let used = out.len() % SECTOR_BYTES;
            if used + record.len() > SECTOR_BYTES {
                out.resize(out.len() + SECTOR_BYTES - used, 0);
            }
            out.extend(record);
        }
        out.resize(out.len().div_ceil(SECTOR_BYTES) * SECTOR_BYTES, 0);
        out
    }

    /// ECMA-119, 9.1.
    fn record(&self, name: &[u8], at: usize, len: usize, flags: u8, system: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0];
        out.extend(both32(number(at)));
        out.extend(both32(number(len)));
        out.extend([0; 7]);
        out.extend([flags, 0, 0]);
        out.extend(both16(1));
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend(name);
        out.resize(RECORD_BYTES + name.len() + (name.len() + 1) % 2, 0);
        out.extend(system);
        out.resize(out.len().next_multiple_of(2), 0);
        out[0] = u8::try_from(out.len()).unwrap_or(u8::MAX);
        out
    }
}

/// Rock Ridge's `PX`: mode, links, owner, group.
fn attributes(mode: u32, links: u32) -> Vec<u8> {
    let mut out = b"PX\x24\x01".to_vec();
    for field in [mode, links, 0, 0] {
        out.extend(both32(field));
    }
    out
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn both16(n: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (n.to_le_bytes(), n.to_be_bytes());
    [a, b, c, d]
}

fn both32(n: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (n.to_le_bytes(), n.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::filesystem;

    #[track_caller]
    fn said(command: &mut Command) -> String {
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{command:?}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    #[test]
    fn others_find_its_label_and_read_its_files_by_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(5000);
        let files = [
            ("openstack/latest/user_data", "#cloud-config\n".as_bytes()),
            ("openstack/latest/meta_data.json", long.as_bytes()),
            ("openstack/content/0000", b""),
            ("meta-data", b"instance-id: a\n"),
            ("user-data", b"y"),
        ];
        let image = volume("config-2", &files);
        assert_eq!(image, volume("config-2", &files));
        let file = folder.path().join("image");
        std::fs::write(&file, &image).unwrap();
        let blkid = said(Command::new("blkid").args(["-p", "-o", "export"]).arg(&file));
        assert!(
            blkid.contains("LABEL=config-2") && blkid.contains("TYPE=iso9660"),
            "{blkid}"
        );
        let found = filesystem::detect(&image).unwrap();
        assert_eq!(found.label.as_deref(), Some("config-2"));
        for names in ["nojoliet", "norock"] {
            let to = folder.path().join(names);
            let mut xorriso = Command::new("xorriso");
            xorriso.args(["-osirrox", "on", "-read_fs", names, "-indev"]);
            said(xorriso.arg(&file).args(["-extract", "/"]).arg(&to));
            for (path, content) in files {
                assert_eq!(std::fs::read(to.join(path)).unwrap(), content, "{path}");
            }
            // Rock Ridge's modes are those of root alone.
            let mode = said(Command::new("stat").args(["-c", "%a"]).arg(to.join("meta-data")));
            assert_eq!(mode.trim() == "400", names == "nojoliet", "{mode}");
        }
    }

    #[test]
    fn a_folder_of_many_files_has_several_sectors() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..100)
            .map(|n| format!("a-file-with-a-long-name-{n:03}"))
            .collect();
        let files: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (name.as_str(), name.as_bytes()))
            .collect();
        let file = folder.path().join("image");
        std::fs::write(&file, volume("cidata", &files)).unwrap();
        let listed = said(
            Command::new("xorriso")
                .arg("-indev")
                .arg(&file)
                .args(["-find", "/", "-type", "f"]),
        );
        assert_eq!(listed.lines().count(), 100, "{listed}");
    }
}
