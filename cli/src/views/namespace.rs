//! Namespaces as they are printed.

use proto::v1;
use serde::Serialize;

use super::{dash, given, short_age, time};
use crate::output::Rows;

#[derive(Debug, Serialize)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// None: it was always there.
    pub(crate) created_at: Option<String>,
    pub(crate) created_by: Option<String>,
}

impl From<v1::Namespace> for Namespace {
    fn from(namespace: v1::Namespace) -> Self {
        Self {
            name: namespace.name,
            created_at: time(namespace.created_at),
            created_by: given(namespace.created_by),
        }
    }
}

impl Rows for Namespace {
    const HEADER: &'static [&'static str] = &["NAME", "CREATED", "BY"];
    const NONE: &'static str = "no namespaces that your token reaches";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            short_age(self.created_at.as_deref()),
            dash(self.created_by.as_deref().unwrap_or_default()),
        ]
    }
}
