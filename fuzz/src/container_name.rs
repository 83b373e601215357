//! Names of container images: what is complete means itself, no part of it leads elsewhere in a registry's URL, and the rules of the server
//! read it as the agent does.

use oci::Reference;
use workflow::language::complete_image_name;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let Ok(name) = text.parse::<Reference>() else {
        return;
    };
    let again: Reference = name.to_string().parse().expect("a complete name is a name");
    assert_eq!(again, name);
    assert!(name.tag().is_some() || name.digest().is_some());
    if let Some((registry, repository)) = complete_image_name(text) {
        assert_eq!(
            (registry.as_str(), repository.as_str()),
            (name.registry(), name.repository())
        );
    }
    let parts: Vec<&str> = name.repository().split('/').collect();
    assert!(
        !parts.iter().any(|part| matches!(*part, "" | "." | "..")),
        "{name}"
    );
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/:".contains(letter);
    assert!(name.repository().chars().all(is_plain), "{name}");
    assert!(name.asked_for().chars().all(is_plain), "{name}");
    assert!(!name.registry().contains(['/', '@', '?', '#', ' ']), "{name}");
}
