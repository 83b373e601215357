//! Bytes that nobody can guess.

use std::io::Read;

use coordinator::Error;

/// # Errors
/// When the host has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut urandom| urandom.read_exact(&mut bytes))
        .map_err(|error| Error::Refused(format!("there are no random numbers: /dev/urandom: {error}")))?;
    Ok(bytes)
}
