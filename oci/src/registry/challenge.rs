//! What a registry asks of who is not known to it: the header `WWW-Authenticate`.
//!
//! Source: RFC 9110 section 11.6.1; distribution, "Token Authentication Specification".

/// How a registry wants to know who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// A token of the server at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// No header of a registry is longer.
const LIMIT_BYTES: usize = 16 << 10;

impl Challenge {
    /// The first challenge in a header's value that can be met; a token is better than a password.
    pub fn read(value: &str) -> Option<Challenge> {
        let mut rest = value.get(..LIMIT_BYTES).unwrap_or(value);
        let mut found = Vec::new();
        while let Some((scheme, after)) = word(rest) {
            let (parameters, behind) = parameters(after);
            let said = |name: &str| {
                let named = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = said("realm") {
                    found.push(Challenge::Bearer {
                        realm,
                        service: said("service"),
                        scope: said("scope"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                found.push(Challenge::Basic);
            }
            // One that is read no further is the last.
            rest = if behind.len() < rest.len() { behind } else { "" };
        }
        let token = found.iter().position(|challenge| *challenge != Challenge::Basic);
        (!found.is_empty()).then(|| found.swap_remove(token.unwrap_or(0)))
    }
}

/// `name=value` pairs up to the next scheme.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = word(rest) else {
            return (found, rest);
        };
        let after = after.trim_start_matches([' ', '\t']);
        let Some(after) = after.strip_prefix('=') else {
            // A word without a value begins the next challenge.
            return (found, rest);
        };
        let (value, behind) = self::value(after.trim_start_matches([' ', '\t']));
        found.push((name.to_owned(), value));
        rest = behind;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// A token of RFC 9110 section 5.6.2, and what is behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let is_token = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
    let end = text.find(|letter| !is_token(letter)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/x:pull"),
        );
        assert_eq!(Challenge::read(hub), expected);
        assert_eq!(Challenge::read(r#"Basic realm="a, b""#), Some(Challenge::Basic));
        assert_eq!(Challenge::read("basic"), Some(Challenge::Basic));
        assert_eq!(
            Challenge::read(r#"Basic realm="x", BEARER Realm = "https://a" , service=b"#),
            bearer("https://a", Some("b"), None)
        );
        assert_eq!(
            Challenge::read(r#"Negotiate abc==, Bearer realm="https://a\"b""#),
            bearer("https://a\"b", None, None)
        );
        for none in [
            "",
            ",",
            "Bearer",
            "Bearer service=\"x\"",
            "Digest realm=\"x\"",
            "=",
            "\"\"",
        ] {
            assert_eq!(Challenge::read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(text in "[ -~]{0,200}") {
            let _ = Challenge::read(&text);
        }

        #[test]
        fn what_is_quoted_is_read(realm in "[ !#-\\[\\]-~]{1,60}", scope in "[ !#-\\[\\]-~]{0,60}") {
            let text = format!("Bearer realm=\"{realm}\",scope=\"{scope}\"");
            prop_assert_eq!(Challenge::read(&text), bearer(&realm, None, Some(&scope)));
        }
    }
}
