//! What a configuration means, and what a wrong one is told.

use filmroom_scp::settings::Service;
use filmroom_tiering::cold::ColdLocation;

use super::*;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, std::iter::empty())
}

#[test]
fn without_a_file_the_node_listens_on_loopback_and_lets_any_ae_in() {
    let config = parse("").unwrap();
    assert_eq!(config.dicom.listen.unwrap().to_string(), "127.0.0.1:11112");
    assert_eq!(config.dicom.unknown_ae, UnknownAe::Allow);
    assert_eq!(config.catalogue_url, "sqlite:filmroom-data/catalogue.db");
    assert!(config.archive.cold.is_none());
}

#[test]
fn once_an_ae_is_listed_unknown_ones_are_rejected() {
    let config = parse("[[ae]]\ntitle = \"VIEWER1\"\naddress = \"10.0.0.5:104\"\nallow = [\"echo\", \"find\"]\n").unwrap();
    assert_eq!(config.dicom.unknown_ae, UnknownAe::Reject);
    let viewer = config.dicom.peers.first().unwrap();
    assert_eq!(viewer.address, Some(("10.0.0.5".to_owned(), 104)));
    assert!(config.dicom.allows(&viewer.title, Service::Find));
    assert!(!config.dicom.allows(&viewer.title, Service::Store));
}

#[test]
fn an_open_port_without_listed_aes_has_to_be_said() {
    let problems = parse("[dicom]\nlisten = \"0.0.0.0:104\"\n").unwrap_err();
    assert!(problems[0].contains("unknown_ae"), "{problems:?}");
    assert!(parse("[dicom]\nlisten = \"0.0.0.0:104\"\nunknown_ae = \"allow\"\n").is_ok());
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let problems =
        parse("[node]\nae_title = \"FAR TOO LONG FOR AN AE\"\n[hot]\nevict_after = \"soon\"\nhigh_watermark = 85\n").unwrap_err();
    let text = problems.join("\n");
    for part in [
        "line 2: node.ae_title",
        "line 4: hot.evict_after",
        "\"90d\"",
        "line 5: hot.high_watermark",
        "\"85%\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn watermarks_that_contradict_each_other_are_refused() {
    assert!(parse("[hot]\nhigh_watermark = \"50%\"\nlow_watermark = \"60%\"\n").is_err());
}

#[test]
fn a_cold_store_is_a_bucket_or_a_directory() {
    let config = parse("[cold]\nurl = \"s3://images/hospital-a/\"\nendpoint = \"http://127.0.0.1:9000\"\n").unwrap();
    match config.archive.cold.unwrap().location {
        ColdLocation::S3 {
            bucket, prefix, endpoint, ..
        } => {
            assert_eq!((bucket.as_str(), prefix.as_str()), ("images", "hospital-a"));
            assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        }
        other => panic!("{other:?}"),
    }
    assert!(parse("[cold]\nurl = \"ftp://x\"\n").unwrap_err()[0].contains("s3://bucket/prefix"));
}

#[test]
fn the_secret_key_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let text = format!(
        "[cold]\nurl = \"s3://b\"\naccess_key_id = \"AK\"\nsecret_access_key_file = {:?}\n",
        file
    );
    match parse(&text).unwrap().archive.cold.unwrap().location {
        ColdLocation::S3 { credentials, .. } => assert_eq!(credentials, Some(("AK".to_owned(), "s3cret".to_owned()))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_tls_lacks_is_told_with_its_line_and_what_to_write() {
    let listening = "[dicom]\ntls_listen = \"127.0.0.1:0\"\n";
    for (text, words) in [
        ("[dicom]\nlisten = \"off\"\n".to_owned(), "nobody could reach this node"),
        (listening.to_owned(), "`filmroom tls init` makes it"),
        (
            format!("{listening}[tls]\ncert = \"/nowhere.pem\"\nkey = \"/nowhere.key\"\n"),
            "line 4: tls.cert: /nowhere.pem: ",
        ),
        (
            format!("{listening}[tls]\ncert = \"/nowhere.pem\"\n"),
            "line 4: tls.cert and tls.key go together",
        ),
        (
            "[tls]\nclient_auth = \"maybe\"\n".to_owned(),
            "line 2: tls.client_auth: \"maybe\": write \"required\"",
        ),
        (
            format!("{listening}[tls]\nprofile = \"bcp195-non-downgrading\"\nclient_auth = \"none\"\n"),
            "write tls.client_auth = \"required\"",
        ),
        (
            "[[ae]]\ntitle = \"A\"\ntls_ca = \"/x.pem\"\n".to_owned(),
            "line 3: ae.tls_ca is for AEs",
        ),
        (
            "[[ae]]\ntitle = \"A\"\ntls = true\ntls_ca = \"/x.pem\"\n".to_owned(),
            "line 4: ae.tls_ca: /x.pem: ",
        ),
        (
            "[[ae]]\ntitle = \"A\"\ntls = true\n".to_owned(),
            "write tls.ca, or tls_ca in the [[ae]]",
        ),
        (
            "[[ae]]\ntitle = \"A\"\ncertificate = \"CN=A\"\n".to_owned(),
            "nobody is asked for a certificate here",
        ),
        (
            "[[ae]]\ntitle = \"A\"\ncertificate = \"A\"\n".to_owned(),
            "line 3: ae.certificate: \"A\": write a fingerprint",
        ),
    ] {
        let problems = parse(&text).unwrap_err().join("\n");
        assert!(problems.contains(words), "{text}{problems}");
    }
}
