//! Tokens of people, as they are pasted: one that is read is written as it was, and a refusal shows no secret.

use access::Token;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    match text.parse::<Token>() {
        Ok(token) => {
            assert_eq!(token.to_string(), text.trim());
            assert!(!format!("{token:?}").contains(&token.secret.text()));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}
