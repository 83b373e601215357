//! The certificate authority of a server: one file beside its store, and certificates that are made anew at each start.
//!
//! The file is written once, in full or not at all. Neither its certificate nor those that it signs ever expire: what is
//! trusted is the authority that a token names, and a date would only be a day on which nobody gets in.
//! Source: RFC 5280 section 4.1.2.5 (99991231 is "no well-defined expiration date").

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::pinned::SERVER_NAME;
use crate::private_file::{self, NotPrivate};
use crate::token::Pin;

/// Read of a file: an authority has some hundred.
const MAX_BYTES: u64 = 64 << 10;

/// A server's certificate authority.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// What a server shows its clients, in PEM.
pub struct Identity {
    /// Its certificate, then the authority's.
    pub chain: String,
    /// Its private key.
    pub key: String,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{} cannot be read or written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} may be read by others (mode {mode:o}), and who reads it can pose as this server: `chmod 600` it, and have new \
         tokens made if somebody did", path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{} is no certificate authority of a server: {why}; put it back from a backup, or delete it to get another, which no \
         token made so far leads to", path.display()
    )]
    Damaged { path: PathBuf, why: String },
}

impl Authority {
    /// Reads the authority in `path`, or makes one there.
    ///
    /// # Errors
    /// When the file cannot be read or written, is damaged, or may be read by others.
    pub fn open(path: &Path) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::File {
            path: path.to_owned(),
            source,
        };
        let damaged = |why| AuthorityError::Damaged {
            path: path.to_owned(),
            why,
        };
        match private_file::read(path, MAX_BYTES) {
            Ok(Some(text)) => Self::read(&text).map_err(damaged),
            Ok(None) => {
                let (made, text) = Self::make().map_err(|error| failed(io::Error::other(error)))?;
                private_file::write_new(path, &text).map_err(failed)?;
                Ok(made)
            }
            Err(NotPrivate::Open(mode)) => Err(AuthorityError::Open {
                path: path.to_owned(),
                mode,
            }),
            Err(error @ NotPrivate::NoFile) => Err(damaged(error.to_string())),
            Err(NotPrivate::Io(source)) => Err(failed(source)),
        }
    }

    /// What tokens name it by.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }

    /// A new key and certificate for a server of this authority.
    ///
    /// # Errors
    /// When the host has no random numbers.
    pub fn identity(&self) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params("farrier server");
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(own_params(), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Identity {
            chain: format!("{}{}", certificate.pem(), pem(&self.certificate)),
            key: key.serialize_pem(),
        })
    }

    fn make() -> Result<(Self, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = own_params().self_signed(&key)?;
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        let certificate = certificate.der().clone();
        Ok((Self { key, certificate }, text))
    }

    fn read(text: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(text).map_err(|error| format!("it has no private key ({error})"))?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|error| format!("it has no certificate ({error})"))?;
        Ok(Self { key, certificate })
    }
}

/// Of the authority itself: the same each time, so that what it signs names it rightly.
fn own_params() -> CertificateParams {
    let mut params = params("farrier certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A host whose clock is not set yet serves, too.
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let base64 = data_encoding::BASE64.encode(certificate);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_stays_the_same() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("authority.pem");
        let made = Authority::open(&path).unwrap();
        let again = Authority::open(&path).unwrap();
        assert_eq!(made.pin(), again.pin());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = Authority::open(&dir.path().join("other.pem")).unwrap();
        assert_ne!(made.pin(), other.pin());
    }

    #[test]
    fn one_that_others_may_read_or_that_is_damaged_is_refused_in_words() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("authority.pem");
        Authority::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::open(&path).err().unwrap().to_string();
        assert!(
            error.contains("mode 640") && error.contains("chmod 600"),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAA==\n").unwrap();
        let error = Authority::open(&path).err().unwrap().to_string();
        assert!(
            error.contains("no certificate authority") && error.contains("backup"),
            "{error}"
        );
    }
}
