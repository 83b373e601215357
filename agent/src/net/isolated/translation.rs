//! One address is translated to that of the link that it leaves through: a table of nftables with one rule.
//!
//! As `nft` would write it: `table ip farrier-A { chain post { type nat hook postrouting priority srcnat; ip saddr A masquerade } }`.
//! The table is owned by the socket that made it: the kernel takes it away when the socket is closed, however this process
//! ends (`NFT_TABLE_F_OWNER`, Linux 5.12).
//!
//! Source: include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h and linux/netlink.h; nothing of the board's is parsed but
//! the errors that the kernel answers with.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
const NF_INET_POST_ROUTING: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`
const PRIORITY_SRCNAT: u32 = 100;
const NF_ACCEPT: u32 = 1;
const NFT_REG_1: u32 = 1;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
/// Of the source address in IPv4's header (RFC 791 section 3.1).
const SADDR: (u32, u32) = (12, 4);

const CHAIN: &[u8] = b"post\0";

/// It is there as long as this is.
#[derive(Debug)]
pub(super) struct Translation {
    _owner: OwnedFd,
}

impl Translation {
    /// Begins to translate.
    ///
    /// # Errors
    /// What the kernel refused the table, the chain or the rule with: then there is nothing of them.
    pub(super) fn of(address: Ipv4Addr) -> io::Result<Translation> {
        let owner = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let kernel = NetlinkAddr::new(0, 0);
        connect(owner.as_raw_fd(), &kernel)?;
        let batch = batch(address);
        send(owner.as_raw_fd(), &batch, MsgFlags::empty())?;
        acknowledged(&owner)?;
        Ok(Translation { _owner: owner })
    }
}

/// Table, chain and rule; all or none of them come to be.
fn batch(address: Ipv4Addr) -> Vec<u8> {
    let table = format!("farrier-{address}\0").into_bytes();
    let mut hook = Attributes::default();
    hook.number(1, NF_INET_POST_ROUTING).number(2, PRIORITY_SRCNAT);
    let mut payload = Attributes::default();
    payload
        .number(1, NFT_REG_1)
        .number(2, NFT_PAYLOAD_NETWORK_HEADER)
        .number(3, SADDR.0)
        .number(4, SADDR.1);
    let mut value = Attributes::default();
    value.bytes(1, &address.octets());
    let mut compare = Attributes::default();
    compare
        .number(1, NFT_REG_1)
        .number(2, NFT_CMP_EQ)
        .nested(3, &value);
    let mut expressions = Attributes::default();
    for (name, data) in [
        (&b"payload\0"[..], payload),
        (b"cmp\0", compare),
        (b"masq\0", Attributes::default()),
    ] {
        let mut expression = Attributes::default();
        expression.bytes(1, name).nested(2, &data);
        expressions.nested(1, &expression);
    }

    let mut of_table = Attributes::default();
    of_table.bytes(1, &table).number(2, NFT_TABLE_F_OWNER);
    let mut of_chain = Attributes::default();
    of_chain
        .bytes(1, &table)
        .bytes(3, CHAIN)
        .nested(4, &hook)
        .number(5, NF_ACCEPT)
        .bytes(7, b"nat\0");
    let mut of_rule = Attributes::default();
    of_rule.bytes(1, &table).bytes(2, CHAIN).nested(4, &expressions);

    let asked = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let of_nftables = |kind: u16| NFNL_SUBSYS_NFTABLES << 8 | kind;
    let mut batch = Vec::new();
    let none = Attributes::default();
    message(
        &mut batch,
        NFNL_MSG_BATCH_BEGIN,
        NLM_F_REQUEST,
        NFPROTO_UNSPEC,
        NFNL_SUBSYS_NFTABLES,
        &none,
    );
    message(
        &mut batch,
        of_nftables(NFT_MSG_NEWTABLE),
        asked,
        NFPROTO_IPV4,
        0,
        &of_table,
    );
    message(
        &mut batch,
        of_nftables(NFT_MSG_NEWCHAIN),
        asked,
        NFPROTO_IPV4,
        0,
        &of_chain,
    );
    message(
        &mut batch,
        of_nftables(NFT_MSG_NEWRULE),
        asked | NLM_F_APPEND,
        NFPROTO_IPV4,
        0,
        &of_rule,
    );
    message(
        &mut batch,
        NFNL_MSG_BATCH_END,
        NLM_F_REQUEST,
        NFPROTO_UNSPEC,
        NFNL_SUBSYS_NFTABLES,
        &none,
    );
    batch
}

/// Messages of a batch that are answered.
const ANSWERED: usize = 3;

/// Waits until the kernel has taken all that is answered.
fn acknowledged(owner: &OwnedFd) -> io::Result<()> {
    let mut taken = 0;
    let mut buffer = [0; 8192];
    while taken < ANSWERED {
        let length = recv(owner.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, body, next)) = first(rest) {
            if kind == NLMSG_ERROR {
                let code = body.first_chunk().copied().map_or(0, i32::from_ne_bytes);
                match code {
                    0 => taken += 1,
                    code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
                }
            }
            rest = next;
        }
    }
    Ok(())
}

/// Kind and body of the first message, and what comes after it.
fn first(messages: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = messages.first_chunk().copied().map(u32::from_ne_bytes)?;
    let length = usize::try_from(length).ok()?;
    let kind = u16::from_ne_bytes([*messages.get(4)?, *messages.get(5)?]);
    let body = messages.get(16..length)?;
    let next = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// Appends `nlmsghdr`, `nfgenmsg` and the attributes; their numbers are the machine's, but for the resource's.
fn message(batch: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, attributes: &Attributes) {
    let length = 20 + attributes.0.len();
    batch.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(flags.to_ne_bytes());
    // Sequence number and port: of no use here.
    batch.extend([0; 8]);
    batch.extend([family, 0]);
    batch.extend(resource.to_be_bytes());
    batch.extend(&attributes.0);
}

/// `nlattr`s, each padded to 4 bytes. Numbers of nftables are big-endian.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn nested(&mut self, kind: u16, value: &Attributes) -> &mut Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }
}
