//! LUKS as templates declare it: the name under which it is opened, label, UUID and how its key is kept.

use crate::options::{self, Known};
use crate::{FieldProblem, Guid};

/// Of the label in a header, without its zero. Source: LUKS2 On-Disk Format Specification 1.1.3, section 2.1.
const MAX_LABEL_BYTES: usize = 47;
/// `DM_NAME_LEN` without its zero. Source: linux/dm-ioctl.h.
const MAX_NAME_BYTES: usize = 127;

/// What says how the key is kept and the data are enciphered; what names a device, a file or a key slot is not among them.
const OPTIONS: &[Known] = &[
    ("-c", true),
    ("--cipher", true),
    ("-s", true),
    ("--key-size", true),
    ("-h", true),
    ("--hash", true),
    ("-i", true),
    ("--iter-time", true),
    ("--pbkdf", true),
    ("--pbkdf-memory", true),
    ("--pbkdf-parallel", true),
    ("--pbkdf-force-iterations", true),
    ("--sector-size", true),
];

/// An encrypted device as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Luks {
    /// Below /dev/mapper.
    pub name: String,
    pub label: Option<String>,
    pub uuid: Option<Guid>,
    /// Arguments of `cryptsetup luksFormat`, in their order.
    pub options: Vec<String>,
}

impl Luks {
    /// From the words of a template; `options` is a JSON list of texts.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(
        name: Option<&str>,
        label: Option<&str>,
        uuid: Option<&str>,
        options: Option<&str>,
    ) -> Result<Luks, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        if let Some(wrong) = name.and_then(wrong_name) {
            say("NAME", wrong);
        }
        if let Some(wrong) = label.and_then(wrong_label) {
            say("LABEL", wrong);
        }
        let read = uuid.map(|text| text.parse::<Guid>().ok().filter(|guid| *guid != Guid::ZERO));
        if let (Some(text), Some(None)) = (uuid, read) {
            let short: String = text.chars().take(64).collect();
            say(
                "UUID",
                format!(
                    "uuid {short:?} is none: write 32 hexadecimal digits in groups of 8-4-4-4-12, not all of them 0"
                ),
            );
        }
        let words = options.map_or(Ok(Vec::new()), |text| {
            let words = options::read(text)?;
            options::check(&words, "cryptsetup luksFormat", "LUKS", OPTIONS)?;
            Ok(words)
        });
        let options = words.unwrap_or_else(|message| {
            say("OPTIONS", message);
            Vec::new()
        });
        match problems.is_empty() {
            true => Ok(Luks {
                name: name.unwrap_or_default().to_owned(),
                label: label.map(str::to_owned),
                uuid: read.flatten(),
                options,
            }),
            false => Err(problems),
        }
    }

    /// The arguments of `cryptsetup` that make the header; the key is read from standard input, to its end.
    pub fn format_arguments(&self, uuid: Guid, device: &str) -> Vec<String> {
        let mut arguments = words(&["luksFormat", "--batch-mode", "--type", "luks2", "--key-file=-"]);
        arguments.push(format!("--uuid={uuid}"));
        arguments.extend(self.label.iter().map(|label| format!("--label={label}")));
        arguments.extend(self.options.iter().cloned());
        arguments.push(device.to_owned());
        arguments
    }

    /// The same, for opening it under its name.
    pub fn open_arguments(&self, device: &str) -> Vec<String> {
        let mut arguments = words(&["open", "--type", "luks2", "--key-file=-"]);
        arguments.extend([device.to_owned(), self.name.clone()]);
        arguments
    }

    /// The same, for trying the key; nothing is written or opened.
    pub fn trial_arguments(device: &str) -> Vec<String> {
        let mut arguments = words(&["open", "--test-passphrase", "--type", "luks2", "--key-file=-"]);
        arguments.push(device.to_owned());
        arguments
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn wrong_name(name: &str) -> Option<String> {
    let short: String = name.chars().take(64).collect();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !begins || !name.bytes().all(is_plain) || name.len() > MAX_NAME_BYTES || name == "control" {
        return Some(format!(
            "name {short:?} is none of a mapping: write letters, digits, \".\", \"_\", \"-\" and \"+\", a letter or digit first, {MAX_NAME_BYTES} B \
             at most, and not \"control\""
        ));
    }
    None
}

fn wrong_label(label: &str) -> Option<String> {
    let short: String = label.chars().take(64).collect();
    if label.len() > MAX_LABEL_BYTES {
        let len = label.len();
        return Some(format!(
            "label {short:?} has {len} B, and one of LUKS has {MAX_LABEL_BYTES} B at most"
        ));
    }
    if label.trim() != label || label.chars().any(char::is_control) {
        return Some(format!(
            "label {short:?} begins or ends with a space, or has control characters: leave them out"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn said(name: &str, label: Option<&str>, uuid: Option<&str>, options: Option<&str>) -> String {
        let problems = Luks::parse(Some(name), label, uuid, options).err();
        let words: Vec<String> = problems
            .unwrap_or_default()
            .iter()
            .map(FieldProblem::to_string)
            .collect();
        words.join("; ")
    }

    #[test]
    fn what_no_header_has_is_refused_with_every_problem() {
        assert_eq!(
            said(
                "crypt-root.1",
                Some("root"),
                None,
                Some("[\"--pbkdf\", \"pbkdf2\", \"-s512\"]")
            ),
            ""
        );
        for name in ["", "a/b", "-x", "control", "ä", "a b", &"x".repeat(128)] {
            assert!(
                said(name, None, None, None).contains("is none of a mapping"),
                "{name}"
            );
        }
        let label = "x".repeat(48);
        let all = said(
            "/",
            Some(&label),
            Some("1234"),
            Some("[\"--key-file=/etc/shadow\"]"),
        );
        for words in [
            "name \"/\" is none",
            "has 48 B, and one of LUKS has 47 B at most",
            "uuid \"1234\" is none",
            "option \"--key-file=/etc/shadow\" is none that cryptsetup luksFormat is given here",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(said("a", None, None, Some("[\"/dev/vdb\"]")).contains("is none that"));
    }

    #[test]
    fn the_key_is_in_no_argument_and_the_device_is_named_once() {
        let luks = Luks::parse(Some("root"), Some("disk"), None, Some("[\"--pbkdf=pbkdf2\"]")).unwrap();
        let uuid = Guid::of_digest([7; 16]);
        assert_eq!(
            luks.format_arguments(uuid, "/dev/vda2").join(" "),
            format!(
                "luksFormat --batch-mode --type luks2 --key-file=- --uuid={uuid} --label=disk --pbkdf=pbkdf2 /dev/vda2"
            )
        );
        assert_eq!(
            luks.open_arguments("/dev/vda2").join(" "),
            "open --type luks2 --key-file=- /dev/vda2 root"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(name in ".{0,20}", label in ".{0,60}", uuid in ".{0,40}", options in "\\[(\"-.{0,6}\",?)*\\]|.*") {
            let _ = Luks::parse(Some(&name), Some(&label), Some(&uuid), Some(&options));
        }
    }
}
