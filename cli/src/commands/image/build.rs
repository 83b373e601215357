//! `farrier image build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::apt::Suite;
use image::{Firmware, Options, Others, OwnKernel, Profiles};

use super::bars::Bars;
use super::{directory, parsed};
use crate::ending;
use crate::failure::{Failure, chain};
use crate::terminal::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image build --boot-dir /var/lib/farrier/boot
  farrier image build --boot-dir boot --agent ./farrier-agent
  farrier image build --boot-dir boot --mirror http://mirror.example/debian
  farrier image build --boot-dir boot --profile server --firmware non-free
  farrier image build --boot-dir boot --profile server --suite trixie-backports
  farrier image build --boot-dir boot --profile server --profile containerd
  farrier image build --boot-dir boot --suite bookworm --kernel-package linux-image-amd64=6.1.170-1
  farrier image build --boot-dir boot --kernel ./vmlinuz --modules ./lib/modules/6.18.0

Needs no root. Packages come from Debian through a private apt root and are
kept in the cache. An earlier boot image is replaced when the new one is whole;
a directory that holds anything else is left as it is.")]
pub(crate) struct BuildArgs {
    /// Directory to write: a new or empty one, or an earlier boot image
    #[arg(
        long,
        value_name = "DIR",
        env = "FARRIER_BOOT_DIR",
        hide_env_values = true,
        alias = "output",
        value_parser = directory
    )]
    boot_dir: PathBuf,
    /// Delete the other files of that directory, too; says which
    #[arg(long)]
    force: bool,
    /// The static farrier-agent [default: beside farrier, then /usr/lib/farrier/farrier-agent]
    #[arg(long, value_name = "FILE", env = "FARRIER_AGENT", hide_env_values = true)]
    agent: Option<PathBuf>,
    /// Which kernel and drivers: lab (virtual machines) or server (physical ones); containerd beside them adds containerd and runc, for
    /// actions with runtime: containerd
    #[arg(long = "profile", value_name = "NAME", default_value = "lab")]
    profiles: Vec<String>,
    /// Firmware: none, free, or non-free too [default: none for lab, free for server]
    #[arg(long, value_name = "KIND", value_parser = parsed::<Firmware>)]
    firmware: Option<Firmware>,
    /// Suite of Debian: a code name such as trixie or bookworm, or trixie-backports
    #[arg(long, value_name = "SUITE", default_value_t, value_parser = parsed::<Suite>)]
    suite: Suite,
    /// Another kernel package than the profile's
    #[arg(long, value_name = "NAME[=VERSION]", conflicts_with = "kernel", value_parser = package)]
    kernel_package: Option<String>,
    /// Where packages are kept [default: ~/.cache/farrier/packages]
    #[arg(long, value_name = "DIR", env = "FARRIER_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// The Debian mirror [default: the host's, else the public one]
    #[arg(long, value_name = "URL", env = "FARRIER_MIRROR", hide_env_values = true)]
    mirror: Option<String>,
    /// Look for newer packages although the cache has some
    #[arg(long)]
    refresh: bool,
    /// Certificate authorities of your site's own (PEM), for images over https; may be given more than once
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    /// A kernel of your own, with --modules
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,
    /// Its lib/modules/VERSION
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,
}

pub(super) fn run(args: BuildArgs) -> Result<ExitCode, Failure> {
    crate::commands::log_to_stderr(crate::commands::LogFormat::Text, "warn");
    let options = Options {
        agent: args.agent.map_or_else(find_agent, named_agent)?,
        output: args.boot_dir,
        others: if args.force {
            Others::Delete
        } else {
            Others::Refuse
        },
        cache: args.cache.unwrap_or_else(default_cache),
        profiles: Profiles::named(&args.profiles).map_err(|error| Failure::Usage(error.to_string()))?,
        firmware: args.firmware,
        suite: args.suite,
        kernel_package: args.kernel_package,
        mirror: args.mirror,
        refresh: args.refresh,
        ca_files: args.ca_files,
        kernel: args
            .kernel
            .zip(args.modules)
            .map(|(image, modules)| OwnKernel { image, modules }),
    };
    ending::tidied_by(image::remove_scratch);
    let mut bars = Bars::default();
    let built = image::build(&options, &mut |progress| bars.show(progress));
    bars.clear();
    let manifest = built.map_err(|error| Failure::Failed(chain(&error)))?;
    let rows = manifest
        .files
        .iter()
        .map(|file| vec![file.name.clone(), file.bytes.to_string(), file.sha256.clone()]);
    crate::output::table(&mut Out::stdout(), &["FILE", "BYTES", "SHA-256"], rows)?;
    Ok(ExitCode::SUCCESS)
}

/// A package's name as apt takes it, and nothing that it would take for an option or a pattern.
fn package(text: &str) -> Result<String, String> {
    let (name, version) = text.split_once('=').unwrap_or((text, "0"));
    let all = |text: &str, more: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || more.contains(one))
    };
    if all(name, "+-.") && all(version, "+-.:~") {
        return Ok(text.to_owned());
    }
    Err("name a package of Debian's, such as linux-image-amd64 or linux-image-amd64=6.12.1-1".to_owned())
}

/// Looked at before anything is fetched or built.
fn named_agent(path: PathBuf) -> Result<PathBuf, Failure> {
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::Failed(format!(
        "no farrier-agent at {}: name the static binary with --agent FILE",
        path.display()
    )))
}

/// Where packages of `farrier` put the agent.
fn find_agent() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("farrier-agent")));
    let places: Vec<PathBuf> = beside
        .into_iter()
        .chain([PathBuf::from("/usr/lib/farrier/farrier-agent")])
        .collect();
    places
        .iter()
        .find(|place| place.is_file())
        .cloned()
        .ok_or_else(|| {
            let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            Failure::Failed(format!(
                "no farrier-agent at {}: name it with --agent FILE",
                places.join(" or ")
            ))
        })
}

fn default_cache() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    home.unwrap_or_else(std::env::temp_dir).join("farrier/packages")
}
