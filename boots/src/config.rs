//! What the netboot services are told at start, and why they could not start.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of the netboot services. Port 0 asks the kernel for a free one (tests).
#[derive(Clone, Debug)]
pub struct BootsConfig {
    /// The interface that machines are on: DHCP and router advertisements are bound to it.
    pub interface: String,
    /// This server's address on that interface: what machines are told.
    pub address: Ipv4Addr,
    /// Where TFTP and HTTP listen. Default: every address.
    pub listen: Ipv4Addr,
    /// What `farrier image build` made: `vmlinuz`, `initramfs.img`, `snponly.efi`, `undionly.kpxe`, `local-boot.efi`.
    /// May be made later.
    pub boot_dir: PathBuf,
    /// Disk images under `/images/`; may be made later. `None`: that path answers 404.
    pub images_dir: Option<PathBuf>,
    /// Where the agent finds the control plane, on [`address`](Self::address). Default 42113.
    pub grpc_port: u16,
    /// Default 7080.
    pub http_port: u16,
    /// Default 69.
    pub tftp_port: u16,
    /// Default: reservations, on port 67.
    pub dhcp: DhcpMode,
    /// Kernel console arguments for machines that name none. Default `console=tty0 console=ttyS0,115200`.
    pub consoles: Vec<String>,
    /// Answers router solicitations of known machines. Default true: iPXE waits 16 s for an answer.
    pub ra: bool,
    /// What HTTP answers besides, at paths of its own. Default: nothing.
    pub besides: axum::Router,
}

impl BootsConfig {
    /// The default settings for one interface, its address and a boot image directory.
    pub fn new(interface: impl Into<String>, address: Ipv4Addr, boot_dir: impl Into<PathBuf>) -> Self {
        Self {
            interface: interface.into(),
            address,
            listen: Ipv4Addr::UNSPECIFIED,
            boot_dir: boot_dir.into(),
            images_dir: None,
            grpc_port: 42113,
            http_port: 7080,
            tftp_port: 69,
            dhcp: DhcpMode::Reservations { port: 67 },
            consoles: vec!["console=tty0".into(), "console=ttyS0,115200".into()],
            ra: true,
            besides: axum::Router::new(),
        }
    }
}

/// What is answered to DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpMode {
    /// Nothing: another server gives addresses, and names what is booted.
    Off,
    /// Known machines get the addresses that are reserved for them, and what they boot.
    Reservations { port: u16 },
}

/// Why the netboot services could not start. Nothing is left bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another program has the port.
    #[error(
        "{service} port {port} is in use on {address}: stop the other server (`ss -lunpt | grep :{port}` names it) \
         or choose another port",
        port = address.port()
    )]
    PortInUse {
        service: &'static str,
        address: SocketAddr,
    },
    /// The port or socket needs a right that this process lacks.
    #[error(
        "{service} may not use {what}: run as root, or give the program CAP_NET_BIND_SERVICE and CAP_NET_RAW"
    )]
    NotPermitted { service: &'static str, what: String },
    /// The address is not on this host.
    #[error(
        "{service} cannot listen on {address}: no interface of this host has that address (`ip addr` lists them)"
    )]
    NoSuchAddress {
        service: &'static str,
        address: SocketAddr,
    },
    /// The interface does not exist.
    #[error("interface {interface} does not exist on this host (`ip link` lists them)")]
    NoSuchInterface { interface: String },
    /// The address that machines would be told is not the interface's.
    #[error(
        "interface {interface} does not have the address {address}, it has {}: give one of them, or add it with \
         `ip addr add`",
        if .has.is_empty() { "none".to_owned() } else { .has.join(", ") }
    )]
    AddressNotOnInterface {
        interface: String,
        address: Ipv4Addr,
        has: Vec<String>,
    },
    /// The boot image directory is there, but not usable.
    #[error("boot image directory {path} cannot be read: name another one, or let this process read it")]
    BootDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The images directory is there, but not usable.
    #[error("images directory {path} cannot be read: name another one, or let this process read it")]
    ImagesDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("{service} cannot use {what}: {source}")]
    Socket {
        service: &'static str,
        what: String,
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// The error for a socket that could not be bound to `address`.
    pub(crate) fn bind(service: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { service, address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted {
                service,
                what: address.to_string(),
            },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { service, address },
            _ => Self::Socket {
                service,
                what: address.to_string(),
                source,
            },
        }
    }

    /// The error for a socket that could not be bound to an interface.
    pub(crate) fn interface(service: &'static str, interface: &str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => Self::NoSuchInterface {
                interface: interface.to_owned(),
            },
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted {
                service,
                what: format!("interface {interface}"),
            },
            _ => Self::Socket {
                service,
                what: format!("interface {interface}"),
                source,
            },
        }
    }
}
