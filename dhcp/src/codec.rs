//! Bytes to [`Packet`] and back, over dhcproto.
//!
//! dhcproto trusts what it should not: it slices `chaddr` by the packet's own `hlen`, takes any cookie, ends the options
//! at the first broken one, does not join repeated options that stand apart, and ignores option overload. All of that
//! is checked or done here, so that every packet gives a [`Packet`] or a [`DecodeError`], never a panic.

mod layout;

use std::collections::BTreeMap;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{self, Flags, HType, Opcode};
use mac::mac_text;
use macaddr::MacAddr6;

pub use self::layout::{Field, Limits};

use crate::options::code;
use crate::packet::{Op, Packet};

/// The longest packet that is looked at; larger than any that fits into an Ethernet frame.
pub const MAX_PACKET_BYTES: usize = 4096;

/// The shortest packet that is sent. RFC 951's BOOTP frame: some boot ROMs drop shorter replies.
pub const MIN_SENT_BYTES: usize = 300;

/// Header and magic cookie (RFC 2131 section 2).
const HEADER_BYTES: usize = 240;

/// RFC 2131 section 3.
const MAGIC: [u8; 4] = [99, 130, 83, 99];

const ETHERNET: u8 = 1;

/// RFC 2132 section 3.2.
const END: u8 = 255;

/// Why bytes are no DHCP packet for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the whole header.
    #[error("packet has {len_bytes} B, a DHCP packet has at least {HEADER_BYTES} B")]
    TooShort { len_bytes: usize },
    /// More than any real packet.
    #[error("packet has {len_bytes} B, more than {MAX_PACKET_BYTES} B are not read")]
    TooLong { len_bytes: usize },
    /// Neither request nor reply.
    #[error("op is {op}, must be 1 (request) or 2 (reply)")]
    Op { op: u8 },
    /// Not an Ethernet address.
    #[error("hardware address of type {htype} with {hlen} B, only Ethernet (type 1 with 6 B) is served")]
    HardwareAddress { htype: u8, hlen: u8 },
    /// The address of a group of hosts, or of none.
    #[error("hardware address {mac} is not that of one host")]
    NotOneHost { mac: String },
    /// BOOTP, or something else altogether.
    #[error("magic cookie is {cookie:02x?}, must be [63, 82, 53, 63]")]
    Magic { cookie: [u8; 4] },
}

/// Why a packet cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The field must end with a zero within its 128 bytes.
    #[error("file name has {len_bytes} B, the field holds 127 B")]
    File { len_bytes: usize },
    /// The field must end with a zero within its 64 bytes.
    #[error("server name has {len_bytes} B, the field holds 63 B")]
    ServerName { len_bytes: usize },
    /// More than any receiver of ours reads.
    #[error("packet has {len_bytes} B, at most {MAX_PACKET_BYTES} B are sent")]
    TooLong { len_bytes: usize },
    /// dhcproto refused.
    #[error("cannot encode the packet")]
    Codec(#[source] SourceText),
}

/// dhcproto's error, kept as text: its own type can neither be cloned nor compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceText(String);

