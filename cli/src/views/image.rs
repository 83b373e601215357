//! What there is to say of an image of the server's own registry.

use proto::v1;
use serde::Serialize;

use super::inventory::bytes;
use super::{dash, given, short_age, time};
use crate::output::Rows;

#[derive(Debug, Serialize)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) digest: Option<String>,
    pub(crate) size_bytes: u64,
    /// `WHOLE`, `INCOMPLETE`; `LACKING` for one that templates name and that is not there.
    pub(crate) state: String,
    pub(crate) platforms: Vec<String>,
    pub(crate) put_at: Option<String>,
    pub(crate) put_by: Option<String>,
    /// Of one that is not there: the templates that name it.
    pub(crate) wanted_by: Vec<String>,
}

impl From<v1::Image> for Image {
    fn from(image: v1::Image) -> Self {
        Self {
            name: image.name,
            digest: given(image.digest),
            size_bytes: image.size_bytes,
            state: image.state,
            platforms: image.platforms,
            put_at: time(image.put_at),
            put_by: given(image.put_by),
            wanted_by: Vec::new(),
        }
    }
}

impl From<v1::WantedImage> for Image {
    fn from(image: v1::WantedImage) -> Self {
        Self {
            name: image.name,
            digest: None,
            size_bytes: 0,
            state: "LACKING".to_owned(),
            platforms: Vec::new(),
            put_at: None,
            put_by: None,
            wanted_by: image.templates,
        }
    }
}

impl Rows for Image {
    const HEADER: &'static [&'static str] = &["NAME", "STATE", "SIZE", "BROUGHT", "DIGEST", "WANTED BY"];
    const NONE: &'static str = "no images: bring one with `farrier registry import FILE`";

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.clone(),
            match self.size_bytes {
                0 => "-".to_owned(),
                size_bytes => bytes(size_bytes),
            },
            short_age(self.put_at.as_deref()),
            // As Docker shortens them; all of it is in the other formats.
            dash(
                self.digest
                    .as_deref()
                    .and_then(|digest| digest.get(..19))
                    .unwrap_or_default(),
            ),
            dash(&self.wanted_by.join(", ")),
        ]
    }
}
