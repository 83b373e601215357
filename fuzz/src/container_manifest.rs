//! What registries send as JSON: manifests and indexes, configurations of images; and the logins that people give for them.

use oci::artefact;
use oci::manifest::{Document, LAYERS_LIMIT};
use oci::registry::Login;
use oci::{ImageConfig, Platform};

pub(crate) fn run(bytes: &[u8]) {
    match Document::read(bytes) {
        Ok(Document::Manifest(manifest)) => assert!((1..=LAYERS_LIMIT).contains(&manifest.layers.len())),
        Ok(Document::Index(index)) => {
            let here = Platform::here();
            if index.choose(&here).is_some() {
                let told = index.platforms();
                let is_here = |text: &String| text.starts_with(&format!("{}/{}", here.os, here.architecture));
                assert!(told.len() == 32 || told.iter().any(is_here), "{told:?}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match artefact::File::of(bytes) {
        Ok(Some(file)) => assert!(file.title.is_none_or(|title| title.chars().count() <= 100)),
        Ok(None) => assert!(matches!(Document::read(bytes), Ok(Document::Index(_)))),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok((config, _)) = ImageConfig::read(bytes) {
        let lists = [config.entrypoint, config.cmd, config.env].concat();
        assert!(!lists.iter().any(|text| text.contains('\0')));
        assert!(!config.user.contains('\0') && !config.working_dir.contains('\0'));
    }
    if let Ok(logins) = Login::all(crate::text(bytes)) {
        for (registry, login) in &logins {
            assert!(!registry.contains('/'));
            let shown = format!("{login:?}");
            assert!(
                login.password.len() < 8
                    || login.user.contains(login.password.as_str())
                    || !shown.contains(login.password.as_str())
            );
        }
    }
}
