//! The nodes' certificates, the same for all seeds of a process. Signed with Ed25519, whose signatures are all of one
//! length: nothing that travels is longer in one run than in another.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use isobar_transport::PeerIdentity;
use isobar_transport::certs::{Files, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType,
};

use super::CLUSTER;
use crate::scenario::{NODES, dc_name, dc_of, node_id};

/// Where this process keeps them.
fn dir() -> PathBuf {
    std::env::temp_dir().join(format!("isobar-sim-{}", std::process::id()))
}

pub fn identity(node: usize) -> Identity {
    static ALL: OnceLock<Vec<Identity>> = OnceLock::new();
    ALL.get_or_init(|| make(&dir()).expect("certificates"))[node].clone()
}

/// At the end of the process.
pub fn clean() {
    // Where no seed ran QUIC there is nothing.
    let _ = std::fs::remove_dir_all(dir());
}

fn make(dir: &Path) -> Result<Vec<Identity>, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(dir)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = params("authority", 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let one = |node: usize| {
        let (dc, id) = (dc_name(dc_of(node)), node_id(node));
        let name = PeerIdentity::new(CLUSTER, dc.clone(), id).to_string();
        let mut params = self::params(&format!("node {id}"), 2 + node as u64);
        params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
        let (key, files) = (KeyPair::generate_for(&PKCS_ED25519)?, Files::of_node(dir, id));
        std::fs::write(&files.key, key.serialize_pem())?;
        std::fs::write(&files.cert, params.signed_by(&key, &issuer)?.pem())?;
        Ok(Identity::load(files, CLUSTER, &dc, id)?)
    };
    (0..NODES).map(one).collect()
}

fn params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial.into());
    params
}
