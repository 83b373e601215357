//! What is known of a LUKS device by looking, before and after cryptsetup works on it.
//!
//! INVARIANT: whether one counts as made, two things say: its header, and that its key opens it. cryptsetup writes the header first and the
//! key slot behind it: a header that no key opens was half made, if it has the UUID that its own action gives.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use partitions::Luks;
use partitions::{FieldProblem as Problem, Guid};
use sha2::{Digest, Sha256};

use crate::clear;
use crate::filesystem::{self, Kind};
use crate::image::WriteError;
use crate::partition::listed;
use crate::probe::System;

/// One problem of a declaration.
pub type FieldProblem = Problem;

/// Two headers with their key slots. Source: cryptsetup-luksFormat(8): 16 MiB by default.
pub const HEADER_BYTES: u64 = 16 << 20;
/// And some for what is kept.
const LEAST_BYTES: u64 = HEADER_BYTES + (1 << 20);
/// Longer keys cryptsetup does not read. Source: cryptsetup(8), "--key-file".
pub const MAX_KEY_BYTES: usize = 8 << 20;

/// The header of a LUKS 2 device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub uuid: String,
    pub label: Option<String>,
}

/// A device that is open under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// As device-mapper has it: `CRYPT-LUKS2-<digits>-<name>`.
    pub uuid: String,
    /// In /dev: what it is opened of.
    pub of: Vec<PathBuf>,
}

/// Why a device is not encrypted.
#[derive(Debug, thiserror::Error)]
pub enum LuksError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(
        "{device} is not empty: it has {there}; nothing was written. Leave ONLY_EMPTY out to have it overwritten, or choose \
         another one"
    )]
    NotEmpty { device: PathBuf, there: String },
    #[error("{device} has {have_bytes} B, and LUKS needs {LEAST_BYTES} B at least; nothing was written")]
    TooSmall { device: PathBuf, have_bytes: u64 },
    #[error(
        "{name} is open already, and of another device ({of}): give another NAME, or close it; nothing was written"
    )]
    NameTaken { name: String, of: String },
}

impl LuksError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            LuksError::Disk(error) => error.reason(),
            LuksError::NameTaken { .. } => "NameTaken",
            LuksError::NotEmpty { .. } => "DiskNotEmpty",
            LuksError::TooSmall { .. } => "DiskTooSmall",
        }
    }
}

/// What is to be done, as far as looking tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has another header or none: one is to be made.
    Make,
    /// It has a header that may be the declared one; whether it is, its key says. `is_ours`: by its UUID this action has made it.
    TryKey { uuid: String, is_ours: bool },
}

/// The UUID that a header gets where none is declared: the same seed gives the same one.
pub fn uuid_of(declared: &Luks, seed: &str) -> Guid {
    declared.uuid.unwrap_or_else(|| {
        let digest: [u8; 32] = Sha256::digest(seed.as_bytes()).into();
        let (bytes, _) = digest.split_at(16);
        let mut half = [0; 16];
        half.copy_from_slice(bytes);
        Guid::of_digest(half)
    })
}

/// What is to be done to a device with this header. Pure.
///
/// A UUID or label counts where it is declared; else any may be there, so a new workflow leaves what an older one has made.
pub fn next(declared: &Luks, uuid: Guid, there: Option<&Header>) -> Next {
    let Some(header) = there else { return Next::Make };
    let is_ours = header.uuid == uuid.to_string();
    let is_label = declared.label.is_none() || declared.label == header.label;
    match is_label && (is_ours || declared.uuid.is_none()) {
        true => Next::TryKey {
            uuid: header.uuid.clone(),
            is_ours,
        },
        false => Next::Make,
    }
}

/// The header in the first bytes of a device; `None`: there is none of LUKS 2.
///
/// Source: LUKS2 On-Disk Format Specification 1.1.3, section 2.1.
pub fn read_header(start: &[u8]) -> Option<Header> {
    let version = start.get(6..8)?;
    let found = filesystem::detect(start).filter(|found| found.kind == Kind::Luks && version == [0, 2])?;
    Some(Header {
        uuid: found.uuid?,
        label: found.label,
    })
}

/// The header of a device; `None`: it has none of LUKS 2. Blocks.
///
/// # Errors
/// It cannot be read.
pub fn header(device: &Path) -> Result<Option<Header>, LuksError> {
    let mut start = Vec::new();
    let read = fs::File::open(device).and_then(|file| file.take(4096).read_to_end(&mut start));
    read.map_err(|source| WriteError::Device {
        disk: device.to_owned(),
        what: "reading",
        offset: 0,
        source,
    })?;
    Ok(read_header(&start))
}

