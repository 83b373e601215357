//! The server's settings: a TOML file, `FARRIER_*` variables and flags, all of the same names. A flag wins over a
//! variable, a variable over the file.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use access::Pin;
use boots::{BootsConfig, DhcpMode};
use clap::builder::BoolishValueParser;
use registry::Outside;
use serde::Deserialize;
use server::RegistrySettings;
use store::blobs::Blobs;
use workflow::language::{AllowedImages, ImagePolicy, NativeImages};

use super::outside::{Fetched, outside};
use super::pulls::pulls;
use crate::commands::LogFormat;
use crate::duration::{Given, duration, setting};
use crate::failure::Failure;

/// Settings as they are given: what is left out is the file's, then the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  farrier serve --interface br0                      the address is the interface's own
  farrier serve --config /etc/farrier.toml
  FARRIER_INTERFACE=br0 FARRIER_DATA_DIR=/srv/farrier farrier serve

The file has the flags' names:
  interface = \"br0\"
  address = \"10.77.0.1\"
  data-dir = \"/var/lib/farrier\"

Prints `farrier: ready …` on stderr when every socket is bound. Stops on SIGTERM and SIGINT.
Ports below 1024, DHCP and router advertisements need root, or
CAP_NET_BIND_SERVICE and CAP_NET_RAW.")]
pub(crate) struct ServeArgs {
    /// Settings in TOML
    #[arg(long, value_name = "FILE", env = "FARRIER_CONFIG", hide_env_values = true)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// The interface that machines netboot on
    #[arg(long, value_name = "NAME", env = "FARRIER_INTERFACE", hide_env_values = true)]
    interface: Option<String>,
    /// This server's address there [default: the interface's first]
    #[arg(long, value_name = "IPV4", env = "FARRIER_ADDRESS", hide_env_values = true)]
    address: Option<Ipv4Addr>,
    /// Where machines are served: gRPC for agents, HTTP and TFTP [default: 0.0.0.0, every address]
    #[arg(long, value_name = "IPV4", env = "FARRIER_LISTEN", hide_env_values = true)]
    listen: Option<Ipv4Addr>,
    /// Where everything is kept [default: /var/lib/farrier]
    #[arg(long, value_name = "DIR", env = "FARRIER_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// What `farrier image build` made [default: DATA_DIR/boot]
    #[arg(long, value_name = "DIR", env = "FARRIER_BOOT_DIR", hide_env_values = true)]
    boot_dir: Option<PathBuf>,
    /// Disk images, served as /images/ [default: DATA_DIR/images]
    #[arg(long, value_name = "DIR", env = "FARRIER_IMAGES_DIR", hide_env_values = true)]
    images_dir: Option<PathBuf>,
    /// Agents [default: 42113]
    #[arg(long, value_name = "PORT", env = "FARRIER_GRPC_PORT", hide_env_values = true)]
    grpc_port: Option<u16>,
    /// People: the other commands, with TLS and tokens [default: 127.0.0.1:42115, this host alone]
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "FARRIER_API_LISTEN",
        hide_env_values = true
    )]
    api_listen: Option<SocketAddr>,
    /// Scripts, kernels and images [default: 7080]
    #[arg(long, value_name = "PORT", env = "FARRIER_HTTP_PORT", hide_env_values = true)]
    http_port: Option<u16>,
    /// Boot loaders [default: 69]
    #[arg(long, value_name = "PORT", env = "FARRIER_TFTP_PORT", hide_env_values = true)]
    tftp_port: Option<u16>,
    /// Addresses and boot files [default: 67]
    #[arg(long, value_name = "PORT", env = "FARRIER_DHCP_PORT", hide_env_values = true)]
    dhcp_port: Option<u16>,
    /// Answer no DHCP: another server does
    #[arg(
        long,
        value_name = "YES",
        env = "FARRIER_NO_DHCP",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    no_dhcp: Option<bool>,
    /// Answer no router solicitations; iPXE then waits 16 s for one
    #[arg(
        long,
        value_name = "YES",
        env = "FARRIER_NO_RA",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    no_ra: Option<bool>,
    /// Start without reading all of the store first; what is damaged is then found when it is read
    #[arg(
        long,
        value_name = "YES",
        env = "FARRIER_NO_STORE_CHECK",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    no_store_check: Option<bool>,
    /// Console argument of booted kernels, may be given more than once [default: console=tty0 console=ttyS0,115200]
    #[arg(
        long = "console",
        value_name = "ARG",
        env = "FARRIER_CONSOLES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    consoles: Option<Vec<String>>,
    /// A registry outside whose images the server fetches for machines, and keeps: NAME, or NAME=https://HOST; may be given more than
    /// once [default: none]
    #[arg(
        long = "registry",
        value_name = "NAME",
        env = "FARRIER_REGISTRIES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    registries: Option<Vec<Fetched>>,
    /// Authorities of registries outside, in PEM, beside those of this host [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "FARRIER_REGISTRY_CA",
        hide_env_values = true
    )]
    registry_ca: Option<PathBuf>,
    /// Logins for registries outside, as Docker's config.json has them; for its owner alone [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "FARRIER_REGISTRY_LOGINS",
        hide_env_values = true
    )]
    registry_logins: Option<PathBuf>,
    /// What images may have that machines had fetched: 20GiB, 500MiB; those that were not used for longest go first [default: no
    /// bound]
    #[arg(
        long,
        value_name = "SIZE",
        env = "FARRIER_REGISTRY_KEEP",
        hide_env_values = true
    )]
    registry_keep: Option<RegistryKeep>,
    /// A mirror that machines ask before a registry itself, when they pull by themselves: REGISTRY=http://HOST:PORT or
    /// REGISTRY=https://HOST; may be given more than once [default: none]
    #[arg(
        long = "pull-mirror",
        value_name = "REGISTRY=URL",
        env = "FARRIER_PULL_MIRRORS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pull_mirrors: Option<Vec<String>>,
    /// A registry that machines ask by plain HTTP; may be given more than once [default: none]
    #[arg(
        long = "pull-plain",
        value_name = "REGISTRY",
        env = "FARRIER_PULL_PLAIN",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pull_plain: Option<Vec<String>>,
    /// Authorities of a registry and of its mirrors, in PEM, which machines believe when they pull its images; may be given more than
    /// once [default: none]
    #[arg(
        long = "pull-ca",
        value_name = "REGISTRY=FILE",
        env = "FARRIER_PULL_CA",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pull_ca: Option<Vec<String>>,
    /// Images that machines may run: those of HOST, or of HOST/PATH; may be given more than once [default: all]
    #[arg(
        long = "allow-registry",
        value_name = "HOST[/PATH]",
        env = "FARRIER_ALLOW_REGISTRIES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    allow_registries: Option<Vec<AllowedImages>>,
    /// Refuse images that are not named by their digests
    #[arg(
        long,
        value_name = "YES",
        env = "FARRIER_REQUIRE_DIGEST",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    require_digest: Option<bool>,
    /// Who runs an image with the name of a built-in action: prefer, the agent itself; never, its image is pulled
    /// [default: prefer]
    #[arg(long, value_name = "WHEN", value_parser = native_images, env = "FARRIER_NATIVE", hide_env_values = true)]
    native: Option<NativeImages>,
    /// How long after its end a workflow is archived: it then takes one file [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FARRIER_ARCHIVE_AFTER", hide_env_values = true)]
    #[serde(default, deserialize_with = "setting")]
    archive_after: Option<Duration>,
    /// How long after its end a workflow is deleted, with its events and logs; what its machines boot stays
    /// [default: never]
    #[arg(long, value_name = "TIME", env = "FARRIER_KEEP_ENDED", hide_env_values = true)]
    keep_ended: Option<KeepEnded>,
    /// How long a machine is out of contact before what it runs is given up as lost, from 30s on [default: 5m]
    #[arg(long, value_name = "TIME", env = "FARRIER_LOST_AFTER", hide_env_values = true)]
    lost_after: Option<LostAfter>,
    /// Between asking an action to stop (SIGTERM) and ending it (SIGKILL), 1s to 1h [default: 10s]
    #[arg(long, value_name = "TIME", env = "FARRIER_STOP_GRACE", hide_env_values = true)]
    stop_grace: Option<StopGrace>,
    /// How the log on stderr looks [default: text]
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "FARRIER_LOG_FORMAT",
        hide_env_values = true
    )]
    log_format: Option<LogFormat>,
}

