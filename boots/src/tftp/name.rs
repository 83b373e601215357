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
    /// Nothing that is served.
    Unknown,
    /// A name that tries to climb.
    Climbing,
}

/// Reads a file name. Any directory may precede a boot loader's name: firmware and relays add their own.
/// Some UEFI clients separate with backslashes.
pub fn wanted(file: &str) -> Wanted {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    if parts.contains(&"..") {
        return Wanted::Climbing;
    }
    match parts.as_slice() {
        [.., mac, "auto.ipxe"] => mac.parse().map_or(Wanted::Unknown, Wanted::Script),
        [.., base] => bootfile::LOADERS
            .iter()
            .find(|loader| *loader == base)
            .map_or(Wanted::Unknown, |loader| Wanted::Loader(loader)),
        [] => Wanted::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_name_decides_under_any_directory() {
        for name in [
            "snponly.efi",
            "/snponly.efi",
            "a/b/snponly.efi",
            "52:54:00:77:00:0b/snponly.efi",
            "boot\\snponly.efi",
        ] {
            assert_eq!(wanted(name), Wanted::Loader("snponly.efi"), "{name}");
        }
    }

    #[test]
    fn a_script_belongs_to_a_mac() {
        let mac = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);
        assert_eq!(wanted("52:54:00:77:00:0b/auto.ipxe"), Wanted::Script(mac));
        assert_eq!(wanted("/x/52-54-00-77-00-0B/auto.ipxe"), Wanted::Script(mac));
        assert_eq!(wanted("nobody/auto.ipxe"), Wanted::Unknown);
        assert_eq!(wanted("auto.ipxe"), Wanted::Unknown);
    }

    #[test]
    fn climbing_is_told_from_dots_in_names() {
        assert_eq!(wanted("../snponly.efi"), Wanted::Climbing);
        assert_eq!(wanted("a\\..\\..\\etc/passwd"), Wanted::Climbing);
        assert_eq!(wanted("a..b"), Wanted::Unknown);
        assert_eq!(wanted("/etc/passwd"), Wanted::Unknown);
        assert_eq!(wanted("snponly.efi/"), Wanted::Unknown);
        assert_eq!(wanted(""), Wanted::Unknown);
    }
}
