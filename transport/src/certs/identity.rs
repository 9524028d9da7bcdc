//! A node's own certificate, key and trusted authorities, loaded from files and checked whole.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isobar_topology::{DcName, NodeId};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, PeerIdentity, tls};

/// Larger files are not certificates. A bundle of a few authorities is a few KB.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// `ca.pem`, `node-N.pem` and `node-N-key.pem` of a directory.
    pub fn of_node(dir: &Path, node: NodeId) -> Files {
        Files {
            ca: Files::ca(dir),
            cert: dir.join(format!("node-{node}.pem")),
            key: dir.join(format!("node-{node}-key.pem")),
        }
    }

    pub(super) fn ca(dir: &Path) -> PathBuf {
        dir.join("ca.pem")
    }

    pub(super) fn ca_key(dir: &Path) -> PathBuf {
        dir.join("ca-key.pem")
    }
}

/// What a node proves itself with, and whom it believes.
#[derive(Clone)]
pub struct Identity {
    files: Files,
    stamp: Stamp,
    pub(super) name: PeerIdentity,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) certified: Arc<CertifiedKey>,
}

/// Tells a replaced file from the one that was read: device, inode, size, modification time in nanoseconds.
type Stamp = [(u64, u64, u64, i64, i64); 3];

impl Identity {
    /// Reads and checks the three files: what they name is this node of this cluster, they belong together,
    /// and they are valid now.
    pub fn load(files: Files, cluster: &str, dc: &DcName, node: NodeId) -> Result<Identity, Error> {
        let identity = Identity::read(files)?;
        identity.check(cluster, dc, node)?;
        Ok(identity)
    }

    pub(crate) fn check(&self, cluster: &str, dc: &DcName, node: NodeId) -> Result<(), Error> {
        let path = || self.files.cert.clone();
        if self.name.cluster.as_ref() != cluster {
            let found = self.name.cluster.to_string();
            return Err(Error::WrongCluster { path: path(), found, expected: cluster.to_owned() });
        }
        if self.name.node != node {
            return Err(Error::WrongNode { path: path(), found: self.name.node, expected: node });
        }
        if self.name.dc != *dc {
            let found = self.name.dc.clone();
            return Err(Error::WrongDc { path: path(), found, expected: dc.clone() });
        }
        Ok(())
    }

    /// The files as they are now, if they differ from what was loaded. An error leaves this identity as good
    /// as it was.
    pub fn reload_if_changed(&self) -> Result<Option<Identity>, Error> {
        if stamp(&self.files)? == self.stamp {
            return Ok(None);
        }
        let PeerIdentity { cluster, dc, node } = &self.name;
        Identity::load(self.files.clone(), cluster, dc, *node).map(Some)
    }

    pub fn name(&self) -> &PeerIdentity {
        &self.name
    }

    fn read(files: Files) -> Result<Identity, Error> {
        // Before the contents: a file that changes in between is read again at the next poll.
        let stamp = stamp(&files)?;
        let authorities = certificates(&files.ca)?;
        let chain = certificates(&files.cert)?;
        let key = private_key(&files.key)?;
        let leaf = chain.first().expect("certificates() returns at least one");
        let name = PeerIdentity::of_certificate(leaf)
            .map_err(|source| Error::Name { path: files.cert.clone(), source })?;
        check_validity(&files.cert, leaf)?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            check_validity(&files.ca, authority)?;
            roots
                .add(authority.clone())
                .map_err(|error| invalid(&files.ca, "authority", &error))?;
        }
        let certified = certified(&files, chain, key)?;
        tls::verify_chain(&certified.cert, &roots, UnixTime::now()).map_err(|error| {
            let (cert, ca) = (files.cert.clone(), files.ca.clone());
            Error::Untrusted { cert, ca, detail: error.to_string() }
        })?;
        let (roots, certified) = (Arc::new(roots), Arc::new(certified));
        Ok(Identity { files, stamp, name, roots, certified })
    }
}

/// Whether the first certificate of a PEM file has this public key.
pub(super) fn has_public_key(pem: &[u8], public: &[u8]) -> bool {
    let Some(Ok(der)) = CertificateDer::pem_slice_iter(pem).next() else { return false };
    X509Certificate::from_der(&der)
        .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == public)
}

fn certified(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|error| invalid(&files.key, "private key", &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::KeyMismatch { key: files.key.clone(), cert: files.cert.clone() })
        }
        Err(error) => Err(invalid(&files.cert, "certificate", &error)),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| invalid(path, "PEM file", &error))?;
    match certificates.is_empty() {
        true => Err(Error::Empty { path: path.to_owned(), what: "certificate" }),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read(path)?;
    if fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "this private key is readable by others; run: chmod 600");
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            Error::Empty { path: path.to_owned(), what: "private key" }
        }
        error => invalid(path, "private key", &error),
    })
}

fn check_validity(path: &Path, der: &[u8]) -> Result<(), Error> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| invalid(path, "certificate", &error))?;
    let now = UnixTime::now().as_secs() as i64;
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        let at = validity.not_before.to_string();
        return Err(Error::NotYetValid { path: path.to_owned(), at });
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::Expired { path: path.to_owned(), at: validity.not_after.to_string() });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > FILE_BYTES_MAX {
        let detail = format!("{bytes} bytes, expected at most {FILE_BYTES_MAX}");
        return Err(Error::Invalid { path: path.to_owned(), what: "PEM file", detail });
    }
    fs::read(path).map_err(io)
}

fn stamp(files: &Files) -> Result<Stamp, Error> {
    let of = |path: &Path| -> Result<_, io::Error> {
        let meta = fs::metadata(path)?;
        Ok((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    let named =
        |path: &Path| of(path).map_err(|source| Error::Io { path: path.to_owned(), source });
    Ok([named(&files.ca)?, named(&files.cert)?, named(&files.key)?])
}

fn invalid(path: &Path, what: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid { path: path.to_owned(), what, detail: error.to_string() }
}
