//! Filesystems as templates declare them: type, label, UUID and the options of the program that makes them.

use std::fmt;

use crate::Guid;
use crate::options::{self, Known};

/// The types that can be made; swap counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsType {
    Btrfs,
    Ext2,
    Ext3,
    Ext4,
    Swap,
    Vfat,
    Xfs,
}

const BTRFS: &[Known] = &[
    ("-d", true),
    ("--data", true),
    ("-m", true),
    ("--metadata", true),
    ("-M", false),
    ("--mixed", false),
    ("--csum", true),
    ("--checksum", true),
    ("-n", true),
    ("--nodesize", true),
    ("-s", true),
    ("--sectorsize", true),
    ("-O", true),
    ("--features", true),
    ("-R", true),
    ("--runtime-features", true),
    ("-b", true),
    ("--byte-count", true),
    ("-K", false),
    ("--nodiscard", false),
];
const EXT: &[Known] = &[
    ("-b", true),
    ("-C", true),
    ("-D", false),
    ("-e", true),
    ("-E", true),
    ("-g", true),
    ("-G", true),
    ("-i", true),
    ("-I", true),
    ("-J", true),
    ("-j", false),
    ("-m", true),
    ("-M", true),
    ("-N", true),
    ("-o", true),
    ("-O", true),
    ("-r", true),
    ("-T", true),
];
const SWAP: &[Known] = &[
    ("-c", false),
    ("--check", false),
    ("-e", true),
    ("--endianness", true),
    ("-p", true),
    ("--pagesize", true),
];
const VFAT: &[Known] = &[
    ("-a", false),
    ("-b", true),
    ("--codepage", true),
    ("-D", true),
    ("-f", true),
    ("-F", true),
    ("-g", true),
    ("-h", true),
    ("--mbr", true),
    ("-M", true),
    ("-r", true),
    ("-R", true),
    ("-s", true),
    ("-S", true),
];
const XFS: &[Known] = &[
    ("-b", true),
    ("-d", true),
    ("-i", true),
    ("-K", false),
    ("-l", true),
    ("-m", true),
    ("-n", true),
    ("-s", true),
];

impl FsType {
    pub const ALL: [FsType; 7] = [
        FsType::Btrfs,
        FsType::Ext2,
        FsType::Ext3,
        FsType::Ext4,
        FsType::Swap,
        FsType::Vfat,
        FsType::Xfs,
    ];

    /// As `blkid` calls it.
    pub fn name(self) -> &'static str {
        match self {
            FsType::Btrfs => "btrfs",
            FsType::Ext2 => "ext2",
            FsType::Ext3 => "ext3",
            FsType::Ext4 => "ext4",
            FsType::Swap => "swap",
            FsType::Vfat => "vfat",
            FsType::Xfs => "xfs",
        }
    }

    /// The program of Debian's that makes it.
    pub fn program(self) -> &'static str {
        match self {
            FsType::Btrfs => "mkfs.btrfs",
            FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => "mke2fs",
            FsType::Swap => "mkswap",
            FsType::Vfat => "mkfs.fat",
            FsType::Xfs => "mkfs.xfs",
        }
    }

    /// The least size at which its program makes it as declared, without options, in bytes.
    ///
    /// ext3 and ext4: below it mke2fs leaves the journal out, or warns of a small one. XFS and btrfs: the programs' own bounds.
    pub fn least_bytes(self) -> u64 {
        match self {
            // Source: mkfs.btrfs of btrfs-progs 6: "minimum size for each btrfs device".
            FsType::Btrfs => 114_294_784,
            FsType::Ext2 => 256 << 10,
            FsType::Ext3 | FsType::Ext4 => 2 << 20,
            // Ten pages of the largest size.
            FsType::Swap => 640 << 10,
            FsType::Vfat => 64 << 10,
            // Source: mkfs.xfs since xfsprogs 5.19.
            FsType::Xfs => 300 << 20,
        }
    }

    /// The bytes of the longest label.
    pub fn most_label_bytes(self) -> usize {
        match self {
            FsType::Btrfs => 255,
            FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => 16,
            // mkswap keeps the last of 16 for a NUL.
            FsType::Swap => 15,
            FsType::Vfat => 11,
            FsType::Xfs => 12,
        }
    }

    fn options(self) -> &'static [Known] {
        match self {
            FsType::Btrfs => BTRFS,
            FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => EXT,
            FsType::Swap => SWAP,
            FsType::Vfat => VFAT,
            FsType::Xfs => XFS,
        }
    }
}

