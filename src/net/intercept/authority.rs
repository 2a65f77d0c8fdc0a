//! The certificate authority of a sandbox: its key is in this process alone, and it can vouch for the hosts of secrets alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::net::policy::Name;
use crate::net::secret::HostPattern;

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(86_400);
/// Longer than any sandbox runs.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long the certificate of a host is good, and from when on another one is made.
const LEAF_LIFE: Duration = Duration::from_secs(30 * 86_400);
const RENEWAL: Duration = Duration::from_secs(86_400);
/// Certificates kept. A sandbox may name as many hosts below `*.example.com` as it likes.
const KEPT: usize = 256;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The key of all hosts' certificates.
    key: KeyPair,
    made: Mutex<HashMap<Name, (Instant, Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// By the library that writes it.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// By the library that uses it.
    #[error("cannot use a certificate: {0}")]
    Key(#[from] rustls::Error),
}

impl Authority {
    /// A new one for these hosts, with a key of its own.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a HostPattern>) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("msb sandbox");
        (params.not_before, params.not_after) = valid(LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // RFC 5280 §4.2.1.10: a name permits all below it; each kind of names that is not mentioned would be free.
        let mut domains: Vec<&str> = hosts.into_iter().map(|host| host.domain().as_str()).collect();
        domains.sort_unstable();
        domains.dedup();
        let no_address = |bytes: usize| match bytes {
            4 => CidrSubnet::V4([0; 4], [0; 4]),
            _ => CidrSubnet::V6([0; 16], [0; 16]),
        };
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: domains
                .into_iter()
                .map(|name| GeneralSubtree::DnsName(name.into()))
                .collect(),
            excluded_subtrees: [4, 16].map(|bytes| GeneralSubtree::IpAddress(no_address(bytes))).into(),
        });
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            key: KeyPair::generate()?,
            made: Mutex::default(),
        })
    }

    /// Its certificate, as trust stores have it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for `host`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn certificate(&self, host: &Name) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, certificate)) = made.get(host)
            && at.elapsed() < RENEWAL
        {
            return Ok(Arc::clone(certificate));
        }
        let certificate = Arc::new(self.make(host)?);
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(host.clone(), (Instant::now(), Arc::clone(&certificate)));
        Ok(certificate)
    }

    fn make(&self, host: &Name) -> Result<CertifiedKey, AuthorityError> {
        let mut params = CertificateParams::new(vec![host.as_str().to_owned()])?;
        // Names may be longer than the 64 characters of a common name (RFC 5280, ub-common-name).
        params.distinguished_name = called("msb sandbox secret");
        (params.not_before, params.not_after) = valid(LEAF_LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = ring::default_provider().key_provider.load_private_key(key)?;
        Ok(CertifiedKey::new(vec![leaf.der().clone(), self.certificate.clone()], key))
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid<T: From<SystemTime>>(life: Duration) -> (T, T) {
    let now = SystemTime::now();
    ((now - SKEW).into(), (now + life).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    /// Whether a client that trusts the authority takes its certificate for `host`.
    fn is_taken(authority: &Authority, host: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let made = authority.certificate(&host.parse().unwrap()).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let now = UnixTime::now();
        verifier.verify_server_cert(&made.cert[0], &made.cert[1..], &name, &[], now).is_ok()
    }

    #[test]
    fn it_can_vouch_for_the_hosts_of_secrets_alone() {
        let hosts: Vec<HostPattern> =
            ["api.example.com", "*.example.org"].map(|host| host.parse().unwrap()).into();
        let authority = Authority::new(&hosts).unwrap();
        for host in ["api.example.com", "a.example.org", "a.b.example.org"] {
            assert!(is_taken(&authority, host), "{host}");
        }
        // Even whoever had its key could not use it for anybody else.
        for host in ["example.com", "www.example.com", "evilexample.org", "example.net"] {
            assert!(!is_taken(&authority, host), "{host}");
        }
    }

    #[test]
    fn certificates_are_kept_and_authorities_differ() {
        let hosts: Vec<HostPattern> = vec!["*.example.org".parse().unwrap()];
        let authority = Authority::new(&hosts).unwrap();
        let host: Name = "a.example.org".parse().unwrap();
        let first = authority.certificate(&host).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.certificate(&host).unwrap()));
        for number in 0..2 * KEPT {
            authority.certificate(&format!("h{number}.example.org").parse().unwrap()).unwrap();
        }
        assert!(authority.made.lock().unwrap().len() <= KEPT);
        assert_ne!(authority.pem(), Authority::new(&hosts).unwrap().pem());
    }
}
