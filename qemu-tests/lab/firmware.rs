//! What a machine's firmware is, and where distributions keep it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// SeaBIOS; the network card's option ROM is iPXE.
    #[default]
    Bios,
    /// OVMF with its own PXE client; the network card has no option ROM.
    Uefi,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        })
    }
}

impl FromStr for Firmware {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Firmware> {
        match text {
            "bios" => Ok(Firmware::Bios),
            "uefi" => Ok(Firmware::Uefi),
            other => bail!("firmware is bios or uefi, not {other:?}"),
        }
    }
}

/// OVMF's two flash images: code, shared and read-only, and variables, of which every machine has its own copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// Mapped read-only.
    pub code: PathBuf,
    /// To be copied.
    pub variables: PathBuf,
}

impl Ovmf {
    /// The first pair that is there, in the places of Debian, Ubuntu, Fedora, Arch and openSUSE.
    ///
    /// # Errors
    /// When there is none: names the package.
    pub fn find() -> anyhow::Result<Ovmf> {
        find_below(Path::new("/")).context("no OVMF firmware found (Debian package ovmf)")
    }
}

fn find_below(root: &Path) -> Option<Ovmf> {
    PLACES.iter().find_map(|(directory, code, variables)| {
        let ovmf = Ovmf {
            code: root.join(directory).join(code),
            variables: root.join(directory).join(variables),
        };
        (ovmf.code.is_file() && ovmf.variables.is_file()).then_some(ovmf)
    })
}

/// 4 MB builds first: newer distributions ship nothing else. No Secure Boot builds, which need SMM.
const PLACES: [(&str, &str, &str); 5] = [
    ("usr/share/OVMF", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("usr/share/OVMF", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("usr/share/edk2/ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("usr/share/edk2/x64", "OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
    ("usr/share/qemu", "ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn prefers_the_4_mb_build_and_needs_both_halves() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("usr/share/OVMF");
        fs::create_dir_all(&place).unwrap();
        for name in ["OVMF_CODE.fd", "OVMF_VARS.fd", "OVMF_CODE_4M.fd"] {
            fs::write(place.join(name), "").unwrap();
        }
        assert_eq!(find_below(root.path()).unwrap().code, place.join("OVMF_CODE.fd"));
        fs::write(place.join("OVMF_VARS_4M.fd"), "").unwrap();
        assert_eq!(
            find_below(root.path()).unwrap().code,
            place.join("OVMF_CODE_4M.fd")
        );
    }
}