/// Who is not on this host has no business with it, until its operator says so.
const API_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), crate::logins::PORT);
/// Agents say that they are alive every 10 s: less than three of these would take a busy network for a loss.
const LEAST_LOST_AFTER: Duration = Duration::from_secs(30);
/// Agents take no longer one.
const LONGEST_STOP_GRACE: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
struct LostAfter(Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
struct StopGrace(Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
struct KeepEnded(Duration);

impl FromStr for KeepEnded {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = duration(text)?;
        if time.is_zero() {
            return Err(format!(
                "{text} would delete every workflow as it ends: leave it out to keep them for ever, or write 1s or more"
            ));
        }
        Ok(Self(time))
    }
}

impl TryFrom<Given> for KeepEnded {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        given.to_string().parse()
    }
}

impl FromStr for LostAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = duration(text)?;
        if time < LEAST_LOST_AFTER {
            return Err(format!(
                "{text} is too short: a machine that is well may be silent for so long; write 30s or more"
            ));
        }
        Ok(Self(time))
    }
}

impl FromStr for StopGrace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = duration(text)?;
        if time.subsec_nanos() != 0 || time.is_zero() || time > LONGEST_STOP_GRACE {
            return Err(format!("{text} is no grace: write whole seconds, from 1s to 1h"));
        }
        Ok(Self(time))
    }
}

