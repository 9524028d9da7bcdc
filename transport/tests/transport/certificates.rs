use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use isobar_transport::certs::{Authority, Error, Files, Identity, Validity};

use crate::cluster::{CLUSTER, ECHO, Event, PATIENCE, dc, directory, id, introduce, issue, start};

fn load(files: Files) -> Result<Identity, Error> {
    Identity::load(files, CLUSTER, &dc("fra"), id(1))
}

#[test]
fn keys_are_for_their_owner_only_and_an_authority_is_not_replaced() {
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    authority.issue(&dir, &dc("fra"), id(1)).unwrap();
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca-key.pem"), mode("node-1-key.pem")), (0o600, 0o600));
    assert!(mode("ca.pem") & 0o444 == 0o444 && mode("node-1.pem") & 0o444 == 0o444);
    assert!(matches!(Authority::create(&dir, CLUSTER), Err(Error::Exists { .. })));
}

#[test]
fn an_authority_from_its_files_issues_certificates_that_it_trusts() {
    let dir = directory();
    Authority::create(&dir, CLUSTER).unwrap();
    let authority = Authority::load(&dir, CLUSTER).unwrap();
    let identity = issue(&authority, &dir, 1, "fra");
    assert_eq!(identity.name().to_string(), "spiffe://orders/dc/fra/node/1");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let (dir, other) = (directory(), directory());
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let foreign = Authority::create(&other, CLUSTER).unwrap();
    let files = || authority.issue(&dir, &dc("fra"), id(1)).unwrap();
    let expect = |files: Files, text: &str| {
        let error = load(files).err().expect(text).to_string();
        assert!(error.contains(text) && error.contains(".pem"), "{error:?} lacks {text:?}");
    };
    expect(Files { key: dir.join("none.pem"), ..files() }, "No such file");
    expect(Files { cert: dir.join("node-1-key.pem"), ..files() }, "holds no certificate");
    expect(Files { key: dir.join("node-1.pem"), ..files() }, "holds no private key");
    let two = authority.issue(&dir, &dc("fra"), id(2)).unwrap();
    expect(Files { key: two.key.clone(), ..files() }, "is not the private key of");
    expect(two, "belongs to node 2, this is node 1");
    expect(authority.issue(&dir, &dc("iad"), id(1)).unwrap(), "belongs to datacenter iad");
    let stranger = foreign.issue(&other, &dc("fra"), id(1)).unwrap();
    expect(Files { ca: dir.join("ca.pem"), ..stranger }, "not signed by any authority");
    let past = Validity::for_duration(Duration::ZERO);
    let past = Validity { not_after: past.not_before + Duration::from_secs(60), ..past };
    expect(authority.issue_for(&dir, &dc("fra"), id(1), past).unwrap(), "expired at");
    let future = Validity::for_duration(Duration::from_secs(7200));
    let future = Validity { not_before: future.not_before + Duration::from_secs(7200), ..future };
    expect(authority.issue_for(&dir, &dc("fra"), id(1), future).unwrap(), "not valid before");
    let error = Identity::load(files(), "stock", &dc("fra"), id(1)).err().unwrap();
    assert!(error.to_string().contains("belongs to cluster \"orders\""), "{error}");
    fs::write(
        dir.join("node-1.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    expect(Files::of_node(&dir, id(1)), "not an X.509 certificate");
}

/// From one authority to another while two nodes are connected: trust both, replace the certificates, trust
/// the new one only. No connection is dropped, and new ones use the new certificates.
#[tokio::test]
async fn replaced_certificates_are_used_without_dropping_a_connection() {
    let (dir, next) = (directory(), directory());
    let old = Authority::create(&dir, CLUSTER).unwrap();
    let new = Authority::create(&next, CLUSTER).unwrap();
    let mut nodes = vec![
        start(issue(&old, &dir, 1, "fra"), None).await,
        start(issue(&old, &dir, 2, "iad"), None).await,
    ];
    introduce(&nodes, |_, _| isobar_transport::LinkTuning::local());
    nodes[0].until_event(Event::Up(id(2))).await;
    nodes[1].until_event(Event::Up(id(1))).await;
    let reload = async |nodes: &[crate::cluster::Node], expected: bool| {
        for node in nodes {
            assert_eq!(node.transport.reload_identity().await.unwrap(), expected);
        }
    };
    reload(&nodes, false).await;

    let ca = |dir: &Path| fs::read_to_string(dir.join("ca.pem")).unwrap();
    fs::write(dir.join("ca.pem"), ca(&dir) + &ca(&next)).unwrap();
    reload(&nodes, true).await;
    new.issue(&dir, &dc("fra"), id(1)).unwrap();
    new.issue(&dir, &dc("iad"), id(2)).unwrap();
    reload(&nodes, true).await;
    fs::write(dir.join("ca.pem"), ca(&next)).unwrap();
    reload(&nodes, true).await;

    // The first call opens the RPC connection: with the old certificates it would be refused now.
    let answer = nodes[0].transport.call(id(2), ECHO, Bytes::from_static(b"x"), PATIENCE).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"x")));
    for node in &mut nodes {
        assert!(!node.happened().iter().any(|event| matches!(event, Event::Down(_))));
    }
}

#[tokio::test]
async fn certificates_that_do_not_load_change_nothing() {
    let dir = directory();
    let authority = Authority::create(&dir, CLUSTER).unwrap();
    let node = start(issue(&authority, &dir, 1, "fra"), None).await;
    let key = fs::read(dir.join("node-1-key.pem")).unwrap();
    authority.issue(&dir, &dc("fra"), id(1)).unwrap();
    let new_key = fs::read(dir.join("node-1-key.pem")).unwrap();
    // Half of a replacement: the new certificate with the old key.
    fs::write(dir.join("node-1-key.pem"), key).unwrap();
    let error = node.transport.reload_identity().await.err().unwrap();
    assert!(error.to_string().contains("is not the private key of"), "{error}");
    fs::write(dir.join("node-1-key.pem"), new_key).unwrap();
    assert!(node.transport.reload_identity().await.unwrap());
}
