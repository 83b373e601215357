//! What servers of images say about them: headers of a reply, and files of digests.

use disk::image::outside;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let _ = outside::headers(text);
    match outside::digest_file(text, "debian.raw.zst") {
        Ok(digest) => assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())),
        Err(error) => assert!(error.to_string().len() < 2_000),
    }
}
