//! The cryptography that TLS uses in this process.

use rustls::crypto::ring;

/// Says which cryptography rustls is to use where nobody says so, for it panics otherwise: two of our
/// dependencies bring one of their own each. May be called again and again.
pub fn install_crypto_provider() {
    // An error says that somebody has chosen before.
    let _ = ring::default_provider().install_default();
}
