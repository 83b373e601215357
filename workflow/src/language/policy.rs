//! Rules of a run: which actions are done at once, which a person releases, which are refused.
//!
//! A rule is a line of text, the same in templates, on the command line and in events: `ask writes=disk by=ops`,
//! `deny action=wipe`, `auto image=cexec`, `step`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use yaml::{Fields, Kind};

use super::Action;
use super::fields::Check;
use super::native::names_image;

/// Rules in one place (a template, a request).
pub const MAX_POLICY_RULES: usize = 64;
/// Bytes of a rule.
pub const MAX_RULE_BYTES: usize = 512;

/// What is to be done with actions of a kind. Of several rules the first that fits counts; without one an action is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRule {
    pub of: PolicyOf,
    pub then: PolicyThen,
    /// Of [`PolicyThen::Ask`]: groups one of which has to decide; empty: anybody.
    pub by: Vec<String>,
}

/// Which actions a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOf {
    /// By its name in the template.
    Action(String),
    All,
    /// By its image: as it is written, without its tag, or the last part of its name.
    Image(String),
    /// Those that write a disk, or may: what an image that is not built in does, nobody knows.
    WritesDisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyThen {
    /// Somebody has to say yes before it is handed to its machine.
    Ask,
    Auto,
    /// Its task fails.
    Deny,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy {text:?} {why}: write a rule such as \"ask writes=disk\", \"deny action=NAME\", \"auto image=cexec\" or \"step\""
)]
pub struct PolicyError {
    text: String,
    why: String,
}

impl PolicyRule {
    /// Whether it is for this action, which writes a disk or does not.
    pub fn fits(&self, action: &Action, writes_disk: bool) -> bool {
        match &self.of {
            PolicyOf::Action(name) => action.name == *name,
            PolicyOf::All => true,
            PolicyOf::Image(image) => names_image(image, &action.image),
            PolicyOf::WritesDisk => writes_disk,
        }
    }
}

impl FromStr for PolicyRule {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<PolicyRule, PolicyError> {
        let wrong = |why: String| PolicyError {
            text: text.chars().take(80).collect(),
            why,
        };
        if text.len() > MAX_RULE_BYTES {
            return Err(wrong(format!(
                "takes {} B, {MAX_RULE_BYTES} B at most",
                text.len()
            )));
        }
        let trimmed = text.trim();
        let (verb, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let then = match verb {
            "ask" | "step" => PolicyThen::Ask,
            "auto" => PolicyThen::Auto,
            "deny" => PolicyThen::Deny,
            _ => return Err(wrong("begins with none of ask, auto, deny and step".to_owned())),
        };
        // A name may have spaces; who decides comes last.
        let (what, groups) = match rest.strip_prefix("by=") {
            Some(groups) => ("", Some(groups)),
            None => match rest.rsplit_once(" by=") {
                Some((what, groups)) => (what.trim(), Some(groups)),
                None => (rest.trim(), None),
            },
        };
        if groups.is_some() && then != PolicyThen::Ask {
            return Err(wrong(format!("has by=, and nobody is asked for what is {verb}")));
        }
        let by: Vec<String> = groups
            .map(|groups| groups.split(',').map(|group| group.trim().to_owned()).collect())
            .unwrap_or_default();
        if by.iter().any(String::is_empty) {
            return Err(wrong("names no group behind by=".to_owned()));
        }
        let of = match what.split_once('=') {
            None if what.is_empty() => PolicyOf::All,
            Some(_) if verb == "step" => {
                return Err(wrong(
                    "says which actions, and step is for all: say ask".to_owned(),
                ));
            }
            Some(("action", name)) if !name.is_empty() => PolicyOf::Action(name.to_owned()),
            Some(("image", image)) if !image.is_empty() => PolicyOf::Image(image.to_owned()),
            Some(("writes", "disk")) => PolicyOf::WritesDisk,
            _ => {
                let why = format!("says {what:?}, which is none of action=NAME, image=IMAGE and writes=disk");
                return Err(wrong(why));
            }
        };
        Ok(PolicyRule { of, then, by })
    }
}

impl TryFrom<String> for PolicyRule {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<PolicyRule, PolicyError> {
        text.parse()
    }
}

impl From<PolicyRule> for String {
    fn from(rule: PolicyRule) -> String {
        rule.to_string()
    }
}

/// As it is read.
impl fmt::Display for PolicyRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (self.then, &self.of) {
            (PolicyThen::Ask, PolicyOf::All) => "step",
            (PolicyThen::Ask, _) => "ask",
            (PolicyThen::Auto, _) => "auto",
            (PolicyThen::Deny, _) => "deny",
        })?;
        match &self.of {
            PolicyOf::Action(name) => write!(formatter, " action={name}")?,
            PolicyOf::All => {}
            PolicyOf::Image(image) => write!(formatter, " image={image}")?,
            PolicyOf::WritesDisk => formatter.write_str(" writes=disk")?,
        }
        match self.by.as_slice() {
            [] => Ok(()),
            groups => write!(formatter, " by={}", groups.join(",")),
        }
    }
}

