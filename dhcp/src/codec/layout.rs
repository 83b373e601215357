//! Where each option of a message stands: in the options field, in `file` or `sname` (overload), or nowhere.
//!
//! Source: RFC 2131 section 4.1 and RFC 2132 section 9.3 (overload), RFC 3396 (long options), RFC 3046 section 2.2
//! (option 82 is the last).

use crate::options::code;
use crate::packet::{Op, Packet};

use super::{END, HEADER_BYTES};

/// How long a message may be, and which options are to be in it rather than others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// With the BOOTP header, without IP and UDP headers.
    pub message_bytes: usize,
    /// Options that may stand in the fields of [`spare`](Self::spare) too, the one that matters most first.
    pub wanted: Vec<u8>,
    /// Options for which the options field must do, behind the wanted ones. What neither list names comes last.
    pub welcome: Vec<u8>,
    /// Fields that may hold options, if the packet leaves them empty (option 52).
    pub spare: &'static [Field],
}

/// A field that may be overloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    File,
    ServerName,
}

/// What stands where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The options field behind the cookie, with its end option.
    pub(super) options: Vec<u8>,
    /// Options in `file`, with their end option; empty: none.
    pub(super) file: Vec<u8>,
    /// Options in `sname`, with their end option; empty: none.
    pub(super) sname: Vec<u8>,
    /// Options that found no room, in the order in which they were tried.
    pub(super) left_out: Vec<u8>,
}

/// One field, being filled.
struct Area {
    bytes: Vec<u8>,
    room_bytes: usize,
}

impl Area {
    fn new(room_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            room_bytes,
        }
    }

    /// Puts the whole option in, or nothing of it.
    fn take(&mut self, option: &[u8]) -> bool {
        let fits = self.bytes.len() + option.len() <= self.room_bytes;
        if fits {
            self.bytes.extend(option);
        }
        fits
    }

    fn ended(mut self) -> Vec<u8> {
        if !self.bytes.is_empty() {
            self.bytes.push(END);
        }
        self.bytes
    }
}

/// Finds each option its place. One that is too long for every field that is free is left out; shorter ones behind it
/// are tried all the same.
pub(super) fn lay_out(packet: &Packet, limits: &Limits) -> Layout {
    let relay: Vec<u8> = option(packet, code::RELAY_AGENT_INFORMATION);
    let fixed = HEADER_BYTES + relay.len() + 1;
    let room = limits.message_bytes.saturating_sub(fixed).max(LEAST_ROOM_BYTES);
    let (wanted, others) = in_order(packet, limits);
    let wanted: Vec<(u8, Vec<u8>)> = wanted
        .into_iter()
        .map(|code| (code, option(packet, code)))
        .collect();
    let needed: usize = wanted.iter().map(|(_, bytes)| bytes.len()).sum();

    let is_spare = |field, content: &[u8]| content.is_empty() && limits.spare.contains(&field);
    let (file_is_spare, sname_is_spare) = (
        is_spare(Field::File, &packet.file),
        is_spare(Field::ServerName, &packet.sname),
    );
    let overloads = needed > room && (file_is_spare || sname_is_spare);
    let mut options = Area::new(if overloads { room - OVERLOAD_BYTES } else { room });
    // In the order in which they are read (RFC 2131 section 4.1), each with room for its end option.
    let mut file = Area::new(if overloads && file_is_spare { 127 } else { 0 });
    let mut sname = Area::new(if overloads && sname_is_spare { 63 } else { 0 });
    let mut left_out = Vec::new();
    for (code, bytes) in &wanted {
        if !(options.take(bytes) || file.take(bytes) || sname.take(bytes)) {
            left_out.push(*code);
        }
    }
    for code in others {
        if !options.take(&option(packet, code)) {
            left_out.push(code);
        }
    }
    let (file, sname) = (file.ended(), sname.ended());
    let overload = u8::from(!file.is_empty()) | u8::from(!sname.is_empty()) << 1;
    let mut options = options.bytes;
    if overload != 0 {
        options.extend([code::OPTION_OVERLOAD, 1, overload]);
    }
    options.extend(relay);
    options.push(END);
    Layout {
        options,
        file,
        sname,
        left_out,
    }
}

/// The packet's options but 82: those that may overload, and the others.
fn in_order(packet: &Packet, limits: &Limits) -> (Vec<u8>, Vec<u8>) {
    let mut seen = vec![code::RELAY_AGENT_INFORMATION, code::OPTION_OVERLOAD];
    let mut once = |code: u8| {
        let is_new = packet.get(code).is_some() && !seen.contains(&code);
        seen.push(code);
        is_new
    };
    let wanted = limits.wanted.iter().copied().filter(|code| once(*code)).collect();
    let rest = packet.options.keys().copied();
    let others = limits.welcome.iter().copied().chain(rest);
    (wanted, others.filter(|code| once(*code)).collect())
}

/// An option as it is sent: split where it is longer than 255 B, nothing where it is empty.
fn option(packet: &Packet, code: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let data = packet.get(code).unwrap_or_default();
    for part in data.chunks(255) {
        bytes.extend([code, part.len() as u8]);
        bytes.extend(part);
    }
    // Some boot ROMs read a text up to a zero byte, through the next option's number: a Pad option (RFC 2132
    // section 3.1) is that zero, and nothing to readers of options.
    if packet.op == Op::Reply && TEXTS.contains(&code) && !bytes.is_empty() {
        bytes.push(PAD);
    }
    bytes
}

const PAD: u8 = 0;
/// Option 52 itself.
const OVERLOAD_BYTES: usize = 3;
/// For message type, server, lease time and netmask, whatever a relay sends along, and for option 52.
const LEAST_ROOM_BYTES: usize = 24;
const TEXTS: [u8; 6] = [
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::MESSAGE,
    code::VENDOR_CLASS,
    code::TFTP_SERVER_NAME,
    code::BOOT_FILE_NAME,
];
