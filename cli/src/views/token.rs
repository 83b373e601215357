//! Tokens as they are printed.

use proto::v1;
use serde::Serialize;

use super::{dash, given, short_age, time};
use crate::output::Rows;

#[derive(Debug, Serialize)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) groups: Vec<String>,
    /// None: every one.
    pub(crate) namespaces: Vec<String>,
    pub(crate) created_at: Option<String>,
    /// None: the server made it.
    pub(crate) created_by: Option<String>,
    /// None: never.
    pub(crate) expires_at: Option<String>,
}

/// With what its owner logs in with.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedToken {
    #[serde(flatten)]
    pub(crate) token: Token,
    pub(crate) text: String,
}

impl From<v1::Token> for Token {
    fn from(token: v1::Token) -> Self {
        Self {
            name: token.name,
            role: token.role,
            groups: token.groups,
            namespaces: token.namespaces,
            created_at: time(token.created_at),
            created_by: given(token.created_by),
            expires_at: time(token.expires_at),
        }
    }
}

impl Token {
    /// `alice (operator; groups ops, net; namespace team-a)`.
    pub(crate) fn in_words(&self) -> String {
        let groups = match self.groups.as_slice() {
            [] => String::new(),
            [one] => format!("; group {one}"),
            several => format!("; groups {}", several.join(", ")),
        };
        let namespaces = match self.namespaces.as_slice() {
            [] => String::new(),
            [one] => format!("; namespace {one}"),
            several => format!("; namespaces {}", several.join(", ")),
        };
        format!("{} ({}{groups}{namespaces})", self.name, self.role)
    }
}

impl Rows for Token {
    const HEADER: &'static [&'static str] =
        &["NAME", "ROLE", "GROUPS", "NAMESPACES", "CREATED", "BY", "EXPIRES"];
    const NONE: &'static str = "no tokens: the server makes the first one when it starts";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.clone(),
            dash(&self.groups.join(",")),
            match self.namespaces.as_slice() {
                [] => "all".to_owned(),
                some => some.join(","),
            },
            short_age(self.created_at.as_deref()),
            dash(self.created_by.as_deref().unwrap_or_default()),
            self.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
        ]
    }
}
