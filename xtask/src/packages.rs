//! What testing takes, as Debian packages. What the lab itself needs is known by `farrier lab`; a linker was there,
//! or this program would not run.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// A program in PATH or a file (when it begins with `/`), and the package that has it.
pub(crate) type Need = (&'static str, &'static str);

/// What unit and integration tests use: independent peers and tools to check against.
pub(crate) const TEST: &[Need] = &[
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("losetup", "mount"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("dnsmasq", "dnsmasq-base"),
    ("sgdisk", "gdisk"),
    ("curl", "curl"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
];

/// Installs what is missing of `needs` with apt-get; asks first on a terminal unless `assume_yes`.
pub(crate) fn install(needs: &[Need], assume_yes: bool) -> Outcome<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| !is_there(need.0))
        .map(|need| need.1)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    println!("Packages that are missing: {list}");
    if !is_there("apt-get") {
        return Err(format!(
            "this is not Debian or Ubuntu: install the counterparts of {list} and start again"
        ));
    }
    if !assume_yes && std::io::stdin().is_terminal() && !agreed()? {
        return Err(format!("nothing installed; needed: apt-get install {list}"));
    }
    apt_get(&["update", "-q"])?;
    apt_get(
        &[
            &["install", "-y", "-q", "--no-install-recommends"],
            missing.as_slice(),
        ]
        .concat(),
    )
}

fn agreed() -> Outcome<bool> {
    print!(
        "Install them with apt-get{}? [Y/n] ",
        if is_root() { "" } else { " and sudo" }
    );
    let mut answer = String::new();
    std::io::stdout()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| format!("reading the answer: {error}"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn apt_get(args: &[&str]) -> Outcome<()> {
    let mut command = match is_root() {
        true => Command::new("apt-get"),
        false => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
            sudo
        }
    };
    let status = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(args)
        .status()
        .map_err(|error| format!("running apt-get: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("apt-get {} failed ({status}), see above", args.join(" "))),
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn is_there(probe: &str) -> bool {
    if probe.starts_with('/') {
        return Path::new(probe).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(probe).is_file())
}