/// What a filesystem is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsId {
    Guid(Guid),
    /// FAT has 32 bits.
    Serial(u32),
}

impl FsId {
    /// The id of a filesystem of this type, made of a digest: never 0.
    pub fn of_digest(fs_type: FsType, bytes: [u8; 16]) -> FsId {
        match (fs_type, bytes) {
            (FsType::Vfat, [a, b, c, d, ..]) => FsId::Serial(u32::from_be_bytes([a, b, c, d]).max(1)),
            _ => FsId::Guid(Guid::of_digest(bytes)),
        }
    }

    fn read(fs_type: FsType, text: &str) -> Result<FsId, String> {
        let bad = |form: &str| {
            let short: String = text.chars().take(64).collect();
            format!("uuid {short:?} is none of {}: write {form}", fs_type.name())
        };
        if fs_type == FsType::Vfat {
            let digits = match text.split_once('-') {
                Some((a, b)) if a.len() == 4 && b.len() == 4 => [a, b].concat(),
                _ => text.to_owned(),
            };
            let plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(&digits, 16).ok().filter(|_| plain);
            let number = number.filter(|number| *number != 0);
            return number
                .map(FsId::Serial)
                .ok_or_else(|| bad("8 hexadecimal digits, such as 7C3A-91E0, not all of them 0"));
        }
        let guid = text.parse::<Guid>().ok().filter(|guid| *guid != Guid::ZERO);
        guid.map(FsId::Guid)
            .ok_or_else(|| bad("32 hexadecimal digits in groups of 8-4-4-4-12, not all of them 0"))
    }
}

/// As `blkid` writes it.
impl fmt::Display for FsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FsId::Guid(guid) => guid.fmt(f),
            FsId::Serial(number) => write!(f, "{:04X}-{:04X}", number >> 16, number & 0xffff),
        }
    }
}

/// A filesystem as it is declared: something that its program makes, if the partition is large enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    pub fs_type: FsType,
    pub label: Option<String>,
    pub id: Option<FsId>,
    /// Arguments of the program, in their order.
    pub options: Vec<String>,
}

