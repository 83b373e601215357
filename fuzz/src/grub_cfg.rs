//! GRUB's configuration in an installed system: the entry that it starts has a kernel and words, or there is none.

use disk::grub_cfg::default_entry;

pub(crate) fn run(bytes: &[u8]) {
    match default_entry(bytes) {
        Ok(entry) => {
            assert!(!entry.kernel.is_empty());
            let words = entry.arguments.iter().chain(&entry.initrds);
            let all: usize = words.map(String::len).sum();
            assert!(all <= bytes.len());
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}
