//! A DHCP packet as Farrier sees it: fixed fields, options as bytes by number, typed accessors.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use macaddr::MacAddr6;

use crate::options::{self, code};

/// Which way a packet goes (RFC 2131 section 2, `op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Client to server.
    Request,
    /// Server to client.
    Reply,
}

/// Option 53 (RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    /// Returns the type with this number; `None` for numbers of later standards.
    pub fn from_number(number: u8) -> Option<MessageType> {
        use MessageType::*;
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform]
            .into_iter()
            .find(|t| *t as u8 == number)
    }
}

impl std::fmt::Display for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MessageType::Discover => "DISCOVER",
            MessageType::Offer => "OFFER",
            MessageType::Request => "REQUEST",
            MessageType::Decline => "DECLINE",
            MessageType::Ack => "ACK",
            MessageType::Nak => "NAK",
            MessageType::Release => "RELEASE",
            MessageType::Inform => "INFORM",
        })
    }
}

/// One DHCP packet between Ethernet hosts (RFC 2131 section 2).
///
/// Options hold what arrived, already joined (RFC 3396) and freed from option overload; options whose data cannot be
/// right were dropped and are named in `oddities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub op: Op,
    pub hops: u8,
    pub xid: u32,
    pub secs: u16,
    /// The broadcast flag: the client cannot take unicast before it has its address.
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: MacAddr6,
    /// At most 63 bytes when sent.
    pub sname: Vec<u8>,
    /// At most 127 bytes when sent.
    pub file: Vec<u8>,
    /// Data by option number. An empty option is not sent.
    pub options: BTreeMap<u8, Vec<u8>>,
    /// What was wrong with the packet and did not stop it from being understood.
    pub oddities: Vec<String>,
}

impl Packet {
    /// Returns an empty packet from a client.
    pub fn request(kind: MessageType, mac: MacAddr6, xid: u32) -> Packet {
        let mut packet = Packet {
            op: Op::Request,
            hops: 0,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: mac,
            sname: Vec::new(),
            file: Vec::new(),
            options: BTreeMap::new(),
            oddities: Vec::new(),
        };
        packet.set(code::MESSAGE_TYPE, [kind as u8]);
        packet
    }

    /// Returns a reply with what every reply copies from its request: xid, flags, giaddr, chaddr, and options 61
    /// (RFC 6842) and 82 (RFC 3046).
    pub fn reply_to(request: &Packet, kind: MessageType) -> Packet {
        let mut packet = Packet::request(kind, request.chaddr, request.xid);
        packet.op = Op::Reply;
        packet.broadcast = request.broadcast;
        packet.giaddr = request.giaddr;
        for echoed in [code::CLIENT_ID, code::RELAY_AGENT_INFORMATION] {
            if let Some(data) = request.get(echoed) {
                packet.set(echoed, data);
            }
        }
        packet
    }

    /// Sets an option; data longer than 255 bytes is split when sent (RFC 3396).
    pub fn set(&mut self, code: u8, data: impl AsRef<[u8]>) -> &mut Packet {
        self.options.insert(code, data.as_ref().to_vec());
        self
    }

    /// Sets an option that holds one address.
    pub fn set_address(&mut self, code: u8, address: Ipv4Addr) -> &mut Packet {
        self.set(code, address.octets())
    }

    /// Sets an option that holds addresses; leaves it out when there are none.
    pub fn set_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) -> &mut Packet {
        if !addresses.is_empty() {
            self.set(
                code,
                addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>(),
            );
        }
        self
    }

    /// Sets an option that holds a 32-bit number.
    pub fn set_u32(&mut self, code: u8, number: u32) -> &mut Packet {
        self.set(code, number.to_be_bytes())
    }

    /// Returns an option's data.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// Returns an option that is one address, or the first of several.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.get(code)?
            .first_chunk::<4>()
            .map(|bytes| Ipv4Addr::from(*bytes))
    }

    /// Returns an option that is a list of addresses.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        self.get(code).map(options::addresses).unwrap_or_default()
    }

    /// Returns an option that is a 16-bit number.
    pub fn u16(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// Returns an option that is a 32-bit number.
    pub fn u32(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// Returns an option that is a text, without the zeros that some add; `None` when it is not UTF-8 or is empty.
    pub fn text(&self, code: u8) -> Option<&str> {
        let text = std::str::from_utf8(self.get(code)?).ok()?.trim_end_matches('\0');
        (!text.is_empty()).then_some(text)
    }

    /// Option 53; `None` for BOOTP and for types of later standards.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_number(*self.get(code::MESSAGE_TYPE)?.first()?)
    }

    /// Option 50.
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.address(code::REQUESTED_ADDRESS)
    }

    /// Option 54.
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.address(code::SERVER_ID)
    }

    /// Option 60, bytes that are not UTF-8 replaced.
    pub fn vendor_class(&self) -> Option<String> {
        self.get(code::VENDOR_CLASS)
            .map(|data| String::from_utf8_lossy(data).trim_end_matches('\0').to_owned())
    }

    /// Option 77 as it came.
    pub fn user_class(&self) -> Option<&[u8]> {
        self.get(code::USER_CLASS)
    }

    /// Option 77 split as RFC 3004 says, or as the one class that it is.
    pub fn user_classes(&self) -> Vec<&[u8]> {
        self.user_class().map(options::user_classes).unwrap_or_default()
    }

    /// Option 93: every architecture named, in order (RFC 4578 section 2.1).
    pub fn architectures(&self) -> Vec<u16> {
        let data = self.get(code::CLIENT_ARCHITECTURE).unwrap_or_default();
        data.as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| u16::from_be_bytes(*bytes))
            .collect()
    }

    /// Option 97: the machine's UUID, bytes as sent (SMBIOS order); `None` unless it is of type 0 with 16 bytes.
    pub fn machine_uuid(&self) -> Option<[u8; 16]> {
        match self.get(code::MACHINE_UUID)? {
            [0, uuid @ ..] => uuid.try_into().ok(),
            _ => None,
        }
    }

    /// Option 61.
    pub fn client_id(&self) -> Option<&[u8]> {
        self.get(code::CLIENT_ID)
    }

    /// Option 55: whether the client asks for an option.
    pub fn asks_for(&self, wanted: u8) -> bool {
        self.get(code::PARAMETER_LIST)
            .is_some_and(|list| list.contains(&wanted))
    }

    /// Option 82, raw.
    pub fn relay_agent_information(&self) -> Option<&[u8]> {
        self.get(code::RELAY_AGENT_INFORMATION)
    }

    /// An option inside option 175.
    pub fn ipxe_option(&self, number: u8) -> Option<&[u8]> {
        options::encapsulated(self.get(code::IPXE)?, number)
    }

    /// Whether iPXE announces a feature of [`options::ipxe`].
    pub fn has_ipxe_feature(&self, feature: u8) -> bool {
        self.ipxe_option(feature)
            .is_some_and(|data| data.iter().any(|byte| *byte != 0))
    }

    /// Option 67, or else the `file` field.
    pub fn boot_file(&self) -> Option<String> {
        let raw = self.get(code::BOOT_FILE_NAME).unwrap_or(&self.file);
        let text = String::from_utf8_lossy(raw).trim_end_matches('\0').to_owned();
        (!text.is_empty()).then_some(text)
    }
}
