//! A CA of a site's own, for sites that have none: `filmroom tls init` makes it with the node's certificate, `filmroom tls issue` a device's.
//!
//! Everything is a PEM file that its owner alone can read. The CA's key signs and nothing else: it can be kept elsewhere once the devices have theirs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use filmroom_scp::tls::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RsaKeySize,
};
use time::{Duration, OffsetDateTime};

use crate::config::tls::{CA, CERTIFICATE, KEY};

/// The CA's key, beside its certificate.
const CA_KEY: &str = "ca.key";
/// How long a CA is good, days.
const CA_DAYS: u32 = 3650;
/// Certificates begin this long before now: the clocks of devices are not set by the second.
const CLOCKS: Duration = Duration::hours(1);

/// The kind of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyKind {
    /// RSA of 3072 bits: the cipher suites that PS3.15 B.10 demands of everybody are those with RSA
    Rsa,
    /// The curve P-256
    Ecdsa,
}

/// Whom a certificate is for.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// Common Name
    pub(crate) common_name: &'a str,
    /// DNS names and IP addresses
    pub(crate) names: &'a [String],
    /// How long it is good, days
    pub(crate) days: u32,
    /// Its key
    pub(crate) key: KeyKind,
}

/// A certificate that was made.
#[derive(Debug)]
pub(crate) struct Issued {
    /// Its file
    pub(crate) certificate: PathBuf,
    /// Its key's file
    pub(crate) key: PathBuf,
    /// SHA-256 of it
    pub(crate) fingerprint: Fingerprint,
}

/// Makes a CA and the node's certificate in a folder that has neither.
pub(crate) fn init(folder: &Path, node: &Subject<'_>) -> anyhow::Result<Issued> {
    let files = [CA, CA_KEY, CERTIFICATE, KEY];
    if let Some(there) = files.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        bail!(
            "{} is there already: a new CA would make every certificate of the old one worthless. To renew the node's certificate: `filmroom tls issue \
             node --replace`",
            there.display()
        );
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| folder.display().to_string())?;
    let key = make_key(node.key)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("filmroom CA of {}", node.common_name));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, CA_DAYS);
    let certificate = params.self_signed(&key)?;
    write_pair(
        (&folder.join(CA_KEY), &key.serialize_pem()),
        (&folder.join(CA), &certificate.pem()),
        false,
    )?;
    issue(folder, "node", node, false)
}

/// Issues a certificate `<file>.pem` and its key `<file>.key` from the CA of a folder, into it.
pub(crate) fn issue(folder: &Path, file: &str, subject: &Subject<'_>, replace: bool) -> anyhow::Result<Issued> {
    if file.is_empty() || file.starts_with('.') || !file.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) || file == "ca" {
        bail!("{file:?} cannot be the name of a file of certificates here: letters, digits, dots and hyphens make one");
    }
    let (certificate, key) = (folder.join(format!("{file}.pem")), folder.join(format!("{file}.key")));
    if let Some(there) = [&certificate, &key].into_iter().find(|path| !replace && path.exists()) {
        bail!(
            "{} is there already: --replace writes a new certificate and key over it",
            there.display()
        );
    }
    let issuer = open(folder)?;
    let keys = make_key(subject.key)?;
    let mut params = CertificateParams::new(subject.names.to_vec()).context("a name that no certificate can have")?;
    params.distinguished_name.push(DnType::CommonName, subject.common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    // An AE is both: C-MOVE and storage commitment have the one that was called call back.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, subject.days);
    let made = params.signed_by(&keys, &issuer)?;
    write_pair((&key, &keys.serialize_pem()), (&certificate, &made.pem()), replace)?;
    Ok(Issued {
        certificate,
        key,
        fingerprint: Fingerprint::of(made.der()),
    })
}

/// The CA of a folder.
fn open(folder: &Path) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("{}: there is no CA here, `filmroom tls init` makes one", path.display()))
    };
    let (certificate, key) = (read(CA)?, read(CA_KEY)?);
    let key = KeyPair::from_pem(&key).with_context(|| folder.join(CA_KEY).display().to_string())?;
    Issuer::from_ca_cert_pem(&certificate, key).with_context(|| folder.join(CA).display().to_string())
}

