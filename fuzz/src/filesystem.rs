//! Filesystems as templates declare them: what is read becomes arguments that name one device, or is refused.

use disk::mkfs::{Filesystem, FsId};

/// Lines: type, label, UUID, options as JSON.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(4, '\n');
    let fs_type = lines.next().unwrap_or_default();
    let mut optional = || lines.next().filter(|line| !line.is_empty());
    let (label, uuid, options) = (optional(), optional(), optional());
    let Ok(read) = Filesystem::parse(fs_type, label, uuid, options) else {
        return;
    };
    let id = read
        .id
        .unwrap_or_else(|| FsId::of_digest(read.fs_type, [bytes.len() as u8; 16]));
    let device = "/dev/the-device";
    let arguments = read.arguments(id, device);
    assert_eq!(arguments.last().map(String::as_str), Some(device));
    assert!(arguments.iter().all(|word| !word.contains('\0')));
    assert!(
        read.label
            .is_none_or(|label| label.len() <= read.fs_type.most_label_bytes())
    );
}
