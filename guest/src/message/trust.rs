//! A certificate authority that the programs of a guest are to trust.

use super::ByteString;
use serde::{Deserialize, Serialize};

/// The authority, and where programs look for those they trust. Nothing of it reaches the writable disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrustSetup {
    /// Its certificate, PEM (RFC 7468).
    pub certificate: ByteString,
    /// Name below [`FILES_DIR`](super::FILES_DIR) of a file that is to have the image's authorities and this one.
    pub bundle: String,
    /// Files of authorities that are completed where they exist.
    pub bundles: Vec<String>,
}