fn make_key(kind: KeyKind) -> anyhow::Result<KeyPair> {
    Ok(match kind {
        KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    })
}

fn validity(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCKS;
    params.not_after = now + Duration::days(days.into());
}

/// Writes a key and its certificate, whole. Both are on the disk before either gets its name: a disk that is full does not part a new key from the
/// certificate before it.
fn write_pair(key: (&Path, &str), certificate: (&Path, &str), replace: bool) -> anyhow::Result<()> {
    let pair = [key, certificate];
    for (path, text) in pair {
        prepare(path, text)?;
    }
    for (path, _) in pair {
        if !replace && path.exists() {
            bail!("{} is there already", path.display());
        }
    }
    for (path, _) in pair {
        std::fs::rename(prepared(path), path).with_context(|| path.display().to_string())?;
    }
    for (path, _) in pair {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Where a file lies before it gets its name.
fn prepared(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.new", path.extension().and_then(|e| e.to_str()).unwrap_or_default()))
}

/// Writes what only its owner can read. What lies in its place, of a run that ended early or laid there by somebody, is removed: a file keeps the mode
/// that it was made with, a link leads elsewhere.
fn prepare(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = prepared(path);
    let place = || fresh.display().to_string();
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(place),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(place)?;
    file.write_all(text.as_bytes()).with_context(place)?;
    file.sync_all().with_context(place)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use filmroom_scp::tls::{Certificate, ClientAuth, Identity, Tls, TlsSettings};

    use super::*;

    fn subject<'a>(common_name: &'a str, names: &'a [String]) -> Subject<'a> {
        Subject {
            common_name,
            names,
            days: 30,
            key: KeyKind::Ecdsa,
        }
    }

    #[test]
    fn what_init_and_issue_make_comes_into_force_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tls");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let node = init(&folder, &subject("FILMROOM", &names)).unwrap();
        let ct = issue(&folder, "ct1", &subject("CT1", &names[..1]), false).unwrap();
        for made in [&node, &ct] {
            let settings = TlsSettings {
                identity: Some(Identity {
                    certificate: made.certificate.clone(),
                    key: made.key.clone(),
                }),
                client_ca: Some(folder.join(CA)),
                client_auth: ClientAuth::Required,
                ca: None,
                peer_cas: std::collections::BTreeSet::new(),
                inbound: true,
            };
            let own: Certificate = Tls::load(settings).unwrap().own_certificate().unwrap();
            assert_eq!(own.fingerprint, made.fingerprint);
            assert!(!own.authority);
            let left = own.not_after - OffsetDateTime::now_utc().unix_timestamp();
            assert!((29 * 86_400..=30 * 86_400).contains(&left), "{left}");
        }
        let files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 6);
        assert!(files.contains(&folder.join(CA_KEY)));
        for path in files {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_lies_where_a_key_is_written_first_gives_it_neither_its_mode_nor_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tls");
        std::fs::create_dir(&folder).unwrap();
        let (open, elsewhere) = (folder.join("ca.key.new"), dir.path().join("elsewhere"));
        std::fs::write(&open, "old").unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("node.key.new")).unwrap();
        let node = init(&folder, &subject("FILMROOM", &[])).unwrap();
        for key in [&folder.join(CA_KEY), &node.key] {
            assert!(std::fs::symlink_metadata(key).unwrap().is_file());
            assert_eq!(mode(key), 0o600, "{}", key.display());
            assert!(std::fs::read_to_string(key).unwrap().contains("PRIVATE KEY"));
        }
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4);
    }

    #[test]
    fn nothing_is_written_over_unless_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let node = init(dir.path(), &subject("FILMROOM", &[])).unwrap();
        assert!(
            init(dir.path(), &subject("FILMROOM", &[]))
                .unwrap_err()
                .to_string()
                .contains("--replace")
        );
        assert!(issue(dir.path(), "node", &subject("FILMROOM", &[]), false).is_err());
        let renewed = issue(dir.path(), "node", &subject("FILMROOM", &[]), true).unwrap();
        assert_ne!(renewed.fingerprint, node.fingerprint);
        for bad in ["", "../x", "ca", ".hidden", "a/b"] {
            assert!(issue(dir.path(), bad, &subject("X", &[]), true).is_err(), "{bad}");
        }
    }
}
