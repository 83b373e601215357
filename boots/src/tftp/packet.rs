//! TFTP packets on the wire. Pure; total: any bytes give a packet or a [`ParseError`].
//!
//! Source: RFC 1350 section 5; RFC 2347 (options).

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opcode 4.
    Ack(u16),
    /// Opcode 3: nothing that a reading client sends.
    Data,
    /// Opcode 5.
    Error { code: u16, message: String },
    /// Opcode 6: nothing that a client sends.
    Oack,
    /// Opcode 1.
    Read(Request),
    /// Opcode 2.
    Write(Request),
}

/// A read or write request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As sent; bytes that are not UTF-8 are replaced, such a name is no file of ours.
    pub file: String,
    /// Lower case: `octet`, `netascii`, `mail`.
    pub mode: String,
    /// In the client's order, at most [`MAX_OPTIONS`]; a name without a value is dropped.
    pub options: Vec<(String, String)>,
}

/// Why a datagram is no TFTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than the opcode needs.
    #[error("packet of {len_bytes} B is too short")]
    TooShort { len_bytes: usize },
    /// Not 1 to 6.
    #[error("opcode {0} is not one of TFTP's")]
    UnknownOpcode(u16),
    /// A request without a file name, or whose name does not end.
    #[error("request names no file")]
    NoFile,
}

/// TFTP error codes that this server sends (RFC 1350 section 5; RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    NotDefined = 0,
    FileNotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
}

/// Reads one datagram.
///
/// # Errors
/// [`ParseError`] for what is no TFTP packet.
pub fn parse(bytes: &[u8]) -> Result<Packet, ParseError> {
    let too_short = ParseError::TooShort {
        len_bytes: bytes.len(),
    };
    let (opcode, rest) = split_u16(bytes).ok_or(too_short)?;
    match opcode {
        1 => request(rest).map(Packet::Read),
        2 => request(rest).map(Packet::Write),
        3 => Ok(Packet::Data),
        4 => split_u16(rest)
            .map(|(block, _)| Packet::Ack(block))
            .ok_or(too_short),
        5 => {
            let (code, rest) = split_u16(rest).ok_or(too_short)?;
            let (message, _) = split_string(rest);
            Ok(Packet::Error {
                code,
                message: printable(&message),
            })
        }
        6 => Ok(Packet::Oack),
        other => Err(ParseError::UnknownOpcode(other)),
    }
}

/// Builds an option acknowledgement (RFC 2347).
pub fn oack(options: &[(String, String)]) -> Vec<u8> {
    let mut packet = vec![0, 6];
    for (name, value) in options {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
        packet.extend_from_slice(value.as_bytes());
        packet.push(0);
    }
    packet
}

/// Builds an ERROR. Messages are words for people and never contain paths of this host.
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = vec![0, 5, 0, code as u8];
    packet.extend_from_slice(message.as_bytes());
    packet.push(0);
    packet
}

