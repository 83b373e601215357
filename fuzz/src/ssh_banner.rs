//! What a server says that may speak SSH: a version that is found stays found, and what is said of it is short and printable.

use coordinator::answers::{Banner, MAX_BANNER_BYTES, ssh_banner};

pub(crate) fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_BANNER_BYTES)];
    let printable = |text: &str| text.chars().all(|letter| matches!(letter, ' '..='~'));
    let all = ssh_banner(bytes, false);
    match &all {
        Banner::Is(line) => assert!(line.starts_with("SSH-") && line.len() <= 255 && printable(line)),
        Banner::Not(why) => assert!(why.len() < 400 && printable(why)),
        Banner::Open => assert!(bytes.len() < MAX_BANNER_BYTES),
    }
    assert_ne!(ssh_banner(bytes, true), Banner::Open);
    let half = ssh_banner(&bytes[..bytes.len() / 2], false);
    assert!(half == Banner::Open || half == all);
}
