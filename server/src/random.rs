//! Bytes that nobody can guess.

use coordinator::Error;

/// # Errors
/// When the host has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    access::random().map_err(|error| Error::Refused(error.to_string()))
}
