//! What there is to say of a secret. There is no value in it.

use proto::v1;
use serde::Serialize;

use super::{dash, given, short_age, time};
use crate::output::{InNamespace, Rows};

#[derive(Debug, Serialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) version: u64,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
    /// Who set the present value.
    pub(crate) set_by: Option<String>,
}

impl From<v1::Secret> for Secret {
    fn from(secret: v1::Secret) -> Self {
        Self {
            name: secret.name,
            namespace: secret.namespace,
            version: secret.version,
            created_at: time(secret.created_at),
            updated_at: time(secret.updated_at),
            set_by: given(secret.set_by),
        }
    }
}

impl InNamespace for Secret {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Rows for Secret {
    const HEADER: &'static [&'static str] = &["NAME", "VERSION", "SET", "BY"];
    const NONE: &'static str = "no secrets yet: set one with `farrier secret set NAME`";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.version.to_string(),
            short_age(self.updated_at.as_deref()),
            dash(self.set_by.as_deref().unwrap_or_default()),
        ]
    }
}
