//! Seeds for the first boot as templates declare them: what is taken has its instance id, and its volume has every file once.

use disk::filesystem;
use disk::iso9660;
use disk::seed::{Datasource, Seed, SeedFields};

/// Lines: datasource, form, then the texts, with a zero byte between them: user data, meta-data, network, vendor data.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let mut word = || lines.next().filter(|line| !line.is_empty());
    let (datasource, form, rest) = (word(), word(), word().unwrap_or_default());
    let mut texts = rest
        .split('\0')
        .map(|text| Some(text).filter(|text| !text.is_empty()));
    let mut next = || texts.next().flatten();
    let fields = SeedFields {
        datasource,
        form,
        user_data: next(),
        meta_data: next(),
        network_config: next(),
        vendor_data: next(),
        ..SeedFields::default()
    };
    let Ok(read) = Seed::parse(&fields) else { return };
    let files = read.files("the-machine");
    let names = read.datasource.names();
    assert!(files.iter().all(|(path, _)| names.contains(path)));
    if read.datasource == Datasource::NoCloud {
        let meta_data = files.iter().find(|(path, _)| *path == "meta-data");
        assert!(meta_data.is_some_and(|(_, text)| text.contains("instance-id")));
    }
    let contents: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .collect();
    let label = read.datasource.label().unwrap_or("none");
    let volume = iso9660::volume(label, &contents);
    assert_eq!(volume.len() % iso9660::SECTOR_BYTES, 0);
    let found = filesystem::detect(&volume);
    assert_eq!(found.and_then(|found| found.label).as_deref(), Some(label));
}
