//! What a requested TFTP file name means. Pure: a name never becomes a path.

use macaddr::MacAddr6;

use crate::bootfile;

/// What a file name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A boot loader of the boot directory, by its base name.
    Loader(&'static str),
    /// The machine's iPXE script.
    Script(MacAddr6),
    /// The script that iPXE asks for by itself before it does anything, since 2024.
    AutoExec,
    /// Nothing that is served.
    Unknown,
    /// A name that tries to climb.
    Climbing,
}

/// Reads a file name. Any directory may precede a boot loader's name, firmware and relays add their own; anything may
/// follow it, and letters may be of either case. Some UEFI clients separate with backslashes.
///
/// Firmware that reads option 67 up to a zero byte asks for what follows it in the packet, too: the number of the next
/// option or the end option, and its length. There is no other file whose name begins as a boot loader's does.
pub fn wanted(file: &str) -> Wanted {
    // What a reader of too much takes along, beginning with what no name holds; what replaces bytes that are no UTF-8
    // is not ASCII.
    let name = file
        .split(|c: char| !c.is_ascii_graphic() && c != ' ')
        .next()
        .unwrap_or_default();
    let is_cut = name.len() < file.len();
    let parts: Vec<&str> = name.split(['/', '\\']).collect();
    if parts.contains(&"..") {
        return Wanted::Climbing;
    }
    // The next option's number may itself be a separator.
    let parts = match parts.as_slice() {
        [before @ .., ""] if is_cut => before,
        all => all,
    };
    match parts {
        [.., base] if begins(base, AUTOEXEC) => Wanted::AutoExec,
        [.., mac, base] if begins(base, SCRIPT) => mac.parse().map_or(Wanted::Unknown, Wanted::Script),
        [.., base] => bootfile::LOADERS
            .iter()
            .find(|loader| begins(base, loader))
            .map_or(Wanted::Unknown, |loader| Wanted::Loader(loader)),
        [] => Wanted::Unknown,
    }
}

const AUTOEXEC: &str = "autoexec.ipxe";

fn begins(name: &str, with: &str) -> bool {
    name.get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with))
}

const SCRIPT: &str = "auto.ipxe";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_base_name_decides_under_any_directory() {
        for name in [
            "snponly.efi",
            "/snponly.efi",
            "//snponly.efi",
            "a/b/snponly.efi",
            "52:54:00:77:00:0b/snponly.efi",
            "boot\\snponly.efi",
            "tftp://10.77.0.1/snponly.efi",
            "SNPONLY.EFI",
        ] {
            assert_eq!(wanted(name), Wanted::Loader("snponly.efi"), "{name}");
        }
    }

    #[test]
    fn a_script_belongs_to_a_mac() {
        let mac = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);
        assert_eq!(wanted("52:54:00:77:00:0b/auto.ipxe"), Wanted::Script(mac));
        assert_eq!(wanted("/x/52-54-00-77-00-0B/auto.ipxe"), Wanted::Script(mac));
        assert_eq!(wanted("52:54:00:77:00:0b/auto.ipxe\u{fffd}"), Wanted::Script(mac));
        assert_eq!(wanted("nobody/auto.ipxe"), Wanted::Unknown);
        assert_eq!(wanted("auto.ipxe"), Wanted::Unknown);
    }

    #[test]
    fn what_a_reader_of_too_much_takes_along_is_passed_over() {
        for (name, want) in [
            // Option 97, 17 bytes; the end option; options 12, 47 and 92; what relays append for tracing.
            ("undionly.kpxea\u{11}", "undionly.kpxe"),
            ("snponly.efi\u{fffd}", "snponly.efi"),
            ("undionly.kpxe\u{c}\u{6}node-1", "undionly.kpxe"),
            ("undionly.kpxe/\u{4}x/y", "undionly.kpxe"),
            ("local-boot.efi\\\u{1}", "local-boot.efi"),
            (
                "undionly.kpxe-00-23b1e307bb35484f535a1f772c06910e-01",
                "undionly.kpxe",
            ),
            ("undionly.kpxe ", "undionly.kpxe"),
        ] {
            assert_eq!(wanted(name), Wanted::Loader(want), "{name:?}");
        }
    }

    #[test]
    fn climbing_is_told_from_dots_in_names() {
        assert_eq!(wanted("../snponly.efi"), Wanted::Climbing);
        assert_eq!(wanted("a\\..\\..\\etc/passwd"), Wanted::Climbing);
        assert_eq!(wanted("a..b"), Wanted::Unknown);
        assert_eq!(wanted("/etc/passwd"), Wanted::Unknown);
        assert_eq!(wanted("snponly.efi/"), Wanted::Unknown);
        assert_eq!(wanted("xsnponly.efi"), Wanted::Unknown);
        assert_eq!(wanted(""), Wanted::Unknown);
        assert_eq!(wanted("\u{fffd}"), Wanted::Unknown);
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_loaders_name_give_that_loader(junk in proptest::collection::vec(1u8.., 0..40)) {
            let bytes = [b"undionly.kpxe".as_slice(), &junk].concat();
            let name = String::from_utf8_lossy(&bytes);
            let climbs_or_leads_on = name.contains(['/', '\\']);
            prop_assert!(climbs_or_leads_on || wanted(&name) == Wanted::Loader("undionly.kpxe"), "{name:?}");
        }
    }
}
