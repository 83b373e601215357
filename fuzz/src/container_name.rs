//! Names of container images: what is complete means itself, and no part of it leads elsewhere in a registry's URL.

use oci::Reference;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(name) = crate::text(bytes).parse::<Reference>() else {
        return;
    };
    let again: Reference = name.to_string().parse().expect("a complete name is a name");
    assert_eq!(again, name);
    assert!(name.tag().is_some() || name.digest().is_some());
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
