//! The management controller's address, asked through the kernel's IPMI device.
//!
//! Source: IPMI 2.0, sections 20.1 (Get Device ID) and 23.2 (Get LAN Configuration Parameters); kernel include/uapi/linux/ipmi.h.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::v1::Bmc;

/// What a controller takes to answer, and much more.
const PATIENCE_MS: u16 = 3000;
/// Channels that may be a LAN; the first that has an address is told.
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=8;
/// Answers to what is asked here are shorter.
const MAX_ANSWER: usize = 64;
/// In /dev; whatever the bus is, the first controller is 0.
const DEVICE: &str = "ipmi0";
const APP: u8 = 0x06;
const TRANSPORT: u8 = 0x0c;
const GET_DEVICE_ID: u8 = 0x01;
const GET_LAN_CONFIGURATION: u8 = 0x02;
const IP_ADDRESS: u8 = 3;
const IP_SOURCE: u8 = 4;
const MAC_ADDRESS: u8 = 5;

/// Whether the kernel shows one.
pub(super) fn is_there(dev: &Path) -> bool {
    dev.join(DEVICE).exists()
}

/// What the controller says; nothing where there is none. Blocks for as long as it takes.
pub(super) fn read(dev: &Path) -> Bmc {
    let Ok(device) = OpenOptions::new().read(true).write(true).open(dev.join(DEVICE)) else {
        return Bmc::default();
    };
    let mut number = 0;
    let mut ask = |function, command, data: &[u8]| {
        number += 1;
        request(&device, number, function, command, data).unwrap_or_default()
    };
    answers(&mut ask)
}

/// Asks with function, command and data; gives the data of the answer, completion code first; empty: none came.
type Ask<'a> = &'a mut dyn FnMut(u8, u8, &[u8]) -> Vec<u8>;

/// Puts together what answers of a controller come to.
fn answers(ask: Ask<'_>) -> Bmc {
    let Some(version) = device_version(&ask(APP, GET_DEVICE_ID, &[])) else {
        return Bmc::default();
    };
    for channel in CHANNELS {
        let mut parameter = |which| ask(TRANSPORT, GET_LAN_CONFIGURATION, &[channel, which, 0, 0]);
        let address = lan_parameter::<4>(&parameter(IP_ADDRESS)).map(Ipv4Addr::from);
        let Some(address) = address.filter(|address| !address.is_unspecified()) else {
            continue;
        };
        let mac = lan_parameter::<6>(&parameter(MAC_ADDRESS)).map(macaddr::MacAddr6::from);
        let source = match lan_parameter::<1>(&parameter(IP_SOURCE)).map(|[byte]| byte & 0x0f) {
            Some(1) => "static",
            Some(2) => "dhcp",
            Some(3) => "bios",
            Some(_) => "other",
            None => "",
        };
        return Bmc {
            address: address.to_string(),
            mac: mac.map(mac::mac_text).unwrap_or_default(),
            source: source.to_owned(),
            version,
        };
    }
    Bmc {
        version,
        ..Bmc::default()
    }
}

/// The firmware's version; the minor one is two decimal digits in a byte.
fn device_version(answer: &[u8]) -> Option<String> {
    match answer {
        [0, _, _, major, minor, ..] => Some(format!("{}.{minor:02x}", major & 0x7f)),
        _ => None,
    }
}

/// What follows completion code and revision.
fn lan_parameter<const N: usize>(answer: &[u8]) -> Option<[u8; N]> {
    match answer {
        [0, _, data @ ..] => data.first_chunk().copied(),
        _ => None,
    }
}

#[repr(C)]
struct Message {
    function: u8,
    command: u8,
    len: u16,
    data: *mut u8,
}

/// `struct ipmi_system_interface_addr`: the controller itself.
#[repr(C)]
struct Address {
    kind: i32,
    channel: i16,
    lun: u8,
}

const SYSTEM_INTERFACE: Address = Address {
    kind: 0x0c,
    channel: 0x0f,
    lun: 0,
};

