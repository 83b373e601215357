//! What a system says that is asked whether it answers: read from bytes, and put into words. Whoever asks has the socket.

/// Bytes that are read of a server that introduces itself.
pub const MAX_BANNER_BYTES: usize = 4096;
/// Of a version line, its end included. Source: RFC 4253 section 4.2.
const MAX_VERSION_BYTES: usize = 255;
/// Of what somebody else says, in words.
const MAX_SHOWN_CHARS: usize = 80;

/// What the first bytes of a connection are, to whom expects an SSH server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banner {
    /// Its version line, without the end: `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    Is(String),
    /// It is none: why, in words.
    Not(String),
    /// It may become one.
    Open,
}

/// Reads what a server sends of its own accord. `ended`: nothing more comes.
///
/// Lines may come before that of the version, which begins with `SSH-`. Source: RFC 4253 section 4.2; `1.99` is section 5.1.
pub fn ssh_banner(bytes: &[u8], ended: bool) -> Banner {
    let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_whole = lines.peek().is_some();
        if !line.starts_with(b"SSH-") {
            continue;
        }
        if line.len() >= MAX_VERSION_BYTES {
            return Banner::Not(format!("its SSH version has more than {MAX_VERSION_BYTES} B"));
        }
        if !is_whole {
            break;
        }
        let line = shown(line.strip_suffix(b"\r").unwrap_or(line), MAX_VERSION_BYTES);
        return match line.starts_with("SSH-2.0-") || line.starts_with("SSH-1.99-") {
            true => Banner::Is(line),
            false => Banner::Not(format!("it speaks another SSH than 2.0: {line:?}")),
        };
    }
    match (bytes.is_empty(), ended) {
        (true, true) => Banner::Not("it hangs up without a word".to_owned()),
        (false, true) => Banner::Not(format!("it is no SSH server: it says {:?}", first_line(bytes))),
        (_, false) if bytes.len() >= MAX_BANNER_BYTES => Banner::Not(format!(
            "it says {MAX_BANNER_BYTES} B, and no SSH version: {:?}",
            first_line(bytes)
        )),
        (_, false) => Banner::Open,
    }
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    shown(line.unwrap_or_default(), MAX_SHOWN_CHARS)
}

/// Printable ASCII, and dots for the rest.
fn shown(bytes: &[u8], most: usize) -> String {
    let letter = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    };
    bytes.iter().take(most).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not(why: &str) -> Banner {
        Banner::Not(why.to_owned())
    }

    #[test]
    fn a_version_line_is_told_from_all_else() {
        let is = |line: &str| Banner::Is(line.to_owned());
        let long = format!("SSH-2.0-{}", "x".repeat(300));
        let prose = "no SSH here\n".repeat(400);
        for (bytes, ended, want) in [
            (
                &b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"[..],
                false,
                is("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"),
            ),
            (b"SSH-1.99-old\nrest", false, is("SSH-1.99-old")),
            (b"Authorized use only.\r\nSSH-2.0-x\r\n", false, is("SSH-2.0-x")),
            (b"SSH-2.0-\xff\x1b[m\r\n", false, is("SSH-2.0-..[m")),
            (b"", false, Banner::Open),
            (b"SSH-2.0-OpenS", false, Banner::Open),
            (b"Welcome\r\nSSH-2", false, Banner::Open),
            (b"", true, not("it hangs up without a word")),
            (
                b"SSH-1.5-ancient\n",
                false,
                not("it speaks another SSH than 2.0: \"SSH-1.5-ancient\""),
            ),
            (
                b"220 mail ESMTP\r\n",
                true,
                not("it is no SSH server: it says \"220 mail ESMTP\""),
            ),
            (
                b"SSH-2.0-cut",
                true,
                not("it is no SSH server: it says \"SSH-2.0-cut\""),
            ),
            (long.as_bytes(), false, not("its SSH version has more than 255 B")),
            (
                prose.as_bytes(),
                false,
                not("it says 4096 B, and no SSH version: \"no SSH here\""),
            ),
        ] {
            assert_eq!(
                ssh_banner(bytes, ended),
                want,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    /// However the bytes are cut, the same comes of them.
    #[test]
    fn a_line_that_comes_in_pieces_is_the_same_line() {
        let bytes = b"hello\r\nSSH-2.0-x y\r\nmore";
        for cut in 0..bytes.len() {
            match ssh_banner(&bytes[..cut], false) {
                Banner::Open => {}
                found => assert_eq!(found, ssh_banner(bytes, false), "{cut}"),
            }
        }
    }
}
