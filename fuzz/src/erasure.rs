//! What disks say of their own erasure: whatever it is, there is a way, and the way is one that the disk has.

use disk::wipe::{self, AtaSecurity, Erasure, Method, Sanitizing, Says};

/// The first letter says which disk it is; the rest is what it answers.
pub(crate) fn run(bytes: &[u8]) {
    let Some((choice, answer)) = bytes.split_first() else {
        return;
    };
    let says = match choice & 1 {
        0 => Says::Ata(answer.to_vec()),
        _ => Says::Nvme {
            controller: answer.to_vec(),
            namespaces: (1..=u32::from(choice >> 1)).collect(),
        },
    };
    let _ = (AtaSecurity::read(answer), Sanitizing::read(answer));
    let Ok(chosen) = wipe::choose(None, &says) else {
        panic!("every disk can be overwritten")
    };
    assert_eq!(wipe::lacks(chosen, &says), None);
    assert!(!matches!(chosen, Method::ZeroOut | Method::Discard));
    for method in Method::ALL {
        assert_eq!(
            wipe::choose(Some(method), &says).is_ok(),
            wipe::lacks(method, &says).is_none()
        );
    }
    let _ = wipe::described(&says);
    let text = String::from_utf8_lossy(answer);
    if let Ok(read) = Erasure::parse(Some(&text), Some(&text)) {
        panic!("no text is a method and a number: {read:?}")
    }
}
