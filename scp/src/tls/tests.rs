//! Certificates as they are read and told apart, files as they are taken or refused, and failures in words.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{AlertDescription, CertificateError, Error};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A CA and a certificate of it for localhost, as files of a folder.
fn write(folder: &Path, common_name: &str) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned(), "10.0.0.5".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let own = params.signed_by(&key, &ca).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("node.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("node.key"), key.serialize_pem()).unwrap();
}

fn settings(folder: &Path) -> TlsSettings {
    TlsSettings {
        identity: Some(Identity {
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
        }),
        client_ca: Some(folder.join("ca.pem")),
        client_auth: ClientAuth::Required,
        ca: None,
        peer_cas: BTreeSet::new(),
        inbound: true,
    }
}

#[test]
fn an_ae_is_bound_to_a_fingerprint_or_to_a_name_that_a_ca_vouches_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "CT1");
    let own = Tls::load(settings(dir.path())).unwrap().own_certificate().unwrap();
    assert_eq!(own.common_name.as_deref(), Some("CT1"));
    assert_eq!(own.dns_names, ["localhost"]);
    assert_eq!(own.addresses, ["10.0.0.5".parse::<std::net::IpAddr>().unwrap()]);
    let written = own.fingerprint.to_string();
    let with_colons = written.trim_start_matches("sha256:").as_bytes().chunks(2);
    let with_colons: Vec<&str> = with_colons.map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    let with_colons = format!("SHA256:{}", with_colons.join(":").to_uppercase());
    for right in [written.as_str(), &with_colons, "DNS:LOCALHOST", "CN=CT1"] {
        assert!(Binding::parse(right).unwrap().matches(&own), "{right}");
    }
    let other = format!("sha256:{}", "0".repeat(64));
    for wrong in [other.as_str(), "DNS:ct1", "CN=ct1", "CN=localhost"] {
        assert!(!Binding::parse(wrong).unwrap().matches(&own), "{wrong}");
    }
    for none in ["", "CT1", "sha256:12", "sha256:zz", "DNS:", "é", "sha1:00"] {
        assert!(Binding::parse(none).unwrap_err().contains("sha256:"), "{none}");
    }
}

#[test]
fn files_that_do_not_go_together_leave_what_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "A");
    let tls = Tls::load(settings(dir.path())).unwrap();
    let before = tls.own_certificate().unwrap();
    assert!(!tls.files_changed());
    let key = std::fs::read_to_string(dir.path().join("node.key")).unwrap();
    write(dir.path(), "B");
    std::fs::write(dir.path().join("node.key"), key).unwrap();
    assert!(tls.files_changed());
    let problems = tls.reload().unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].role, FileRole::Key);
    assert!(tls.problem().unwrap().contains("is not the key of the first certificate"));
    assert_eq!(tls.own_certificate().unwrap(), before);
    assert!(!tls.files_changed(), "what was refused is not tried again before it changes");

    write(dir.path(), "C");
    tls.reload().unwrap();
    assert_eq!(tls.own_certificate().unwrap().common_name.as_deref(), Some("C"));
    assert_eq!(tls.problem(), None);
}

#[test]
fn each_file_that_is_none_is_named_with_what_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "A");
    let broken = |name: &str, content: &str| {
        let good = std::fs::read(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name), content).unwrap();
        let problem = Tls::load(settings(dir.path())).unwrap_err().remove(0).to_string();
        std::fs::write(dir.path().join(name), good).unwrap();
        problem
    };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, content, words) in [
        ("node.pem", "", "holds no certificate in PEM form"),
        (
            "node.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "is no X.509 certificate",
        ),
        ("node.key", "", "holds no private key"),
        ("node.key", encrypted, "passphrase"),
        ("ca.pem", "nothing", "holds no certificate"),
    ] {
        let problem = broken(name, content);
        assert!(problem.contains(name) && problem.contains(words), "{problem}");
    }
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(
        Tls::load(settings(dir.path())).unwrap_err()[0]
            .to_string()
            .starts_with("tls.client_ca: ")
    );
}

#[test]
fn failures_say_which_side_has_to_change_what() {
    let of = |error: Error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let unknown = of(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert!(Failure::inbound(&unknown).words.contains("tls.client_ca"));
    assert!(Failure::outbound(&unknown).words.contains("tls.ca"));
    let demanded = of(Error::AlertReceived(AlertDescription::CertificateRequired));
    assert!(Failure::outbound(&demanded).words.contains("demands a client certificate"));
    assert_eq!(Failure::late(&demanded).unwrap().kind, FailureKind::Refused);
    assert_eq!(Failure::late(&std::io::ErrorKind::ConnectionReset.into()), None);
    let old = of(Error::AlertReceived(AlertDescription::ProtocolVersion));
    assert_eq!(Failure::outbound(&old).kind, FailureKind::Version);
}

#[tokio::test]
async fn both_ends_see_each_others_certificate() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "A");
    let tls = Tls::load(settings(dir.path())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let how = PeerTls::default();
    let (accepted, connected) = tokio::join!(tls.accept(server), tls.connect(client, "localhost", &how));
    let own = tls.own_certificate().unwrap();
    assert_eq!(certificate_of(&accepted.unwrap()), Some(own.clone()));
    assert_eq!(certificate_of(&connected.unwrap()), Some(own));
}