/// Reads a packet.
///
/// What can be put right is put right and named in [`Packet::oddities`]: options whose length cannot be are dropped
/// one by one, options after a broken length are lost, a text or address too long is cut.
///
/// # Errors
/// [`DecodeError`] when it is not a DHCP packet of an Ethernet host.
///
/// Source: RFC 2131 sections 2 and 3; RFC 3396 (repeated options); RFC 2132 section 9.3 (overload).
pub fn decode(bytes: &[u8]) -> Result<Packet, DecodeError> {
    let len_bytes = bytes.len();
    if len_bytes > MAX_PACKET_BYTES {
        return Err(DecodeError::TooLong { len_bytes });
    }
    let too_short = DecodeError::TooShort { len_bytes };
    let (header, options_area) = bytes.split_at_checked(HEADER_BYTES).ok_or(too_short.clone())?;
    let (&[op, htype, hlen], cookie) = match (header.first_chunk::<3>(), header.last_chunk::<4>()) {
        (Some(start), Some(cookie)) => (start, *cookie),
        _ => return Err(too_short),
    };
    let op = match op {
        1 => Op::Request,
        2 => Op::Reply,
        op => return Err(DecodeError::Op { op }),
    };
    if cookie != MAGIC {
        return Err(DecodeError::Magic { cookie });
    }
    // dhcproto's `chaddr()` panics for hlen above 212 and reads past the field above 16.
    if htype != ETHERNET || !(6..=16).contains(&hlen) {
        return Err(DecodeError::HardwareAddress { htype, hlen });
    }
    let message = Message::new(bytes).map_err(|_| too_short)?;
    let mut oddities = Vec::new();
    let chaddr = mac(message.chaddr(), &mut oddities).ok_or(DecodeError::HardwareAddress { htype, hlen })?;
    if chaddr.is_multicast() || chaddr.is_nil() {
        return Err(DecodeError::NotOneHost {
            mac: mac_text(chaddr),
        });
    }

    let mut options = BTreeMap::new();
    collect(options_area, "options", &mut options, &mut oddities);
    // With overload, `file` and `sname` hold options, read in this order (RFC 3396 section 5).
    let overload = options
        .remove(&code::OPTION_OVERLOAD)
        .and_then(|data| data.first().copied())
        .unwrap_or(0);
    let (mut sname, mut file) = (message.sname().to_vec(), message.fname().to_vec());
    if overload & 1 != 0 {
        file.clear();
        collect(
            header.get(108..236).unwrap_or_default(),
            "file",
            &mut options,
            &mut oddities,
        );
    }
    if overload & 2 != 0 {
        sname.clear();
        collect(
            header.get(44..108).unwrap_or_default(),
            "sname",
            &mut options,
            &mut oddities,
        );
    }
    if options.remove(&code::OPTION_OVERLOAD).is_some() {
        oddities.push("option 52 (overload) stands inside an overloaded field; ignored".to_owned());
    }
    if overload > 3 {
        oddities.push(format!(
            "option 52 (overload) is {overload}, only 1 to 3 have a meaning"
        ));
    }
    options.retain(|number, data| is_plausible(*number, data, &mut oddities));

    Ok(Packet {
        op,
        hops: message.hops(),
        xid: message.xid(),
        secs: message.secs(),
        broadcast: message.flags().broadcast(),
        ciaddr: message.ciaddr(),
        yiaddr: message.yiaddr(),
        siaddr: message.siaddr(),
        giaddr: message.giaddr(),
        chaddr,
        sname,
        file,
        options,
        oddities,
    })
}

/// Writes a packet, at least [`MIN_SENT_BYTES`] long.
///
/// Options are in ascending order with 82 last (RFC 3046 section 2.2); longer ones are split (RFC 3396).
///
/// # Errors
/// [`EncodeError`] when a text does not fit into its field or the packet becomes too long.
pub fn encode(packet: &Packet) -> Result<Vec<u8>, EncodeError> {
    let no_limit = Limits {
        message_bytes: usize::MAX,
        wanted: Vec::new(),
        welcome: Vec::new(),
        spare: &[],
    };
    encode_within(packet, &no_limit).map(|fitted| fitted.bytes)
}

/// A packet that fits, and what it lacks for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The packet as it is sent.
    pub bytes: Vec<u8>,
    /// Options that found no room, the one that was tried first coming first.
    pub left_out: Vec<u8>,
}

/// As [`encode`], in no more bytes than the receiver takes (but never less than [`MIN_SENT_BYTES`]).
///
/// Options stand in the order of `limits`. When the wanted ones do not fit into the options field, the spare fields
/// hold more of them (option 52). What still finds no room is left out. Texts of replies are followed by a Pad option.
///
/// # Errors
/// As [`encode`].
///
/// Source: RFC 2131 section 4.1; RFC 2132 sections 3.1, 9.3 and 9.10.
pub fn encode_within(packet: &Packet, limits: &Limits) -> Result<Fitted, EncodeError> {
    if packet.file.len() > 127 {
        return Err(EncodeError::File {
            len_bytes: packet.file.len(),
        });
    }
    if packet.sname.len() > 63 {
        return Err(EncodeError::ServerName {
            len_bytes: packet.sname.len(),
        });
    }
    let layout = layout::lay_out(packet, limits);
    let mut message = blank()?;
    message
        .set_xid(packet.xid)
        .set_ciaddr(packet.ciaddr)
        .set_yiaddr(packet.yiaddr)
        .set_siaddr(packet.siaddr)
        .set_giaddr(packet.giaddr)
        .set_chaddr(packet.chaddr.as_bytes())
        .set_opcode(match packet.op {
            Op::Request => Opcode::BootRequest,
            Op::Reply => Opcode::BootReply,
        })
        .set_htype(HType::Eth)
        .set_hops(packet.hops)
        .set_secs(packet.secs)
        .set_flags(Flags::new(if packet.broadcast { 0x8000 } else { 0 }));
    // A field is either spare or the packet's own.
    for content in [&packet.sname, &layout.sname]
        .into_iter()
        .filter(|it| !it.is_empty())
    {
        message.set_sname(content);
    }
    for content in [&packet.file, &layout.file]
        .into_iter()
        .filter(|it| !it.is_empty())
    {
        message.set_fname(content);
    }
    let mut bytes = Vec::with_capacity(MIN_SENT_BYTES);
    let mut encoder = v4::Encoder::new(&mut bytes);
    v4::Encodable::encode(&message, &mut encoder)
        .map_err(|error| EncodeError::Codec(SourceText(error.to_string())))?;
    // dhcproto orders options as it likes, writes a raw option 82 twice, and knows neither overload nor padding: the
    // options are written here.
    bytes.truncate(HEADER_BYTES);
    bytes.extend(&layout.options);
    bytes.resize(bytes.len().max(MIN_SENT_BYTES), 0);
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(EncodeError::TooLong {
            len_bytes: bytes.len(),
        });
    }
    Ok(Fitted {
        bytes,
        left_out: layout.left_out,
    })
}