#[repr(C)]
struct Request {
    address: *mut Address,
    address_len: u32,
    number: libc::c_long,
    message: Message,
}

#[repr(C)]
struct Received {
    kind: i32,
    address: *mut Address,
    address_len: u32,
    number: libc::c_long,
    message: Message,
}

nix::ioctl_readwrite!(receive_truncated, b'i', 11, Received);
nix::ioctl_read!(send_command, b'i', 13, Request);

fn request(
    device: &File,
    number: libc::c_long,
    function: u8,
    command: u8,
    data: &[u8],
) -> io::Result<Vec<u8>> {
    let mut sent = data.to_vec();
    let mut address = SYSTEM_INTERFACE;
    let mut request = Request {
        address: &raw mut address,
        address_len: size_of::<Address>() as u32,
        number,
        message: Message {
            function,
            command,
            len: sent.len() as u16,
            data: sent.as_mut_ptr(),
        },
    };
    // SAFETY: the structure is the kernel's, and what it points to lives until the call is over, which only reads it.
    unsafe { send_command(device.as_raw_fd(), &raw mut request) }?;
    // Answers to earlier questions, and events, are passed over.
    for _ in 0..8 {
        let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(PATIENCE_MS))? == 0 {
            break;
        }
        let mut answer = [0_u8; MAX_ANSWER];
        let mut from = SYSTEM_INTERFACE;
        let mut received = Received {
            kind: 0,
            address: &raw mut from,
            address_len: size_of::<Address>() as u32,
            number: 0,
            message: Message {
                function: 0,
                command: 0,
                len: MAX_ANSWER as u16,
                data: answer.as_mut_ptr(),
            },
        };
        // SAFETY: both places that the structure points to live as long as the call, and have the lengths that it says: the
        // kernel writes no more.
        unsafe { receive_truncated(device.as_raw_fd(), &raw mut received) }?;
        if received.number == number {
            let len = usize::from(received.message.len).min(MAX_ANSWER);
            return Ok(answer.get(..len).unwrap_or_default().to_vec());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lan_with_an_address_is_the_controllers() {
        let mut asked = Vec::new();
        let bmc = answers(&mut |function, command, data| {
            asked.push((function, data.to_vec()));
            match (command, data) {
                (GET_DEVICE_ID, _) => vec![0, 0x20, 1, 0x82, 0x45, 2],
                // No LAN; one without an address; the one.
                (_, [1, ..]) => vec![0xcc],
                (_, [2, IP_ADDRESS, ..]) => vec![0, 0x11, 0, 0, 0, 0],
                (_, [3, IP_ADDRESS, ..]) => vec![0, 0x11, 10, 0, 0, 7],
                (_, [3, IP_SOURCE, ..]) => vec![0, 0x11, 0x02],
                (_, [3, MAC_ADDRESS, ..]) => vec![0, 0x11, 0x52, 0x54, 0, 0, 0, 9],
                (_, other) => panic!("{other:?}"),
            }
        });
        let want = Bmc {
            address: "10.0.0.7".into(),
            mac: "52:54:00:00:00:09".into(),
            source: "dhcp".into(),
            version: "2.45".into(),
        };
        assert_eq!(bmc, want);
        assert_eq!(asked.len(), 6, "{asked:?}");
    }

    #[test]
    fn a_controller_that_answers_rubbish_has_no_address() {
        for answer in [&[][..], &[0], &[0, 1], &[0, 1, 2, 3], &[0xff; 64]] {
            let bmc = answers(&mut |_, _, _| answer.to_vec());
            assert_eq!(bmc, Bmc::default(), "{answer:?}");
        }
        // It has a version, and tells nothing of a network.
        let bmc = answers(&mut |function, _, _| match function {
            APP => vec![0, 0, 0, 1, 2],
            _ => vec![0, 0x11, 10, 0],
        });
        assert_eq!((bmc.address.as_str(), bmc.version.as_str()), ("", "1.02"));
        assert_eq!(read(Path::new("/nonexistent")), Bmc::default());
    }
}