/// What fetched images may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
struct RegistryKeep(u64);

impl FromStr for RegistryKeep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..) {
            Some("Mi" | "MiB") => 20,
            Some("Gi" | "GiB") => 30,
            Some("Ti" | "TiB") => 40,
            _ => 64,
        };
        let bytes = digits.parse::<u64>().ok().filter(|count| *count > 0);
        let bytes = bytes.and_then(|count| count.checked_mul(1_u64.checked_shl(shift)?));
        bytes.map(RegistryKeep).ok_or_else(|| {
            format!("{text} is no size: write a whole number and its unit, such as 500MiB or 20GiB")
        })
    }
}

impl TryFrom<Given> for RegistryKeep {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        given.to_string().parse()
    }
}

impl TryFrom<Given> for LostAfter {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        given.to_string().parse()
    }
}

impl TryFrom<Given> for StopGrace {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        given.to_string().parse()
    }
}

fn native_images(text: &str) -> Result<NativeImages, String> {
    match text {
        "never" => Ok(NativeImages::Never),
        "prefer" => Ok(NativeImages::Prefer),
        _ => Err("write prefer or never".to_owned()),
    }
}

/// What is kept by digest.
pub(crate) struct Contents {
    /// Of the store's rows.
    pub(crate) blobs: Blobs,
    /// Of images of containers.
    pub(crate) images: Blobs,
}

/// Settings, complete.
#[derive(Clone, Debug)]
pub(crate) struct ServeConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Ipv4Addr,
    pub(crate) grpc_port: u16,
    pub(crate) api_listen: SocketAddr,
    archive_after: Option<Duration>,
    keep_ended: Option<Duration>,
    pub(crate) log_format: LogFormat,
    lost_after: Option<LostAfter>,
    stop_grace: Option<StopGrace>,
    /// Whether all of the store is verified before it is opened.
    pub(crate) store_check: bool,
    /// Registries that images are fetched from.
    pub(crate) outside: Outside,
    image_policy: ImagePolicy,
    registry_keep: Option<u64>,
    pulls: BTreeMap<String, RegistrySettings>,
    /// The netboot services' part.
    pub(crate) boots: BootsConfig,
}