/// Refuses what cannot be overwritten. Writes nothing. Blocks.
///
/// # Errors
/// See [`LuksError`].
pub fn may_be_made(device: &Path, uuid: Guid, only_empty: bool) -> Result<(), LuksError> {
    let (there, have_bytes) = clear::there(device)?;
    let device = device.to_owned();
    if have_bytes < LEAST_BYTES {
        return Err(LuksError::TooSmall { device, have_bytes });
    }
    let is_ours = header(&device)?.is_some_and(|header| header.uuid == uuid.to_string());
    if only_empty && !is_ours && !there.is_empty() {
        let there = listed(&there);
        return Err(LuksError::NotEmpty { device, there });
    }
    Ok(())
}

/// What is open under a name; `None`: nothing is.
pub fn opened(system: &System, name: &str) -> Option<Opened> {
    let entries = fs::read_dir(system.sys.join("block")).ok()?;
    entries.flatten().map(|entry| entry.path()).find_map(|dir| {
        let text = |file: &str| fs::read_to_string(dir.join("dm").join(file)).ok();
        if text("name")?.trim() != name {
            return None;
        }
        let of = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten();
        Some(Opened {
            uuid: text("uuid").unwrap_or_default().trim().to_owned(),
            of: of.map(|slave| system.dev.join(slave.file_name())).collect(),
        })
    })
}

/// Whether this device is open under the name of its declaration.
///
/// # Errors
/// [`LuksError::NameTaken`]: the name is another one's.
pub fn is_open(
    declared: &Luks,
    device: &Path,
    uuid: &str,
    opened: Option<&Opened>,
) -> Result<bool, LuksError> {
    let Some(opened) = opened else { return Ok(false) };
    let digits: String = uuid.split('-').collect();
    if opened.uuid == format!("CRYPT-LUKS2-{digits}-{}", declared.name)
        && opened.of.iter().any(|of| of == device)
    {
        return Ok(true);
    }
    let of: Vec<String> = opened.of.iter().map(|of| of.display().to_string()).collect();
    Err(LuksError::NameTaken {
        name: declared.name.clone(),
        of: of.join(", "),
    })
}

