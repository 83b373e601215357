//! Access control lists as archives have them: what is taken is what the kernel takes, entry by entry in its order.

use oci::layer::access_list;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(value) = access_list(bytes) else { return };
    let (version, entries) = value.split_at(4);
    assert_eq!(version, [2, 0, 0, 0]);
    assert!(entries.len() % 8 == 0 && entries.len() / 8 <= bytes.len());
    let tags: Vec<u8> = entries.chunks(8).map(|entry| entry[0]).collect();
    assert!(tags.is_sorted());
    for entry in entries.chunks(8) {
        assert!([1, 2, 4, 8, 16, 32].contains(&entry[0]) && entry[2] <= 7);
        let is_named = matches!(entry[0], 2 | 8);
        assert_eq!(is_named, entry[4..] != [0xff; 4]);
    }
}
