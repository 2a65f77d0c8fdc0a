//! What makes the programs of a sandbox trust the certificate authority of its secrets.

use msb_guest::message::{FILES_DIR, TrustSetup};

use crate::agent::{BootDocument, GuestFile};

/// The authority's certificate alone, below [`FILES_DIR`].
const CERTIFICATE: &str = "ca.crt";
/// The image's own authorities and that one, below [`FILES_DIR`].
const BUNDLE: &str = "ca-bundle.crt";
/// Where images have the authorities they trust: Debian and Alpine, Fedora, SUSE, and the links that lead there.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// Variables that name a file of all authorities: of OpenSSL, Go and Rust, curl, Python, git, AWS, pip, cargo and Nix.
const OF_BUNDLE: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
];
/// Variables that name a file of further authorities: of Node.js and Deno, which have the usual ones built in.
const OF_CERTIFICATE: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Has the machine of `document` trust the authority with this certificate. Variables that are set stay; the files they name are
/// completed like the usual ones.
pub(super) fn add(document: &mut BootDocument, certificate: &str) {
    let mut bundles: Vec<String> = BUNDLES.map(str::to_owned).into();
    let of_certificate = OF_CERTIFICATE.map(|name| (name, CERTIFICATE));
    for (name, file) in OF_BUNDLE.map(|name| (name, BUNDLE)).into_iter().chain(of_certificate) {
        let set = document.env.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
        match set.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned()) {
            Some(path) if path.starts_with('/') => bundles.push(path),
            Some(_) => {}
            None => document.env.push((name.into(), format!("{FILES_DIR}/{file}").into())),
        }
    }
    document.files.push(GuestFile { path: CERTIFICATE.into(), mode: 0o444, contents: certificate.into() });
    document.trust = Some(TrustSetup { certificate: certificate.into(), bundle: BUNDLE.into(), bundles });
}
