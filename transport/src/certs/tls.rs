//! TLS 1.3 both ways: a chain to a trusted authority, and then the name in the certificate.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, RootCertStore, SignatureScheme,
};

use super::{ALPN, Identity, NameError, PeerIdentity};

/// Why a certificate of a trusted authority is refused all the same.
#[derive(Clone, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{name} is of another cluster, this is {ours:?}")]
    OtherCluster { name: PeerIdentity, ours: String },
    #[error("{name} is not in the topology")]
    UnknownNode { name: PeerIdentity },
    #[error("{name} is in datacenter {expected} by the topology")]
    OtherDc { name: PeerIdentity, expected: String },
    #[error("dialled {expected}, which answered as {name}")]
    OtherNode { name: PeerIdentity, expected: PeerIdentity },
}

/// rustls shows what it wraps by `Debug`, and that is what ends up in the log.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Decides on the name in a certificate whose chain is good.
pub(crate) type Accept = dyn Fn(&PeerIdentity) -> Result<(), Refusal> + Send + Sync;

/// For an incoming connection: any peer that `accept` knows.
pub(crate) fn server_config(
    identity: &Identity,
    accept: Arc<Accept>,
) -> Result<rustls::ServerConfig, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Arc::new(PeerVerifier { roots: identity.roots.clone(), chain, accept });
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver(identity));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificate, and 0-RTT data can be replayed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// For a dialled connection: exactly the peer that `accept` expects.
pub(crate) fn client_config(
    identity: &Identity,
    accept: Arc<Accept>,
) -> Result<rustls::ClientConfig, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Arc::new(PeerVerifier { roots: identity.roots.clone(), chain, accept });
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver(identity));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// The name behind a connection whose handshake is done.
pub(crate) fn peer_identity(connection: &quinn::Connection) -> Result<PeerIdentity, NameError> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .unwrap_or_default();
    let leaf = chain.first().ok_or_else(|| NameError::NotACertificate("none given".to_owned()))?;
    PeerIdentity::of_certificate(leaf)
}

pub(super) fn verify_chain(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(Error::NoCertificatesPresented);
    };
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms().all)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

fn resolver(identity: &Identity) -> Arc<SingleCertAndKey> {
    let CertifiedKey { cert, key, ocsp } = identity.certified.as_ref();
    let copy = CertifiedKey { cert: cert.clone(), key: key.clone(), ocsp: ocsp.clone() };
    Arc::new(SingleCertAndKey::from(copy))
}

/// Both roles: webpki checks the chain, we check the name. webpki has no notion of URI names, which is
/// why the server's side does not use its host name check.
struct PeerVerifier {
    roots: Arc<RootCertStore>,
    chain: Arc<dyn ClientCertVerifier>,
    accept: Arc<Accept>,
}

impl PeerVerifier {
    fn check_name(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let name = PeerIdentity::of_certificate(leaf).map_err(Refusal::from);
        name.and_then(|name| (self.accept)(&name)).map_err(|refusal| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
        })
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.chain.verify_client_cert(leaf, intermediates, now)?;
        self.check_name(leaf)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms().all,
        )?;
        self.check_name(leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").finish_non_exhaustive()
    }
}