impl ServeConfig {
    pub(crate) fn resolve(args: ServeArgs) -> Result<Self, Failure> {
        let args = match &args.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
                args.clone().over(parse(&text, &path.display().to_string())?)
            }
            None => args,
        };
        let Some(interface) = args.interface else {
            return Err(Failure::Usage(
                "no interface: name the one that machines netboot on with --interface (`ip link` lists them)"
                    .into(),
            ));
        };
        check_interface(&interface)?;
        let address = match args.address {
            Some(address) => address,
            None => first_address(&interface)?,
        };
        let outside = outside(
            args.registries.as_deref().unwrap_or_default(),
            args.registry_ca.as_ref(),
            args.registry_logins.as_ref(),
        )?;
        let pulls = pulls(
            args.pull_mirrors.as_deref().unwrap_or_default(),
            args.pull_plain.as_deref().unwrap_or_default(),
            args.pull_ca.as_deref().unwrap_or_default(),
        )?;
        let data_dir = args.data_dir.unwrap_or_else(|| "/var/lib/farrier".into());
        let boot_dir = args.boot_dir.unwrap_or_else(|| data_dir.join("boot"));
        let listen = args.listen.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let defaults = BootsConfig::new(interface, address, boot_dir);
        let grpc_port = args.grpc_port.unwrap_or(defaults.grpc_port);
        let boots = BootsConfig {
            listen,
            images_dir: Some(args.images_dir.unwrap_or_else(|| data_dir.join("images"))),
            grpc_port,
            http_port: args.http_port.unwrap_or(defaults.http_port),
            tftp_port: args.tftp_port.unwrap_or(defaults.tftp_port),
            dhcp: match (args.no_dhcp, args.dhcp_port) {
                (Some(true), _) => DhcpMode::Off,
                (_, Some(port)) => DhcpMode::Reservations { port },
                (_, None) => defaults.dhcp,
            },
            consoles: args.consoles.unwrap_or(defaults.consoles),
            ra: args.no_ra != Some(true),
            ..BootsConfig::new(defaults.interface, address, defaults.boot_dir)
        };
        Ok(Self {
            data_dir,
            listen,
            grpc_port,
            api_listen: args.api_listen.unwrap_or(API_LISTEN),
            archive_after: args.archive_after,
            keep_ended: args.keep_ended.map(|time| time.0),
            log_format: args.log_format.unwrap_or_default(),
            lost_after: args.lost_after,
            stop_grace: args.stop_grace,
            store_check: args.no_store_check != Some(true),
            outside,
            image_policy: ImagePolicy {
                allowed: args.allow_registries.unwrap_or_default(),
                needs_digest: args.require_digest == Some(true),
                native: args.native.unwrap_or_default(),
            },
            registry_keep: args.registry_keep.map(|size| size.0),
            pulls,
            boots,
        })
    }

    /// The control plane's part.
    pub(crate) fn control(&self, contents: Contents, authority: Pin) -> server::Config {
        let defaults = server::Config::default();
        server::Config {
            authority,
            blobs: contents.blobs,
            images: contents.images,
            secrets_key: Some(self.data_dir.join(coordinator::secrets::KEY_FILE)),
            lost_after: self.lost_after.map_or(defaults.lost_after, |time| time.0),
            stop_grace: self.stop_grace.map_or(defaults.stop_grace, |time| time.0),
            archive_after: self.archive_after.unwrap_or(defaults.archive_after),
            keep_ended: self.keep_ended,
            image_policy: self.image_policy.clone(),
            registry_keep: self.registry_keep,
            pulls: self.pulls.clone(),
            served: served(&self.boots.interface, self.boots.address),
            folders: folders(&self.data_dir, &self.boots.boot_dir),
            ..defaults
        }
    }
}

/// What the server says of its folders.
fn folders(data_dir: &Path, boot_dir: &Path) -> Vec<server::Folder> {
    let data = server::Folder {
        name: "data",
        path: data_dir.to_owned(),
        look: super::look_at_data,
    };
    let boot = server::Folder {
        name: "boot",
        path: boot_dir.to_owned(),
        look: super::boot_image::look,
    };
    vec![data, boot]
}

