//! The cluster's authority: made once, then issues node certificates.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isobar_topology::{DcName, NodeId};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{Error, Files, PeerIdentity};

/// Ten years: replacing an authority touches every node.
const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A certificate is valid from an hour ago, for nodes whose clocks differ a little.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From now (less an hour, for clocks that differ) for this long.
    pub fn for_duration(duration: Duration) -> Validity {
        let now = OffsetDateTime::now_utc();
        Validity { not_before: now - CLOCK_SKEW, not_after: now + duration }
    }

    /// What [`Authority::issue`] gives a node: two years.
    pub fn of_node() -> Validity {
        Validity::for_duration(Duration::from_secs(2 * 365 * 86_400))
    }
}

/// A cluster's certificate authority, with its key.
pub struct Authority {
    cluster: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes `ca.pem` and `ca-key.pem` (0600) in `dir`; refuses to replace either.
    pub fn create(dir: &Path, cluster: &str) -> Result<Authority, Error> {
        fs::create_dir_all(dir).map_err(|source| io(dir, source))?;
        let key = KeyPair::generate()?;
        let params = authority_params(cluster, &key)?;
        let certificate = params.self_signed(&key)?;
        write_new(&Files::ca_key(dir), key.serialize_pem().as_bytes(), 0o600)?;
        write_new(&Files::ca(dir), certificate.pem().as_bytes(), 0o644)?;
        Ok(Authority { cluster: cluster.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The authority in `dir`, to issue another certificate.
    pub fn load(dir: &Path, cluster: &str) -> Result<Authority, Error> {
        let (ca, ca_key) = (Files::ca(dir), Files::ca_key(dir));
        let pem = fs::read_to_string(&ca).map_err(|source| io(&ca, source))?;
        let key_pem = fs::read_to_string(&ca_key).map_err(|source| io(&ca_key, source))?;
        let invalid = |path: &Path, what, error: rcgen::Error| Error::Invalid {
            path: path.to_owned(),
            what,
            detail: error.to_string(),
        };
        let key =
            KeyPair::from_pem(&key_pem).map_err(|error| invalid(&ca_key, "private key", error))?;
        let public = key.public_key_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|error| invalid(&ca, "certificate", error))?;
        if !super::identity::has_public_key(pem.as_bytes(), &public) {
            return Err(Error::KeyMismatch { key: ca_key, cert: ca });
        }
        Ok(Authority { cluster: cluster.to_owned(), issuer })
    }

    /// Loads the authority in `dir`, or makes it where there is none.
    pub fn load_or_create(dir: &Path, cluster: &str) -> Result<Authority, Error> {
        match Files::ca(dir).exists() {
            true => Authority::load(dir, cluster),
            false => Authority::create(dir, cluster),
        }
    }

    /// Makes, or replaces, `node-N.pem` and `node-N-key.pem` (0600) in `dir`.
    pub fn issue(&self, dir: &Path, dc: &DcName, node: NodeId) -> Result<Files, Error> {
        self.issue_for(dir, dc, node, Validity::of_node())
    }

    pub fn issue_for(
        &self,
        dir: &Path,
        dc: &DcName,
        node: NodeId,
        validity: Validity,
    ) -> Result<Files, Error> {
        fs::create_dir_all(dir).map_err(|source| io(dir, source))?;
        let name = PeerIdentity::new(&self.cluster, dc.clone(), node);
        let key = KeyPair::generate()?;
        let certificate = node_params(&name, validity)?.signed_by(&key, &self.issuer)?;
        let files = Files::of_node(dir, node);
        replace(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
        replace(&files.cert, certificate.pem().as_bytes(), 0o644)?;
        Ok(files)
    }
}

fn authority_params(cluster: &str, key: &KeyPair) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    // Two authorities of one cluster, an old and a new one, should not share a name: a chain to the wrong one
    // would be reported as a bad signature instead of an unknown issuer.
    let id = params.key_identifier(key);
    let id: String = id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = distinguished(&format!("Isobar {cluster} authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, Validity::for_duration(AUTHORITY_VALID));
    Ok(params)
}

fn node_params(name: &PeerIdentity, validity: Validity) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name =
        distinguished(&format!("Isobar {} node {}", name.cluster, name.node));
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(name.to_string())?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Each node both dials and listens.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, validity);
    Ok(params)
}

fn distinguished(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
        _ => io(path, source),
    })?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(|source| io(path, source))
}

/// By renaming, so that a node that polls never reads half a file. Key and certificate are two renames:
/// in between they do not match, and the node keeps what it has until they do.
fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(io(&temporary, source)),
        _ => {}
    }
    write_new(&temporary, contents, mode)?;
    fs::rename(&temporary, path).map_err(|source| io(path, source))
}
