//! An action's environment variables, typed. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::Failure;
use crate::cmdline::parse_bool;

/// What the template gave this action.
pub(super) struct Environment<'a> {
    variables: &'a HashMap<String, String>,
}

impl<'a> Environment<'a> {
    pub(super) fn of(variables: &'a HashMap<String, String>) -> Environment<'a> {
        Environment { variables }
    }

    /// An empty value counts as none, as in upstream's actions.
    pub(super) fn optional(&self, name: &str) -> Option<&'a str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a str, Failure> {
        self.optional(name).ok_or_else(|| {
            Failure::new(
                "MissingVariable",
                format!("environment variable {name} is not set; this action needs it"),
            )
        })
    }

    /// Unset and unparsable both mean no, as upstream.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.optional(name).is_some_and(parse_bool)
    }

    /// A required number in base 8 or 10.
    pub(super) fn number(&self, name: &str, radix: u32) -> Result<u32, Failure> {
        let text = self.required(name)?;
        let digits = if radix == 8 {
            text.strip_prefix("0o").unwrap_or(text)
        } else {
            text
        };
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        u32::from_str_radix(digits, radix)
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| {
                let kind = if radix == 8 {
                    "an octal number such as 0644"
                } else {
                    "a number"
                };
                Failure::new(
                    "BadVariable",
                    format!("environment variable {name}={text} is not {kind}"),
                )
            })
    }

    /// A whole number of `unit`; `None` when unset.
    pub(super) fn duration(&self, name: &str, unit: Duration) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.optional(name) else {
            return Ok(None);
        };
        let count = text.parse::<u32>().ok().and_then(|n| unit.checked_mul(n));
        count.map(Some).ok_or_else(|| {
            Failure::new(
                "BadVariable",
                format!("environment variable {name}={text} is not a whole number"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn empty_is_unset_and_the_failure_names_the_variable() {
        let variables = variables(&[("A", "")]);
        let failure = Environment::of(&variables).required("A").expect_err("unset");
        assert_eq!(failure.reason, "MissingVariable");
        assert!(failure.message.contains(" A "), "{}", failure.message);
    }

    #[test]
    fn modes_are_octal_and_exact() {
        let variables = variables(&[
            ("MODE", "0640"),
            ("BAD", "0888"),
            ("SIGN", "+640"),
            ("UID", "1000"),
        ]);
        let env = Environment::of(&variables);
        assert_eq!(env.number("MODE", 8), Ok(0o640));
        assert_eq!(env.number("UID", 10), Ok(1000));
        assert!(env.number("BAD", 8).is_err() && env.number("SIGN", 8).is_err());
    }

    #[test]
    fn booleans_are_those_of_upstream() {
        let variables = variables(&[("A", "True"), ("B", "yes"), ("C", "1")]);
        let env = Environment::of(&variables);
        assert!(env.is_on("A") && !env.is_on("B") && env.is_on("C") && !env.is_on("D"));
    }
}
