//! Whom a host of secrets is believed to be.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// The certificate authorities of this machine, read when they are first needed. `SSL_CERT_FILE` and `SSL_CERT_DIR` of who starts the
/// sandbox take their place, as with OpenSSL.
#[derive(Debug, Default)]
pub(super) struct Trust(OnceLock<Arc<RootCertStore>>);

impl Trust {
    /// These alone, for tests.
    #[cfg(test)]
    pub(super) fn in_these(roots: RootCertStore) -> Self {
        Self(OnceLock::from(Arc::new(roots)))
    }

    /// How to speak TLS with a host.
    ///
    /// # Errors
    /// Never with the versions of TLS there are.
    pub(super) fn config(&self) -> io::Result<ClientConfig> {
        let roots = self.0.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // What is no certificate is passed over; with none left every host is unverified, and says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        });
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        Ok(config.with_root_certificates(Arc::clone(roots)).with_no_client_auth())
    }
}