/// The rules that these texts are.
///
/// # Errors
/// Why one is none, or that they are too many.
pub fn policy<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<PolicyRule>, String> {
    let rules = texts
        .into_iter()
        .map(|text| text.parse().map_err(|error: PolicyError| error.to_string()));
    let rules: Vec<PolicyRule> = rules.collect::<Result<_, _>>()?;
    match rules.len() {
        0..=MAX_POLICY_RULES => Ok(rules),
        count => Err(format!(
            "the policy has {count} rules, {MAX_POLICY_RULES} at most"
        )),
    }
}

impl<'a> Check<'a> {
    pub(super) fn policy(&mut self, fields: &Fields<'a>) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        for (text, at) in self.words(fields, "policy") {
            match text.parse::<PolicyRule>() {
                Ok(rule) => rules.push(rule),
                Err(error) => self.problem(at, Kind::Value, error.to_string()),
            }
        }
        if rules.len() > MAX_POLICY_RULES {
            let message = format!("the policy has {} rules, {MAX_POLICY_RULES} at most", rules.len());
            self.problem(fields.at("policy"), Kind::Value, message);
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(name: &str, image: &str) -> Action {
        Action {
            name: name.into(),
            image: image.into(),
            ..Action::default()
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "step",
            "step by=ops",
            "ask writes=disk",
            "ask writes=disk by=ops,night shift",
            "ask action=write the disk by=ops",
            "auto image=quay.io:5000/tinkerbell/actions/image2disk:v1",
            "deny",
            "deny action=a=b",
        ] {
            let rule: PolicyRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let ask: PolicyRule = " ask ".parse().unwrap();
        assert_eq!(ask.to_string(), "step");
    }

    #[test]
    fn what_is_no_rule_is_refused_in_words() {
        let cure = ": write a rule such as \"ask writes=disk\", \"deny action=NAME\", \"auto image=cexec\" or \"step\"";
        for (text, why) in [
            ("", "begins with none of ask, auto, deny and step"),
            ("allow", "begins with none of ask, auto, deny and step"),
            (
                "ask disk",
                "says \"disk\", which is none of action=NAME, image=IMAGE and writes=disk",
            ),
            (
                "ask writes=files",
                "says \"writes=files\", which is none of action=NAME, image=IMAGE and writes=disk",
            ),
            (
                "ask action=",
                "says \"action=\", which is none of action=NAME, image=IMAGE and writes=disk",
            ),
            (
                "step action=x",
                "says which actions, and step is for all: say ask",
            ),
            (
                "auto image=x by=ops",
                "has by=, and nobody is asked for what is auto",
            ),
            ("ask by=", "names no group behind by="),
        ] {
            let error = text.parse::<PolicyRule>().unwrap_err();
            assert_eq!(error.to_string(), format!("policy {text:?} {why}{cure}"));
        }
        let long = format!("ask action={}", "x".repeat(MAX_RULE_BYTES));
        assert!(
            long.parse::<PolicyRule>()
                .unwrap_err()
                .to_string()
                .contains("takes 523 B, 512 B at most")
        );
        let many = policy(std::iter::repeat_n("step", 65)).unwrap_err();
        assert_eq!(many, "the policy has 65 rules, 64 at most");
    }

    #[test]
    fn a_rule_is_for_actions_by_name_image_or_what_they_do() {
        let image = "quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:00";
        let action = action("write", image);
        for (text, fits) in [
            ("step", true),
            ("ask action=write", true),
            ("ask action=writ", false),
            ("ask image=image2disk", true),
            ("ask image=quay.io:5000/tinkerbell/actions/image2disk", true),
            (
                "ask image=quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:00",
                true,
            ),
            ("ask image=disk", false),
            ("ask image=actions/image2disk", false),
            ("ask writes=disk", true),
        ] {
            let rule: PolicyRule = text.parse().unwrap();
            assert_eq!(rule.fits(&action, true), fits, "{text}");
        }
        let rule: PolicyRule = "ask writes=disk".parse().unwrap();
        assert!(!rule.fits(&action, false));
    }
}
