//! How a message to a webhook is signed, so that who takes it knows whose it is.
//!
//! Source: Standard Webhooks 1.0.0, "Webhook signatures": HMAC-SHA256 over id, time and body.

use data_encoding::BASE64;
use ring::hmac;

use crate::secrets::Value;

/// Before the key in its text form.
const PREFIX: &str = "whsec_";
/// Bytes of a key that we make; the standard has 24 to 64.
pub const KEY_BYTES: usize = 32;

/// The text of a key, as whoever verifies is given it.
pub fn key_text(key: &[u8; KEY_BYTES]) -> String {
    format!("{PREFIX}{}", BASE64.encode(key))
}

/// The header `webhook-signature`: `v1,` and the signature in base64. `None`: `key` is none of [`key_text`].
pub fn sign(key: &Value, id: &str, at_s: u64, body: &[u8]) -> Option<String> {
    let key = BASE64
        .decode(key.as_ref().strip_prefix(PREFIX)?.as_bytes())
        .ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [format!("{id}.{at_s}.").as_bytes(), body].concat();
    Some(format!(
        "v1,{}",
        BASE64.encode(hmac::sign(&key, &signed).as_ref())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the standard's own libraries have in their tests.
    #[test]
    fn signs_as_the_standard_has_it() {
        let key = Value::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&key, id, 1_614_265_330, body).as_deref(), Some(want));
        for other in [
            sign(&key, id, 1_614_265_331, body),
            sign(&key, "msg", 1_614_265_330, body),
            sign(&key, id, 1_614_265_330, b"{\"test\":2432232314}"),
        ] {
            assert_ne!(other.as_deref(), Some(want));
        }
        assert_eq!(sign(&Value::new("MfKQ".into()), id, 0, body), None);
    }

    #[test]
    fn a_key_has_the_text_that_verifiers_take() {
        assert_eq!(
            key_text(&[0xff; KEY_BYTES]),
            "whsec_//////////////////////////////////////////8="
        );
    }
}
