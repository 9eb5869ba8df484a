//! TLS to a server, as libpq's `sslmode` and `sslrootcert` ask for it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Server;
use crate::error::{Error, Result};
use crate::model::SslMode;

impl Server {
    /// What makes TLS sessions to this server.
    ///
    /// # Errors
    /// Refused if the authorities cannot be read.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(ring::default_provider());
        // Read whatever the mode: a file that is named is to be there.
        let roots = match self.ssl_root_cert() {
            Some(path) => self.read_roots(path)?,
            None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        };
        let web_pki = || {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| Error::refused(format!("TLS cannot be set up: {error}")))
        };
        let verifier: Arc<dyn ServerCertVerifier> = match self.ssl_mode() {
            SslMode::Disable | SslMode::Prefer | SslMode::Require => {
                Arc::new(Verifier { authorities: None, provider: Arc::clone(&provider) })
            }
            SslMode::VerifyCa => Arc::new(Verifier {
                authorities: Some(web_pki()?),
                provider: Arc::clone(&provider),
            }),
            SslMode::VerifyFull => web_pki()?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::refused(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    /// The authorities in `sslrootcert`.
    fn read_roots(&self, path: &Path) -> Result<RootCertStore> {
        let bad = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::refused(format!(
                "cannot read {}, the sslrootcert of the {} URL: {error}",
                path.display(),
                self.side()
            ))
            .because(error)
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.into()))? {
            let certificate = certificate.map_err(|error| bad(error.into()))?;
            roots.add(certificate).map_err(|error| bad(error.into()))?;
        }
        if roots.is_empty() { Err(bad("it has no certificate".into())) } else { Ok(roots) }
    }
}

/// Looks at certificates less strictly than `verify-full` does.
#[derive(Debug)]
struct Verifier {
    /// Takes certificates of a trusted authority, whichever host they are for. `None`: takes any, and
    /// the session is encrypted, with whomever; SCRAM still binds the login to the certificate where
    /// the server offers that.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(verifier) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is the last thing that is looked at.
        match verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