/// What is wrong with a variable of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The variable that it is about.
    pub variable: &'static str,
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Filesystem {
    /// From the words of a template; `options` is a JSON list of texts.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(
        fs_type: &str,
        label: Option<&str>,
        uuid: Option<&str>,
        options: Option<&str>,
    ) -> Result<Filesystem, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        let Some(fs_type) = FsType::ALL.into_iter().find(|known| known.name() == fs_type) else {
            let short: String = fs_type.chars().take(64).collect();
            let known = FsType::ALL.map(FsType::name).join(", ");
            say(
                "FS_TYPE",
                format!("fs_type {short:?} cannot be made: it is one of {known}"),
            );
            return Err(problems);
        };
        if let Some(wrong) = label.and_then(|label| wrong_label(fs_type, label)) {
            say("LABEL", wrong);
        }
        let id = match uuid.map(|text| FsId::read(fs_type, text)).transpose() {
            Ok(id) => id,
            Err(message) => {
                say("UUID", message);
                None
            }
        };
        let options = match options.map_or(Ok(Vec::new()), |text| read_options(fs_type, text)) {
            Ok(options) => options,
            Err(message) => {
                say("OPTIONS", message);
                Vec::new()
            }
        };
        match problems.is_empty() {
            true => Ok(Filesystem {
                fs_type,
                label: label.map(str::to_owned),
                id,
                options,
            }),
            false => Err(problems),
        }
    }

    /// The arguments of [`FsType::program`] that make it on `device`; it asks nothing then, and overwrites.
    pub fn arguments(&self, id: FsId, device: &str) -> Vec<String> {
        let id = match id {
            FsId::Guid(guid) => guid.to_string(),
            FsId::Serial(number) => format!("{number:08x}"),
        };
        let (fixed, label, id): (&[&str], &str, [String; 2]) = match self.fs_type {
            FsType::Btrfs => (&["-f", "-q"], "-L", ["-U".into(), id]),
            FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => {
                (&["-F", "-q", "-t", self.fs_type.name()], "-L", ["-U".into(), id])
            }
            FsType::Swap => (&["-f"], "-L", ["-U".into(), id]),
            // A whole disk gets no table in its boot sector: who reads one would look for a partition.
            FsType::Vfat => (&["-I", "--mbr=n"], "-n", ["-i".into(), id]),
            FsType::Xfs => (&["-f", "-q"], "-L", ["-m".into(), format!("uuid={id}")]),
        };
        let mut arguments: Vec<String> = fixed.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(id);
        if let Some(text) = &self.label {
            arguments.extend([label.to_owned(), text.clone()]);
        }
        arguments.extend(self.options.iter().cloned());
        arguments.push(device.to_owned());
        arguments
    }

    /// The same, with nothing written, where the program can try.
    pub fn trial(&self, id: FsId, device: &str) -> Option<Vec<String>> {
        let flag = match self.fs_type {
            FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => "-n",
            FsType::Xfs => "-N",
            FsType::Btrfs | FsType::Swap | FsType::Vfat => return None,
        };
        let mut arguments = self.arguments(id, device);
        arguments.insert(0, flag.to_owned());
        Some(arguments)
    }
}

fn wrong_label(fs_type: FsType, label: &str) -> Option<String> {
    let (name, most) = (fs_type.name(), fs_type.most_label_bytes());
    let short: String = label.chars().take(64).collect();
    if label.len() > most {
        let len = label.len();
        return Some(format!(
            "label {short:?} has {len} B, and one of {name} has {most} B at most"
        ));
    }
    // Options begin so, and none of the programs takes `--` before a label.
    if label.starts_with('-') || label.trim() != label || label.chars().any(char::is_control) {
        return Some(format!(
            "label {short:?} begins with \"-\", begins or ends with a space, or has control characters: leave them out"
        ));
    }
    // Source: mkfs.fat(8), -n.
    let is_plain = |letter: char| {
        (' '..='~').contains(&letter)
            && !letter.is_ascii_lowercase()
            && !"*?.,;:/\\|+=<>[]\"".contains(letter)
    };
    if fs_type == FsType::Vfat && (!label.chars().all(is_plain) || label == "NO NAME") {
        return Some(format!(
            "label {short:?} is none of vfat: write capital letters of ASCII, digits, spaces, \"-\" and \"_\", and not \"NO NAME\""
        ));
    }
    None
}