/// A message of zeros, read from bytes: dhcproto's constructors draw a random transaction id even where one is given,
/// and on a machine that has just started that waits for the kernel's entropy.
fn blank() -> Result<v4::Message, EncodeError> {
    let mut bytes = vec![0; HEADER_BYTES - MAGIC.len()];
    bytes.extend(MAGIC);
    bytes.push(END);
    v4::Decodable::decode(&mut v4::Decoder::new(&bytes))
        .map_err(|error| EncodeError::Codec(SourceText(error.to_string())))
}

/// Takes the Ethernet address out of `chaddr`; some firmware says 16 bytes and sends 6.
fn mac(chaddr: &[u8], oddities: &mut Vec<String>) -> Option<MacAddr6> {
    let (mac, rest) = chaddr.split_first_chunk::<6>()?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    if !rest.is_empty() {
        oddities.push(format!("hlen is {}, must be 6 for Ethernet", chaddr.len()));
    }
    Some(MacAddr6::from(*mac))
}

/// Adds the options of one area; data of a number that is there already is appended (RFC 3396 section 7).
fn collect(area: &[u8], name: &str, into: &mut BTreeMap<u8, Vec<u8>>, oddities: &mut Vec<String>) {
    let intact = intact_prefix(area);
    if let Some(broken) = area.get(intact) {
        oddities.push(format!(
            "option {broken} at byte {intact} of {name} is longer than what is left; it and what follows are ignored"
        ));
    }
    for option in DhcpOptionIterator::new(area.get(..intact).unwrap_or_default()) {
        into.entry(u8::from(option.code()))
            .or_default()
            .extend_from_slice(option.data());
    }
}

/// Returns how many bytes are whole options; all of them when an end option comes first.
fn intact_prefix(area: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match area.get(at..) {
            None | Some([]) | Some([255, ..]) => return area.len(),
            Some([0, ..]) => at += 1,
            Some([_, len, rest @ ..]) if rest.len() >= usize::from(*len) => at += 2 + usize::from(*len),
            Some(_) => return at,
        }
    }
}

/// Whether an option that is read by Farrier has a length that it can have; if not, says so.
fn is_plausible(number: u8, data: &[u8], oddities: &mut Vec<String>) -> bool {
    let len = data.len();
    let (name, wanted, plausible, keep) = match number {
        code::SUBNET_MASK => ("netmask", "4 B", len == 4, false),
        code::ROUTER | code::NAME_SERVER | code::LOG_SERVER | code::NTP_SERVER => (
            "address list",
            "a multiple of 4 B",
            len >= 4 && len.is_multiple_of(4),
            len >= 4,
        ),
        code::BROADCAST_ADDRESS => ("broadcast address", "4 B", len == 4, false),
        code::REQUESTED_ADDRESS => ("requested address", "4 B", len == 4, false),
        code::SERVER_ID => ("server identifier", "4 B", len == 4, false),
        code::LEASE_TIME | code::RENEWAL_TIME | code::REBINDING_TIME => ("time", "4 B", len == 4, false),
        code::MESSAGE_TYPE => ("message type", "1 B", len == 1, len > 1),
        code::INTERFACE_MTU | code::MAX_MESSAGE_SIZE => ("size", "2 B", len == 2, false),
        code::CLIENT_ARCHITECTURE => (
            "architecture",
            "a multiple of 2 B",
            len >= 2 && len.is_multiple_of(2),
            len >= 2,
        ),
        code::NETWORK_INTERFACE => ("network interface", "3 B", len == 3, true),
        code::MACHINE_UUID => (
            "machine UUID",
            "17 B beginning with 0",
            len == 17 && data.first() == Some(&0),
            true,
        ),
        code::CLIENT_ID => ("client identifier", "at least 2 B", len >= 2, len >= 1),
        _ => return true,
    };
    if !plausible {
        let done = if keep { "" } else { "; ignored" };
        let what = match data {
            // The length is right, and what is wrong is the type before the UUID.
            [kind, ..] if number == code::MACHINE_UUID && len == 17 => {
                format!("begins with {kind}, must begin with 0")
            }
            _ => format!("has {len} B, must be {wanted}"),
        };
        oddities.push(format!("option {number} ({name}) {what}{done}"));
    }
    plausible || keep
}
