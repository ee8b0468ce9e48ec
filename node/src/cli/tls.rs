//! `filmroom tls`: a site's own CA, certificates for devices, and what is wrong with a connection, in words.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;
use filmroom_index::model::AeTitle;
use filmroom_scp::tls::probe::{Target, probe};
use filmroom_scp::tls::{Certificate, Identity};
use time::OffsetDateTime;

use crate::authority::{self, KeyKind, Subject};
use crate::config::Config;
use crate::config::ae::host_and_port;
use crate::config::tls::{CA, CERTIFICATE, FOLDER, KEY};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a CA and the node's certificate
    Init {
        /// Folder for the files [default: tls in the data directory]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A DNS name or IP address of the node, besides the machine's name and the loopback interface
        #[arg(long, value_name = "NAME")]
        san: Vec<String>,
        /// How long the node's certificate is good
        #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// A key on the curve P-256 instead of RSA
        #[arg(long)]
        ecdsa: bool,
    },
    /// Issue a certificate and its key for a device
    Issue {
        /// Name of the files; a name or address of the device is in the certificate as well
        name: String,
        /// AE title of the device: Common Name of the certificate
        #[arg(long, value_name = "TITLE")]
        ae: Option<String>,
        /// A further DNS name or IP address of the device
        #[arg(long, value_name = "NAME")]
        san: Vec<String>,
        /// How long it is good
        #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// A key on the curve P-256 instead of RSA
        #[arg(long)]
        ecdsa: bool,
        /// Write over files of that name
        #[arg(long)]
        replace: bool,
        /// Folder with the CA [default: tls in the data directory]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Connect as a DICOM peer would and say in words what happens
    Probe {
        /// HOST:PORT
        address: String,
        /// The name that the certificate must have [default: the host]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// CA file to trust [default: tls.ca or tls.client_ca]
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Show this certificate [default: tls.cert]
        #[arg(long, value_name = "FILE", requires = "key")]
        cert: Option<PathBuf>,
        /// Its key
        #[arg(long, value_name = "FILE", requires = "cert")]
        key: Option<PathBuf>,
        /// Show no certificate
        #[arg(long, conflicts_with = "cert")]
        anonymous: bool,
        /// AE title to call
        #[arg(long, default_value = "ANY-SCP", value_name = "TITLE")]
        called: String,
    },
}

/// Does one of them. What it needs of the configuration is less than what the node needs: the files that `[tls]` names may not be there yet.
pub(super) async fn run(config: Option<&Path>, command: Command) -> anyhow::Result<()> {
    let config = Config::load_before_certificates(config)?;
    let folder = |out: Option<PathBuf>| out.unwrap_or_else(|| config.archive.data_dir.join(FOLDER));
    let kind = |ecdsa| if ecdsa { KeyKind::Ecdsa } else { KeyKind::Rsa };
    match command {
        Command::Init { out, san, days, ecdsa } => {
            let subject = Subject {
                common_name: config.dicom.ae_title.as_str(),
                names: &names_of_the_node(san),
                days,
                key: kind(ecdsa),
            };
            init(&config, &folder(out), &subject)
        }
        Command::Issue {
            name,
            ae,
            san,
            days,
            ecdsa,
            replace,
            out,
        } => {
            let title = ae.as_deref().map(AeTitle::parse).transpose()?;
            let own = name == "node";
            let names = match own {
                true => names_of_the_node(san),
                false => std::iter::once(name.clone()).chain(san).collect(),
            };
            let own_title = own.then_some(&config.dicom.ae_title);
            let subject = Subject {
                common_name: title.as_ref().or(own_title).map_or(name.as_str(), AeTitle::as_str),
                names: &names,
                days,
                key: kind(ecdsa),
            };
            issue(&folder(out), &name, title.as_ref(), &subject, replace)
        }
        Command::Probe {
            address,
            name,
            ca,
            cert,
            key,
            anonymous,
            called,
        } => {
            let (host, port) = host_and_port(&address).map_err(anyhow::Error::msg)?;
            let given = cert.zip(key).map(|(certificate, key)| Identity { certificate, key });
            let target = Target {
                name: name.unwrap_or_else(|| host.clone()),
                host,
                port,
                ca: ca.or(config.tls_files.ca.clone()),
                identity: given.or_else(|| config.tls_files.identity.clone()).filter(|_| !anonymous),
                calling: config.dicom.ae_title.clone(),
                called: AeTitle::parse(&called)?,
                timers: config.dicom.timers,
            };
            explain(&target).await
        }
    }
}

fn init(config: &Config, folder: &Path, subject: &Subject<'_>) -> anyhow::Result<()> {
    let node = authority::init(folder, subject)?;
    println!("CA           {}   (give it to every device)", folder.join(CA).display());
    println!("certificate  {}   {}", node.certificate.display(), node.fingerprint);
    println!("names        {}", subject.names.join(", "));
    println!("\nto use it:\n\n[dicom]\ntls_listen = \"0.0.0.0:2762\"");
    if folder != config.archive.data_dir.join(FOLDER) {
        let at = |name: &str| folder.join(name).display().to_string();
        println!(
            "\n[tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}",
            at(CERTIFICATE),
            at(KEY),
            at(CA)
        );
    }
    println!("\na device's certificate: filmroom tls issue NAME --ae TITLE");
    Ok(())
}

fn issue(folder: &Path, name: &str, title: Option<&AeTitle>, subject: &Subject<'_>, replace: bool) -> anyhow::Result<()> {
    let made = authority::issue(folder, name, subject, replace)?;
    println!("certificate  {}   {}", made.certificate.display(), made.fingerprint);
    println!("key          {}", made.key.display());
    println!("CA           {}", folder.join(CA).display());
    if let Some(title) = title {
        println!(
            "\nto have {title} known by it:\n\n[[ae]]\ntitle = \"{title}\"\ncertificate = \"{}\"",
            made.fingerprint
        );
    }
    Ok(())
}

/// The names under which this machine can be reached, as far as it knows them.
fn names_of_the_node(more: Vec<String>) -> Vec<String> {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = vec![
        machine.trim().to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(more);
    names.retain(|name| !name.is_empty());
    names.dedup();
    names
}

async fn explain(target: &Target) -> anyhow::Result<()> {
    let report = probe(target).await.map_err(|problem| anyhow::anyhow!("{problem}"))?;
    for (number, certificate) in report.chain.iter().enumerate() {
        print_certificate(number, certificate);
    }
    for finding in &report.findings {
        println!("{}  {}", if finding.good { "ok  " } else { "FAIL" }, finding.words);
    }
    if report.findings.iter().any(|finding| !finding.good) {
        bail!("{}:{} cannot be talked to as it is", target.host, target.port);
    }
    Ok(())
}

fn print_certificate(number: usize, certificate: &Certificate) {
    let day = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "?".to_owned(), |moment| moment.date().to_string());
    let addresses = certificate.addresses.iter().map(ToString::to_string);
    let names: Vec<String> = certificate.dns_names.iter().cloned().chain(addresses).collect();
    println!("certificate {number}");
    println!("  subject      {}", certificate.subject);
    println!("  issuer       {}", certificate.issuer);
    println!(
        "  names        {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    println!("  valid        {} to {}", day(certificate.not_before), day(certificate.not_after));
    println!("  certificate = \"{}\"", certificate.fingerprint);
}