fn read_options(fs_type: FsType, text: &str) -> Result<Vec<String>, String> {
    let words = options::read(text)?;
    let (program, name) = (fs_type.program(), fs_type.name());
    options::check(&words, program, name, fs_type.options())?;
    // A log or a journal elsewhere would be a second device, which nobody has looked at.
    let is_elsewhere = |word: &&String| {
        ["device=", "logdev=", "rtdev=", "name=", "uuid="]
            .iter()
            .any(|key| word.contains(key))
    };
    match words.iter().find(is_elsewhere) {
        Some(word) => Err(format!(
            "option {word:?} names another device or a uuid: a filesystem is made on one device here, and uuid is a field of its own"
        )),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::options::MAX_OPTIONS_BYTES;

    #[track_caller]
    fn said(fs_type: &str, label: Option<&str>, uuid: Option<&str>, options: Option<&str>) -> String {
        let problems = Filesystem::parse(fs_type, label, uuid, options)
            .err()
            .unwrap_or_default();
        let words: Vec<String> = problems.iter().map(FieldProblem::to_string).collect();
        words.join("; ")
    }

    #[track_caller]
    fn refused(said: &str, words: &[&str]) {
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn what_no_program_makes_is_refused_with_every_problem() {
        refused(
            &said("zfs", None, None, None),
            &["\"zfs\" cannot be made", "btrfs, ext2"],
        );
        let all = said("xfs", Some("thirteen char"), Some("1234-5678"), Some("[\"-F\"]"));
        refused(
            &all,
            &["has 13 B", "12 B at most", "8-4-4-4-12", "option \"-F\" is none"],
        );
        refused(&said("vfat", Some("efi"), None, None), &["capital letters"]);
        refused(
            &said("vfat", None, Some("0000-0000"), None),
            &["8 hexadecimal digits"],
        );
        refused(&said("ext4", Some("-L"), None, None), &["begins with"]);
        assert_eq!(
            said(
                "ext4",
                Some("sixteen letters!"),
                None,
                Some("[\"-m\", 1, \"-b4096\"]")
            ),
            ""
        );
        assert_eq!(
            said("vfat", Some("EFI"), Some("7c3a91e0"), Some("[\"-F\", \"32\"]")),
            ""
        );
        assert_eq!(said("btrfs", None, None, Some("[\"--csum=xxhash\", \"-M\"]")), "");
    }

    #[test]
    fn options_of_another_type_and_other_devices_are_refused() {
        for (fs_type, options, words) in [
            ("ext4", "[\"-F\", \"32\"]", "option \"-F\" is none that mke2fs"),
            ("ext4", "[\"/dev/vdb\"]", "option \"/dev/vdb\" is none"),
            ("ext4", "[\"-L\", \"x\"]", "fields of their own"),
            ("ext4", "[\"-m\"]", "option -m of mke2fs has no value"),
            ("ext4", "[\"-J\", \"device=/dev/vdb\"]", "names another device"),
            (
                "xfs",
                "[\"-l\", \"logdev=/dev/vdb,size=64m\"]",
                "names another device",
            ),
            (
                "xfs",
                "[\"-m\", \"uuid=5c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11\"]",
                "or a uuid",
            ),
            ("btrfs", "[\"-Mx\"]", "takes no value"),
            ("btrfs", "{\"-M\": true}", "no list of texts"),
            ("swap", "[[\"-c\"]]", "no list of texts"),
        ] {
            refused(&said(fs_type, None, None, Some(options)), &[words]);
        }
    }

    #[test]
    fn options_have_a_bound_of_bytes() {
        let long = format!("[\"-T{}\"]", "x".repeat(MAX_OPTIONS_BYTES - 6));
        assert_eq!(said("ext4", None, None, Some(&long)), "");
        let longer = format!("[\"-Tx{}\"]", "x".repeat(MAX_OPTIONS_BYTES - 6));
        refused(&said("ext4", None, None, Some(&longer)), &["16384 B at most"]);
    }

    #[test]
    fn the_device_is_named_last_and_once() {
        let made = Filesystem::parse("xfs", Some("data"), None, Some("[\"-K\"]")).unwrap();
        let id = FsId::of_digest(FsType::Xfs, [7; 16]);
        let want = format!("-f -q -m uuid={id} -L data -K /dev/vda1");
        assert_eq!(made.arguments(id, "/dev/vda1").join(" "), want);
        assert_eq!(
            made.trial(id, "/dev/vda1").unwrap().join(" "),
            format!("-N {want}")
        );
        assert_eq!(FsId::of_digest(FsType::Vfat, [0; 16]), FsId::Serial(1));
        assert_eq!(FsId::Serial(0x7c3a_91e0).to_string(), "7C3A-91E0");
    }

    proptest! {
        #[test]
        fn no_text_panics(fs_type in "btrfs|ext4|swap|vfat|xfs", label in ".{0,20}", uuid in ".{0,40}", options in "\\[(\"-.{0,6}\",?)*\\]|.*") {
            let _ = Filesystem::parse(&fs_type, Some(&label), Some(&uuid), Some(&options));
        }
    }
}