/// Starts a DATA packet: its header, for the content to follow.
pub fn data_header(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

fn request(bytes: &[u8]) -> Result<Request, ParseError> {
    let (file, mut rest) = split_string(bytes);
    if file.is_empty() {
        return Err(ParseError::NoFile);
    }
    let (mode, after_mode) = split_string(rest);
    rest = after_mode;
    let mut options = Vec::new();
    while options.len() < MAX_OPTIONS {
        // Some option ROMs fill their requests up with zeros, behind the last option or between two.
        while let [0, after @ ..] = rest {
            rest = after;
        }
        let (name, after_name) = split_string(rest);
        if after_name.is_empty() {
            break;
        }
        let (value, after_value) = split_string(after_name);
        options.push((name, value));
        rest = after_value;
    }
    Ok(Request {
        file,
        mode: mode.to_ascii_lowercase(),
        options,
    })
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes
        .split_first_chunk::<2>()
        .map(|(head, rest)| (u16::from_be_bytes(*head), rest))
}

/// A string up to its zero byte. A last string without one is taken as it is: some option ROMs leave it out.
fn split_string(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    (
        String::from_utf8_lossy(text).into_owned(),
        rest.get(1..).unwrap_or_default(),
    )
}

/// A peer's words, fit for a log line: bounded, without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// Options that are read. A request that fits in 512 B (RFC 2347) has no use for more.
pub const MAX_OPTIONS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_request_with_options() {
        let packet = parse(b"\0\x01snponly.efi\0OCTET\0tsize\0\x30\0blksize\0\x31468\0").unwrap();
        let Packet::Read(request) = packet else {
            panic!("{packet:?}")
        };
        assert_eq!(request.file, "snponly.efi");
        assert_eq!(request.mode, "octet");
        assert_eq!(
            request.options,
            [
                ("tsize".to_string(), "0".to_string()),
                ("blksize".to_string(), "1468".to_string())
            ]
        );
    }

    #[test]
    fn takes_a_request_whose_last_zero_is_missing() {
        let Packet::Read(request) = parse(b"\0\x01undionly.kpxe\0octet").unwrap() else {
            panic!()
        };
        assert_eq!(
            (request.file.as_str(), request.mode.as_str()),
            ("undionly.kpxe", "octet")
        );
    }

    #[test]
    fn drops_an_option_without_a_value() {
        let Packet::Read(request) = parse(b"\0\x01a\0octet\0blksize\0").unwrap() else {
            panic!()
        };
        assert_eq!(request.options, []);
    }

    #[test]
    fn refuses_what_is_no_packet() {
        assert_eq!(parse(b""), Err(ParseError::TooShort { len_bytes: 0 }));
        assert_eq!(parse(b"\0\x04\0"), Err(ParseError::TooShort { len_bytes: 3 }));
        assert_eq!(parse(b"\0\x09abc"), Err(ParseError::UnknownOpcode(9)));
        assert_eq!(parse(b"\0\x01\0octet\0"), Err(ParseError::NoFile));
    }

    #[test]
    fn options_beyond_what_any_client_sends_are_not_read() {
        let many = [&b"\0\x01f\0octet\0"[..], &b"a\0b\0".repeat(40)].concat();
        let Packet::Read(request) = parse(&many).unwrap() else {
            panic!()
        };
        assert_eq!(request.options.len(), MAX_OPTIONS);
    }

    #[test]
    fn zeros_that_fill_a_packet_up_say_nothing() {
        let options = [
            ("tsize".to_string(), "0".to_string()),
            ("blksize".to_string(), "1468".to_string()),
        ];
        for request in [
            &b"\0\x01snponly.efi\0octet\0tsize\0\x30\0blksize\0\x31468\0"[..],
            b"\0\x01snponly.efi\0octet\0\0\0tsize\0\x30\0\0blksize\0\x31468\0",
        ] {
            for len_bytes in [request.len(), request.len() + 1, 512, 1400] {
                let mut padded = request.to_vec();
                padded.resize(len_bytes, 0);
                let Packet::Read(read) = parse(&padded).unwrap() else {
                    panic!()
                };
                assert_eq!(read.options, options, "{len_bytes} B");
            }
        }
        let mut ack = b"\0\x04\0\x07".to_vec();
        ack.resize(512, 0);
        assert_eq!(parse(&ack), Ok(Packet::Ack(7)));
        let mut error = b"\0\x05\0\x08no\0".to_vec();
        error.resize(512, 0);
        assert_eq!(
            parse(&error),
            Ok(Packet::Error {
                code: 8,
                message: "no".to_owned()
            })
        );
    }

    #[test]
    fn a_peers_error_message_is_cut_and_cleaned() {
        let packet = [
            &b"\0\x05\0\x08"[..],
            &b"no\x1b[2J\n"[..],
            &b"x".repeat(500),
            b"\0",
        ]
        .concat();
        let Packet::Error { code: 8, message } = parse(&packet).unwrap() else {
            panic!()
        };
        assert!(message.starts_with("no[2Jxxx") && message.len() == 120);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn never_panics_on_requests(tail in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&[&[0, 1][..], &tail].concat());
        }
    }
}
