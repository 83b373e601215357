//! Installs what a host lacks with apt-get, and asks first.
//!
//! Only the standard library: the launcher `cargo xtask`, which has no dependencies, compiles this same file.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A program or file, the package that has it, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// A program in PATH, or a file when it begins with `/`; alternatives are separated by `|`.
    pub probe: &'static str,
    /// Debian's and Ubuntu's package.
    pub package: &'static str,
    /// What it is for, in words.
    pub why: &'static str,
}

/// A [`Need`] in one line.
pub const fn need(probe: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { probe, package, why }
}

/// Whether installing may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Ask on the terminal; without a terminal install without asking.
    Ask,
    /// Given by `--yes`.
    Given,
}

/// Where packages are installed, and who asks for it.
#[derive(Clone, Debug)]
pub struct Host {
    /// As the environment variable.
    pub path: OsString,
    /// The text of /etc/os-release.
    pub os_release: String,
    /// Whether this process is root.
    pub root: bool,
    /// Whether there is somebody to ask: stdin is a terminal.
    pub terminal: bool,
}

impl Host {
    /// This host, and this process.
    pub fn here() -> Host {
        Host {
            path: env::var_os("PATH").unwrap_or_default(),
            os_release: fs::read_to_string("/etc/os-release").unwrap_or_default(),
            root: fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0),
            terminal: io::stdin().is_terminal(),
        }
    }

    /// What of `needs` is not there.
    pub fn missing<'n>(&self, needs: &'n [Need]) -> Vec<&'n Need> {
        needs.iter().filter(|need| !self.has(need.probe)).collect()
    }

    fn has(&self, probe: &str) -> bool {
        probe.split('|').any(|probe| self.find(probe).is_some())
    }

    /// Looks in PATH and where administrators' programs are, which is not in every PATH.
    fn find(&self, probe: &str) -> Option<PathBuf> {
        if probe.starts_with('/') {
            return Some(PathBuf::from(probe)).filter(|file| file.exists());
        }
        env::split_paths(&self.path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .map(|directory| directory.join(probe))
            .find(|program| program.is_file())
    }
}

/// What is to be done about missing packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is missing.
    Nothing,
    /// There is no apt-get that knows these packages: the person installs their counterparts.
    ByHand(Vec<&'static str>),
    /// Only root may install, and there is no sudo.
    AsRoot(Vec<&'static str>),
    /// apt-get installs them.
    Install {
        /// Each once, in alphabetical order.
        packages: Vec<&'static str>,
        /// Whether the person is asked first.
        asks: bool,
        /// Whether apt-get is run by sudo.
        sudo: bool,
    },
}

/// Decides from what is `missing` on a host. Reads nothing and runs nothing but looks for apt-get and sudo.
pub fn plan(missing: &[&Need], host: &Host, consent: Consent) -> Plan {
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    match () {
        () if packages.is_empty() => Plan::Nothing,
        () if !host.has("apt-get") || !has_debian_packages(&host.os_release) => Plan::ByHand(packages),
        () if !host.root && !host.has("sudo") => Plan::AsRoot(packages),
        () => Plan::Install {
            packages,
            asks: consent == Consent::Ask && host.terminal,
            sudo: !host.root,
        },
    }
}

/// Installs what is missing of `needs`. They are what `whose` ("the lab") needs. The person's answer,
/// where one is asked for, is the next line of `answers`.
///
/// # Errors
/// When the person says no, on a distribution without these packages (with the list), and when apt-get fails.
pub fn install(
    needs: &[Need],
    consent: Consent,
    whose: &str,
    host: &Host,
    answers: &mut impl BufRead,
) -> Result<(), String> {
    let missing = host.missing(needs);
    if !missing.is_empty() {
        println!("Packages that {whose} needs and that are not installed:");
    }
    for need in &missing {
        let probe = need.probe.replace('|', " or ");
        println!("  {:<20} {} ({probe})", need.package, need.why);
    }
    let (packages, asks, sudo) = match plan(&missing, host, consent) {
        Plan::Nothing => return Ok(()),
        Plan::ByHand(packages) => {
            return Err(format!(
                "this is not Debian or Ubuntu: install the counterparts of {} and start again",
                packages.join(" ")
            ));
        }
        Plan::AsRoot(packages) => {
            return Err(format!(
                "you are not root and there is no sudo: as root, run `apt-get install {}` and start again",
                packages.join(" ")
            ));
        }
        Plan::Install { packages, asks, sudo } => (packages, asks, sudo),
    };
    if asks && !agreed(sudo, answers)? {
        return Err(format!(
            "nothing installed; {whose} needs: apt-get install {}",
            packages.join(" ")
        ));
    }
    apt_get(host, sudo, &["update", "-q"])?;
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    apt_get(host, sudo, &[&install, packages.as_slice()].concat())?;
    let still: Vec<_> = host.missing(needs).iter().map(|need| need.probe).collect();
    match still.as_slice() {
        [] => Ok(()),
        still => Err(format!(
            "apt-get succeeded but {} is still not there",
            still.join(", ")
        )),
    }
}

/// Whether os-release names Debian, Ubuntu or a child of theirs.
fn has_debian_packages(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .flat_map(|(_, value)| value.trim_matches(['"', '\'']).split(' '))
        .any(|id| matches!(id, "debian" | "ubuntu"))
}

fn agreed(sudo: bool, answers: &mut impl BufRead) -> Result<bool, String> {
    print!(
        "Install them with apt-get{}? [Y/n] ",
        if sudo { " and sudo" } else { "" }
    );
    let mut answer = String::new();
    let read = io::stdout()
        .flush()
        .and_then(|()| answers.read_line(&mut answer))
        .map_err(|error| format!("reading the answer: {error}"))?;
    // The end of input (Ctrl-D) agrees to nothing.
    Ok(read > 0 && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn apt_get(host: &Host, sudo: bool, args: &[&str]) -> Result<(), String> {
    let find = |name: &str| host.find(name).unwrap_or_else(|| Path::new(name).to_owned());
    let mut command = match sudo {
        false => Command::new(find("apt-get")),
        true => {
            let mut command = Command::new(find("sudo"));
            command.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
            command
        }
    };
    let status = command
        .env("PATH", &host.path)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(args)
        .status()
        .map_err(|error| format!("running apt-get {}: {error}", args.join(" ")))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("apt-get {} failed ({status}), see above", args.join(" "))),
    }
}

#[cfg(test)]
#[path = "apt_tests.rs"]
mod tests;
