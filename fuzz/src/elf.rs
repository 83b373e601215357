//! Kernel modules and programs: sections of an ELF file, the metadata in one of them, the libraries that are linked.

pub(crate) fn run(bytes: &[u8]) {
    for name in [".modinfo", ""] {
        if let Ok(Some(section)) = image::elf::section(bytes, name) {
            assert!(section.len() <= bytes.len());
        }
    }
    if let Ok(needed) = image::elf::needed(bytes) {
        assert!(needed.iter().all(|name| !name.contains('\0')), "{needed:?}");
    }
    if let Ok(info) = image::modules::of_module(bytes) {
        assert!(
            info.depends
                .iter()
                .all(|name| !name.is_empty() && !name.contains(','))
        );
    }
}
