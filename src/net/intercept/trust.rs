//! Whom a host of secrets is believed to be.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Most bytes of a file with certificates.
const LARGEST: u64 = 8 << 20;

/// The certificate authorities of this machine, read when they are first needed, and those of a file. `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// of who starts the sandbox take the place of the machine's, as with OpenSSL.
#[derive(Debug, Default)]
pub struct Trust {
    more: Vec<CertificateDer<'static>>,
    roots: OnceLock<Arc<RootCertStore>>,
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates in {}: {reason}", path.display())]
pub struct TrustError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl TrustError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        "`ca` under [secrets] in config.toml names a PEM file with certificates of authorities".to_owned()
    }
}

impl Trust {
    /// This machine's, and those in the PEM file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or has no certificates, or something else for one.
    pub fn with_file(path: &Path) -> Result<Self, TrustError> {
        let unusable = |reason: String| TrustError { path: path.to_owned(), reason };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
        file.take(LARGEST).read_to_end(&mut text).map_err(|error| unusable(error.to_string()))?;
        let more: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        if more.is_empty() {
            return Err(unusable("there is no certificate in PEM form in it".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        more.iter()
            .try_for_each(|certificate| roots.add(certificate.clone()))
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { more, roots: OnceLock::new() })
    }

    /// These alone, for tests.
    #[cfg(test)]
    pub(super) fn in_these(roots: RootCertStore) -> Self {
        Self { more: Vec::new(), roots: OnceLock::from(Arc::new(roots)) }
    }

    /// How to speak TLS with a host.
    ///
    /// # Errors
    /// Never with the versions of TLS there are.
    pub(super) fn config(&self) -> io::Result<ClientConfig> {
        let roots = self.roots.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // What is no certificate is passed over; with none left every host is unverified, and says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(self.more.iter().cloned());
            Arc::new(roots)
        });
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        Ok(config.with_root_certificates(Arc::clone(roots)).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::intercept::Authority;

    #[test]
    fn a_file_adds_its_authorities_and_must_have_some() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let hosts = ["a.example".parse().unwrap()];
        let pem = Authority::new(&hosts).unwrap().pem().to_owned();
        std::fs::write(&path, format!("# ours\n{pem}{pem}")).unwrap();
        let trust = Trust::with_file(&path).unwrap();
        assert_eq!(trust.more.len(), 2);
        let ours = Trust { roots: OnceLock::new(), ..trust };
        ours.config().unwrap();
        let own = RootCertStore { roots: rustls_roots(&ours.more) };
        assert!(own.roots.iter().all(|root| ours.roots.get().unwrap().roots.contains(root)));
        for (text, reason) in [
            ("", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "section end"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Trust::with_file(&path).unwrap_err();
            assert!(error.to_string().contains("ca.pem: ") && error.reason.contains(reason), "{error}");
        }
        assert!(Trust::with_file(folder.path()).unwrap_err().reason.contains("directory"));
    }

    fn rustls_roots(
        certificates: &[CertificateDer<'static>],
    ) -> Vec<rustls::pki_types::TrustAnchor<'static>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        roots.roots
    }
}
