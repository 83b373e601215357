//! Files with images that people bring to the server's registry: what is taken of one has the digests that it says, and nothing is read outside.

use std::collections::BTreeSet;
use std::io::Read;

use registry::archive::Archive;

use crate::deb::{in_memory, sealed};

pub(crate) fn run(bytes: &[u8]) {
    // A file is made for each: only what looks like an archive is worth it.
    if bytes.len() < 512 {
        return;
    }
    let directory = in_memory();
    let path = directory.path().join("images");
    for bytes in [bytes, &sealed(bytes)] {
        if std::fs::write(&path, bytes).is_ok() {
            open(&path);
        }
    }
}

fn open(path: &std::path::Path) {
    let images = Archive::open_within(path, 64 << 20).and_then(|archive| Ok((archive.images()?, archive)));
    match images {
        Err(error) => assert!(error.to_string().contains("images"), "{error}"),
        Ok((images, archive)) => {
            for image in images {
                let names: BTreeSet<_> = image.contents.iter().map(|content| content.digest).collect();
                assert!(names.len() == image.contents.len() && names.contains(&image.root));
                for content in &image.contents {
                    let mut read = Vec::new();
                    let mut bytes = archive.read(content).expect("it was there");
                    bytes.read_to_end(&mut read).expect("it was there");
                    assert_eq!(read.len() as u64, content.size_bytes);
                }
            }
        }
    }
}
