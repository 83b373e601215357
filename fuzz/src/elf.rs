//! Kernel modules: sections of an ELF file, and the metadata in one of them.

pub(crate) fn run(bytes: &[u8]) {
    for name in [".modinfo", ""] {
        if let Ok(Some(section)) = image::elf::section(bytes, name) {
            assert!(section.len() <= bytes.len());
        }
    }
    if let Ok(info) = image::modules::of_module(bytes) {
        assert!(
            info.depends
                .iter()
                .all(|name| !name.is_empty() && !name.contains(','))
        );
    }
}