impl ServeArgs {
    /// These, and where something was left out, the file's.
    fn over(self, file: ServeArgs) -> Self {
        Self {
            config: self.config,
            interface: self.interface.or(file.interface),
            address: self.address.or(file.address),
            listen: self.listen.or(file.listen),
            data_dir: self.data_dir.or(file.data_dir),
            boot_dir: self.boot_dir.or(file.boot_dir),
            images_dir: self.images_dir.or(file.images_dir),
            grpc_port: self.grpc_port.or(file.grpc_port),
            api_listen: self.api_listen.or(file.api_listen),
            http_port: self.http_port.or(file.http_port),
            tftp_port: self.tftp_port.or(file.tftp_port),
            dhcp_port: self.dhcp_port.or(file.dhcp_port),
            no_dhcp: self.no_dhcp.or(file.no_dhcp),
            no_ra: self.no_ra.or(file.no_ra),
            no_store_check: self.no_store_check.or(file.no_store_check),
            consoles: self.consoles.or(file.consoles),
            registries: self.registries.or(file.registries),
            registry_ca: self.registry_ca.or(file.registry_ca),
            registry_logins: self.registry_logins.or(file.registry_logins),
            registry_keep: self.registry_keep.or(file.registry_keep),
            pull_mirrors: self.pull_mirrors.or(file.pull_mirrors),
            pull_plain: self.pull_plain.or(file.pull_plain),
            pull_ca: self.pull_ca.or(file.pull_ca),
            allow_registries: self.allow_registries.or(file.allow_registries),
            require_digest: self.require_digest.or(file.require_digest),
            native: self.native.or(file.native),
            archive_after: self.archive_after.or(file.archive_after),
            keep_ended: self.keep_ended.or(file.keep_ended),
            lost_after: self.lost_after.or(file.lost_after),
            stop_grace: self.stop_grace.or(file.stop_grace),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

fn parse(text: &str, path: &str) -> Result<ServeArgs, Failure> {
    toml::from_str(text).map_err(|error| Failure::Usage(format!("{path}: {}", error.to_string().trim_end())))
}

fn check_interface(interface: &str) -> Result<(), Failure> {
    let all = nix::net::if_::if_nameindex()
        .map_err(|error| Failure::Failed(format!("cannot list the interfaces of this host: {error}")))?;
    let names: Vec<String> = all
        .iter()
        .map(|one| one.name().to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|name| name == interface) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "no interface is named {interface}: this host has {}",
        names.join(", ")
    )))
}

fn first_address(interface: &str) -> Result<Ipv4Addr, Failure> {
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|error| Failure::Failed(format!("cannot list the addresses of this host: {error}")))?;
    let address = all.filter(|one| one.interface_name == interface).find_map(|one| {
        one.address?
            .as_sockaddr_in()
            .map(nix::sys::socket::SockaddrIn::ip)
    });
    address.ok_or_else(|| {
        Failure::Usage(format!(
            "interface {interface} has no IPv4 address: give it one (`ip addr add 10.77.0.1/24 dev {interface}`), or \
             name the server's address with --address"
        ))
    })
}

