//! What registries ask of who is not known to them: `WWW-Authenticate`.

use oci::registry::Challenge;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    if let Some(Challenge::Bearer { .. }) = Challenge::read(text) {
        let said = text.to_ascii_lowercase();
        assert!(said.contains("bearer") && said.contains("realm"));
    }
}
