//! The text that a person is given: which server it is for, and the secret.

use std::fmt;
use std::str::FromStr;

use data_encoding::Encoding;
use data_encoding::Specification;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::LazyLock;

/// Bytes of a secret: it cannot be guessed, so that tries need not be counted.
pub const SECRET_BYTES: usize = 20;
/// Bytes of a certificate's SHA-256 that name it. Another certificate with the same ones cannot be found.
const PIN_BYTES: usize = 16;
/// The form of a token's text.
const PREFIX: &str = "farrier1-";

/// RFC 4648 base32, lower case, without padding.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification
        .encoding()
        .expect("an alphabet of 32 different letters")
});

/// Names a certificate authority: the first 16 bytes of the SHA-256 of its certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; PIN_BYTES]);

/// What only the owner of a token and, as a digest, the server know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

/// A server's authority and a secret that it knows: `farrier1-<authority>-<secret>`, both in base32.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The authority whose servers it is for.
    pub pin: Pin,
    /// Shown to those servers alone.
    pub secret: Secret,
}

/// A text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadToken(&'static str);

/// The host's generator of random numbers gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host has no random numbers: its kernel's generator failed (getrandom)")]
pub struct NoRandom;

/// Bytes that nobody can guess, from the kernel.
///
/// # Errors
/// When it has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

impl Pin {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let whole = digest(&SHA256, certificate);
        let mut pin = [0; PIN_BYTES];
        pin.iter_mut()
            .zip(whole.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self(pin)
    }
}

impl Secret {
    /// Of bytes that nobody can guess.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// A new one.
    ///
    /// # Errors
    /// When the host has no random numbers.
    pub fn random() -> Result<Self, NoRandom> {
        random().map(Self)
    }

    /// What a server keeps of it: the SHA-256 of its bytes, 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(digest(&SHA256, &self.0).as_ref())
    }

    /// As it goes over the wire.
    pub fn text(&self) -> String {
        BASE32.encode(&self.0)
    }
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Bounded before it is decoded.
    if text.len() != BASE32.encode_len(N) {
        return None;
    }
    BASE32.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl FromStr for Secret {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        decoded(text)
            .map(Self)
            .ok_or(BadToken("this is no secret of a token"))
    }
}

impl FromStr for Pin {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        decoded(text)
            .map(Self)
            .ok_or(BadToken("this is no server's authority"))
    }
}

impl FromStr for Token {
    type Err = BadToken;

    /// White space around it does not count.
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let rest = text.trim().strip_prefix(PREFIX);
        let (pin, secret) = rest.and_then(|rest| rest.split_once('-')).ok_or(BadToken(
            "a token begins with farrier1- and has two parts after that",
        ))?;
        let cut = BadToken("the token is cut or mistyped: copy all of it");
        Ok(Self {
            pin: pin.parse().map_err(|_| cut.clone())?,
            secret: secret.parse().map_err(|_| cut)?,
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE32.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pin({self})")
    }
}

/// With its secret: for its owner.
impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}-{}", self.pin, self.secret.text())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({PREFIX}{}-***)", self.pin)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token {
            pin: Pin::of(b"certificate"),
            secret: Secret::new([7; SECRET_BYTES]),
        }
    }

    #[test]
    fn a_token_reads_as_it_is_written() {
        let text = token().to_string();
        assert_eq!(text.len(), 9 + 26 + 1 + 32, "{text}");
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
        // sha256sum of 20 times \x07.
        assert_eq!(
            token().secret.digest(),
            data_encoding::HEXLOWER.encode(digest(&SHA256, &[7; SECRET_BYTES]).as_ref())
        );
    }

    #[test]
    fn what_is_cut_or_of_another_kind_is_told_apart() {
        let text = token().to_string();
        for cut in [
            &text[..text.len() - 1],
            &text[..20],
            &text.to_uppercase().replacen("FARRIER1", "farrier1", 1),
        ] {
            let why = cut.parse::<Token>().unwrap_err().to_string();
            assert!(
                why.contains("cut or mistyped") || why.contains("two parts"),
                "{cut}: {why}"
            );
        }
        assert!(
            "hunter2"
                .parse::<Token>()
                .unwrap_err()
                .to_string()
                .contains("farrier1-")
        );
    }

    #[test]
    fn what_is_written_for_debugging_has_no_secret() {
        let shown = format!("{:?} {:?}", token(), token().secret);
        assert!(!shown.contains(&token().secret.text()), "{shown}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Token>();
            let _ = format!("farrier1-{text}").parse::<Token>();
        }
    }
}
