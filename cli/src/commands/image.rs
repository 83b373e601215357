//! `farrier image build` and `farrier image modules`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::apt::Suite;
use image::{Carried, Driver, Firmware, Options, Others, OwnKernel, PciId, Profile, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::ending;
use crate::failure::{Failure, chain};
use crate::terminal::{Out, is_shown_to_a_person, safe_line, say};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Build the kernel, initramfs and boot loaders that machines netboot
    Build(Box<BuildArgs>),
    /// Show which drivers and firmware a boot image has, all or for a card
    Modules(ModulesArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image build --boot-dir /var/lib/farrier/boot
  farrier image build --boot-dir boot --agent ./farrier-agent
  farrier image build --boot-dir boot --mirror http://mirror.example/debian
  farrier image build --boot-dir boot --profile server --firmware non-free
  farrier image build --boot-dir boot --profile server --suite trixie-backports
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
    /// Which kernel and drivers: lab (virtual machines) or server (physical ones)
    #[arg(long, value_name = "NAME", default_value = "lab", value_parser = parsed::<Profile>)]
    profile: Profile,
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

pub(crate) fn run(command: ImageCommand) -> Result<ExitCode, Failure> {
    match command {
        ImageCommand::Build(args) => build(*args),
        ImageCommand::Modules(args) => modules(&args),
    }
}

fn build(args: BuildArgs) -> Result<ExitCode, Failure> {
    super::log_to_stderr(super::LogFormat::Text, "warn");
    let options = Options {
        agent: args.agent.map_or_else(find_agent, named_agent)?,
        output: args.boot_dir,
        others: if args.force {
            Others::Delete
        } else {
            Others::Refuse
        },
        cache: args.cache.unwrap_or_else(default_cache),
        profile: args.profile,
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

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image modules --boot-dir boot
  farrier image modules --boot-dir boot --pci 8086:1572
  farrier image modules --boot-dir boot --pci 144d:a80a/010802

Reads the initramfs that machines get. Ids are those of lspci -nn; with the class
after a slash, drivers that go by class are found too (NVMe, AHCI). Exits with 1
when the image has no driver for the card.")]
pub(crate) struct ModulesArgs {
    /// Directory of the boot image
    #[arg(
        long,
        value_name = "DIR",
        env = "FARRIER_BOOT_DIR",
        hide_env_values = true,
        value_parser = directory
    )]
    boot_dir: PathBuf,
    /// Only the drivers of this card
    #[arg(long, value_name = "VENDOR:DEVICE[/CLASS]", value_parser = parsed::<PciId>)]
    pci: Option<PciId>,
}

fn modules(args: &ModulesArgs) -> Result<ExitCode, Failure> {
    let carried = Carried::read(&args.boot_dir).map_err(|error| Failure::Failed(chain(&error)))?;
    let drivers: Vec<Driver> = match &args.pci {
        Some(id) => carried.drivers_of(id),
        None => carried.modules().cloned().collect(),
    };
    if let (Some(id), true) = (&args.pci, drivers.is_empty()) {
        let class = if id.class.is_none() {
            format!(", nor one that goes by class, which {id}/CLASS would find")
        } else {
            String::new()
        };
        return Err(Failure::Failed(format!(
            "{} has no driver for {id}{class}: build it with --profile server, with a newer kernel (--suite, --kernel-package), or \
             with one of your own (--kernel, --modules)",
            args.boot_dir.display()
        )));
    }
    let rows = drivers.into_iter().map(|driver| {
        let from = driver.path.unwrap_or_else(|| "built in".to_owned());
        let missing = driver
            .firmware_missing
            .iter()
            .map(|name| format!("{name} (missing)"));
        let firmware: Vec<String> = driver.firmware.iter().cloned().chain(missing).collect();
        let needs = driver.needs.join(" ");
        vec![
            driver.name,
            driver.bytes.to_string(),
            from,
            needs,
            firmware.join(", "),
        ]
    });
    let head = ["MODULE", "BYTES", "FROM", "NEEDS", "FIRMWARE"];
    crate::output::table(&mut Out::stdout(), &head, rows)?;
    Ok(ExitCode::SUCCESS)
}

/// A value whose errors say what it may be.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
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

/// `--boot-dir` was `--output` once, which is a format everywhere else.
fn directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("name a directory".to_owned()),
        "table" | "json" | "yaml" => Err(format!(
            "{text} is a format; for a directory of that name write ./{text}"
        )),
        path => Ok(path.into()),
    }
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

/// One bar for the step that runs; lines where there is no terminal.
#[derive(Default)]
struct Bars {
    bar: Option<ProgressBar>,
}

impl Bars {
    fn show(&mut self, progress: Progress<'_>) {
        let terminal = is_shown_to_a_person();
        match progress {
            Progress::Began { step, bytes } if terminal => {
                let bar = match bytes {
                    Some(bytes) => ProgressBar::new(bytes).with_style(style()),
                    None => ProgressBar::new_spinner(),
                };
                self.bar = Some(bar.with_message(step.to_owned()));
            }
            Progress::Began { step, .. } => say(step),
            Progress::Advanced { bytes } => self.bar.iter().for_each(|bar| bar.inc(bytes)),
            Progress::Noted { text } => match &self.bar {
                Some(bar) => bar.println(format!("  {}", safe_line(text))),
                None => say(format_args!("  {text}")),
            },
            Progress::Ended { step } => {
                if let Some(bar) = self.bar.take() {
                    let elapsed = bar.elapsed();
                    bar.finish_and_clear();
                    say(format_args!("{step}  {:.1} s", elapsed.as_secs_f64()));
                }
            }
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{msg}  [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}");
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