/// The addresses of this server that records of machines are checked against. No machine is on the loopback interface.
fn served(interface: &str, told: Ipv4Addr) -> Vec<coordinator::machines::Served> {
    let of_interface = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut served: Vec<_> = of_interface
        .filter(|one| one.interface_name == interface)
        .filter_map(|one| {
            let address = one.address?.as_sockaddr_in()?.ip();
            let mask = one.netmask?.as_sockaddr_in()?.ip();
            Some((address, u8::try_from(mask.to_bits().count_ones()).ok()?))
        })
        .collect();
    if !served.iter().any(|(address, _)| *address == told) {
        served.push((told, 32));
    }
    served.retain(|(address, _)| !address.is_loopback());
    served
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        args: ServeArgs,
    }

    #[test]
    fn a_switch_that_is_off_undoes_the_file() {
        let file = || parse("interface = \"lo\"\nno-dhcp = true\nno-ra = true\n", "f").expect("a file");
        let resolved = |flags: &[&str]| {
            let args = Flags::parse_from([&["serve"], flags].concat()).args;
            let config = ServeConfig::resolve(args.over(file())).expect("complete");
            (config.boots.dhcp != DhcpMode::Off, config.boots.ra)
        };
        assert_eq!(resolved(&[]), (false, false));
        assert_eq!(resolved(&["--no-dhcp=false"]), (true, false));
        assert_eq!(resolved(&["--no-ra=no", "--no-dhcp=0"]), (true, true));
        assert_eq!(resolved(&["--no-dhcp", "--no-ra=off"]), (false, true));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Flags::parse_from(["serve", "--interface", "lo", "--grpc-port", "1"]).args;
        let file = parse(
            "interface = \"eth0\"\naddress = \"10.0.0.1\"\nno-dhcp = true\n",
            "f",
        )
        .expect("TOML");
        let config = ServeConfig::resolve(flags.over(file)).expect("complete");
        assert_eq!((config.boots.interface.as_str(), config.grpc_port), ("lo", 1));
        assert_eq!(
            (config.boots.address, config.boots.dhcp),
            (Ipv4Addr::new(10, 0, 0, 1), DhcpMode::Off)
        );
        assert_eq!(config.boots.boot_dir, PathBuf::from("/var/lib/farrier/boot"));
    }

    #[test]
    fn what_is_kept_of_fetched_images_has_a_unit() {
        let keep = |text: &str| text.parse::<RegistryKeep>().map(|keep| keep.0);
        assert_eq!(keep("500MiB"), Ok(500 << 20));
        assert_eq!(keep("2Ti"), Ok(2 << 40));
        for text in [
            "20",
            "20GB",
            "0GiB",
            "-1GiB",
            "1.5GiB",
            "99999999999TiB",
            "GiB",
            "",
        ] {
            let refused = keep(text).expect_err(text);
            assert!(refused.contains("such as 500MiB or 20GiB"), "{refused}");
        }
        let file = parse("address = \"10.0.0.1\"\nregistry-keep = \"1GiB\"\n", "f").expect("TOML");
        let flags = Flags::parse_from(["serve", "--interface", "lo"]).args;
        let config = ServeConfig::resolve(flags.over(file)).expect("complete");
        assert_eq!(config.registry_keep, Some(1 << 30));
    }

    #[test]
    fn times_are_the_same_in_the_file_and_as_flags() {
        let flags = Flags::parse_from(["serve", "--interface", "lo", "--archive-after", "5m"]).args;
        let file = parse(
            "address = \"10.0.0.1\"\narchive-after = 1\nkeep-ended = \"90d\"\n",
            "f",
        )
        .expect("TOML");
        let config = ServeConfig::resolve(flags.over(file)).expect("complete");
        assert_eq!(
            (config.archive_after, config.keep_ended),
            (
                Some(Duration::from_secs(300)),
                Some(Duration::from_secs(90 * 86_400))
            )
        );
        let error = parse("keep-ended = \"soon\"\n", "f")
            .expect_err("no time")
            .to_string();
        assert!(error.contains("\"soon\" is no time"), "{error}");
    }

    #[test]
    fn times_of_the_control_plane_reach_it() {
        let control = |flags: &[&str], file: &str| {
            let given = ["serve", "--interface", "lo"].iter().chain(flags);
            let args = Flags::parse_from(given)
                .args
                .over(parse(file, "f").expect("TOML"));
            let contents = Contents {
                blobs: Blobs::in_memory(),
                images: Blobs::in_memory(),
            };
            let config = ServeConfig::resolve(args)
                .expect("complete")
                .control(contents, Pin::of(b""));
            (config.lost_after.as_secs(), config.stop_grace.as_secs())
        };
        assert_eq!(control(&[], ""), (300, 10));
        let file = "lost-after = \"20m\"\nstop-grace = 45\n";
        assert_eq!(control(&[], file), (1200, 45));
        assert_eq!(
            control(&["--lost-after", "1h", "--stop-grace", "90s"], file),
            (3600, 90)
        );
    }

    #[test]
    fn times_that_would_do_harm_are_refused() {
        let lost_after = |text: &str| text.parse::<LostAfter>().expect_err("too short");
        assert_eq!(
            lost_after("20s"),
            "20s is too short: a machine that is well may be silent for so long; write 30s or more"
        );
        assert_eq!(
            lost_after("soon"),
            "\"soon\" is no time: write one such as 90s, 30m, 2h or 90d"
        );
        for text in ["0", "1500ms", "2h"] {
            let refused = text.parse::<StopGrace>().expect_err("no grace");
            assert_eq!(
                refused,
                format!("{text} is no grace: write whole seconds, from 1s to 1h")
            );
        }
        let error = parse("stop-grace = \"2h\"\n", "farrier.toml").expect_err("too long");
        assert!(
            error
                .to_string()
                .contains("2h is no grace: write whole seconds, from 1s to 1h"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_setting_is_refused_with_its_place() {
        let error = parse("interface = \"br0\"\nintreface = \"x\"\n", "farrier.toml").expect_err("unknown");
        let text = error.to_string();
        assert!(
            text.starts_with("farrier.toml: TOML parse error at line 2, column 1"),
            "{text}"
        );
        assert!(text.contains("unknown field `intreface`"), "{text}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let flags = Flags::parse_from(["serve", "--interface", "farrier-none"]).args;
        let error = ServeConfig::resolve(flags)
            .expect_err("no such interface")
            .to_string();
        assert!(
            error.starts_with("no interface is named farrier-none: this host has ") && error.contains("lo"),
            "{error}"
        );
    }
}
