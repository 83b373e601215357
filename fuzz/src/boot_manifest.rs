//! `manifest.json` of boot images: no file that it names leads out of the directory.

use image::Manifest;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    for file in &manifest.files {
        let path = std::path::Path::new(&file.name);
        let mut parts = path.components();
        assert!(
            matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none(),
            "{:?}",
            file.name
        );
    }
    let text = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    assert_eq!(Manifest::parse(&text).as_ref(), Ok(&manifest));
}