/// The bytes of a key that is given as base64 (RFC 4648, section 4); spaces and line breaks do not count. `None`: it is none.
pub fn key_of_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    let mut letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut total = 0_usize;
    for letter in letters.by_ref() {
        total += 1;
        if letter == b'=' {
            let rest: Vec<u8> = letters.by_ref().collect();
            total += rest.len();
            if rest.iter().any(|letter| *letter != b'=') || rest.len() > 1 {
                return None;
            }
            break;
        }
        bits = bits << 6 | u32::from(value(letter)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (total.is_multiple_of(4) && bits == 0 && !bytes.is_empty() && bytes.len() <= MAX_KEY_BYTES)
        .then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const UUID: &str = "5c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11";

    fn declared(label: Option<&str>, uuid: Option<&str>) -> Luks {
        // What takes an hour by default, on a machine that is busy.
        let quick = r#"["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", 1000]"#;
        Luks::parse(Some("crypt"), label, uuid, Some(quick)).unwrap()
    }

    fn cryptsetup(arguments: &[String], key: &[u8]) -> std::process::ExitStatus {
        use std::io::Write;

        let mut child = Command::new("cryptsetup")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(key);
        child.wait().unwrap()
    }

    fn file(mib: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        file
    }

    #[test]
    fn what_cryptsetup_makes_is_known_again_and_its_key_alone_opens_it() {
        let file = file(20);
        let path = file.path();
        let name = path.to_str().unwrap();
        let luks = declared(Some("secret disk"), None);
        let uuid = uuid_of(&luks, "seed");
        assert_eq!(next(&luks, uuid, header(path).unwrap().as_ref()), Next::Make);
        may_be_made(path, uuid, true).unwrap();
        // A key of any bytes, a line break among them.
        let key = [0, 10, 255, 10];
        assert!(cryptsetup(&luks.format_arguments(uuid, name), &key).success());
        let there = header(path).unwrap().unwrap();
        assert_eq!(there.label.as_deref(), Some("secret disk"));
        let dump = crate::testing::output(Command::new("cryptsetup").args(["luksDump", name]));
        for words in [
            uuid.to_string().as_str(),
            "secret disk",
            "Version:       \t2",
            "pbkdf2",
        ] {
            assert!(dump.contains(words), "{words}: {dump}");
        }
        let ours = Next::TryKey {
            uuid: uuid.to_string(),
            is_ours: true,
        };
        assert_eq!(next(&luks, uuid, Some(&there)), ours);
        assert!(cryptsetup(&Luks::trial_arguments(name), &key).success());
        // 2: no permission, a bad passphrase. Source: cryptsetup(8), "RETURN CODES".
        assert_eq!(cryptsetup(&Luks::trial_arguments(name), b"other").code(), Some(2));
        let error = may_be_made(path, uuid_of(&luks, "another"), true).unwrap_err();
        assert_eq!(error.reason(), "DiskNotEmpty");
        assert!(error.to_string().contains("crypto_LUKS at byte 0"), "{error}");
        // Its own, which may be half made, is overwritten.
        may_be_made(path, uuid, true).unwrap();
    }

    /// What a loss of power between the header and the key slot leaves.
    #[test]
    fn a_header_without_a_key_slot_is_told_from_one_with_another_key() {
        let file = file(20);
        let name = file.path().to_str().unwrap();
        let luks = declared(None, Some(UUID));
        let uuid = uuid_of(&luks, "seed");
        assert!(cryptsetup(&luks.format_arguments(uuid, name), b"key").success());
        let killed = ["luksKillSlot", "--batch-mode", name, "0"].map(str::to_owned);
        assert!(cryptsetup(&killed, b"").success());
        assert_eq!(cryptsetup(&Luks::trial_arguments(name), b"key").code(), Some(1));
    }

    #[test]
    fn a_label_and_a_uuid_count_where_they_are_declared() {
        let header = |label: Option<&str>| Header {
            uuid: UUID.to_owned(),
            label: label.map(str::to_owned),
        };
        let says = |label, uuid, there: &Header| {
            let luks = declared(label, uuid);
            match next(&luks, uuid_of(&luks, "seed"), Some(there)) {
                Next::Make => "make",
                Next::TryKey { is_ours: true, .. } => "ours",
                Next::TryKey { .. } => "try",
            }
        };
        assert_eq!(says(None, None, &header(Some("any"))), "try");
        assert_eq!(says(Some("a"), None, &header(Some("a"))), "try");
        assert_eq!(says(Some("a"), None, &header(None)), "make");
        assert_eq!(says(None, Some(UUID), &header(None)), "ours");
        let other = "6c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11";
        assert_eq!(says(None, Some(other), &header(None)), "make");
    }

    #[test]
    fn version_1_and_anything_else_are_no_header() {
        let file = file(20);
        let name = file.path().to_str().unwrap();
        let one = [
            "luksFormat",
            "-q",
            "--type",
            "luks1",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file=-",
            name,
        ];
        assert!(cryptsetup(&one.map(str::to_owned), b"key").success());
        assert_eq!(header(file.path()).unwrap(), None);
        let small = self::file(16);
        let luks = declared(None, None);
        let error = may_be_made(small.path(), uuid_of(&luks, ""), false).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("16777216 B, and LUKS needs 17825792 B"),
            "{error}"
        );
    }

    #[test]
    fn a_name_that_is_open_is_this_device_s_or_taken() {
        let folder = tempfile::tempdir().unwrap();
        let dm = folder.path().join("sys/block/dm-0");
        fs::create_dir_all(dm.join("dm")).unwrap();
        fs::create_dir_all(dm.join("slaves/vda2")).unwrap();
        fs::write(dm.join("dm/name"), "crypt\n").unwrap();
        let digits: String = UUID.split('-').collect();
        fs::write(dm.join("dm/uuid"), format!("CRYPT-LUKS2-{digits}-crypt\n")).unwrap();
        let system = System {
            sys: folder.path().join("sys"),
            ..System::default()
        };
        let luks = declared(None, None);
        let open = opened(&system, "crypt");
        let is = |device: &str, uuid| is_open(&luks, Path::new(device), uuid, open.as_ref());
        assert!(is("/dev/vda2", UUID).unwrap());
        assert!(
            is("/dev/vda3", UUID)
                .unwrap_err()
                .to_string()
                .contains("(/dev/vda2)")
        );
        assert_eq!(is("/dev/vda2", "other").unwrap_err().reason(), "NameTaken");
        assert_eq!(opened(&system, "other"), None);
    }

    #[test]
    fn base64_is_read_whole_or_not_at_all() {
        for (text, bytes) in [
            ("AAr/Cg==", [0, 10, 255, 10].as_slice()),
            ("Zm9v\nYmFy\n", b"foobar"),
            ("Zm8=", b"fo"),
        ] {
            assert_eq!(key_of_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for wrong in [
            "", "A", "AA", "AAA", "AB==", "AA=A", "A===", "AAAA=", "Zm9-", "====", "ä",
        ] {
            assert_eq!(key_of_base64(wrong), None, "{wrong}");
        }
    }
}
