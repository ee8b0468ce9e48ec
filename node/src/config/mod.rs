//! The configuration: one TOML file (`--config`, else `./filmroom.toml`, else built-in defaults) with environment variables over it, checked as a whole.
//! Whoever holds a [`Config`] holds settings that make sense together; whoever does not gets every problem at once, each with its place.

mod access;
mod audit;
mod commitment;
mod source;
mod syntaxes;
pub(crate) mod tls;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use filmroom_index::model::{AeTitle, Availability, DuplicatePolicy};
use filmroom_scp::access::IdentityPolicy;
use filmroom_scp::settings::{Commitment, Peer, Service, Settings as DicomSettings, Timers, UnknownAe};
use filmroom_tiering::Settings as ArchiveSettings;
use filmroom_tiering::archive::{Sender, Senders};
use filmroom_tiering::cold::{ColdLocation, ColdSettings};

use source::{Origin, Section, Setting, Source};
pub(crate) use syntaxes::CODEC;

/// Everything that the node needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that was read, if there was one
    pub(crate) file: Option<PathBuf>,
    /// DICOM
    pub(crate) dicom: DicomSettings,
    /// Hot and cold storage
    pub(crate) archive: ArchiveSettings,
    /// URL of the catalogue's database
    pub(crate) catalogue_url: String,
    /// Where HTTP for operators is listened for
    pub(crate) http_listen: SocketAddr,
    /// The files of TLS that a command may use without the node
    pub(crate) tls_files: tls::Files,
    /// How log lines are written
    pub(crate) log: Log,
    /// Where the audit goes
    pub(crate) audit: crate::audit::Settings,
}

/// `[log]`
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// JSON lines instead of lines for people
    pub(crate) json: bool,
    /// A filter such as `info` or `filmroom_scp=debug,info`
    pub(crate) level: String,
}

/// Every problem of a configuration, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{file}:\n  {}", problems.join("\n  "))]
pub(crate) struct ConfigError {
    /// The file, or what stands for it
    pub(crate) file: String,
    /// What is wrong and what to write instead
    pub(crate) problems: Vec<String>,
}

impl Config {
    /// Reads and checks the configuration. A file that was asked for has to be there; `./filmroom.toml` need not.
    pub(crate) fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        Config::load_with(file, true)
    }

    /// The same for who makes certificates: the files that `[tls]` names need not be there yet.
    pub(crate) fn load_before_certificates(file: Option<&Path>) -> Result<Config, ConfigError> {
        Config::load_with(file, false)
    }

    fn load_with(file: Option<&Path>, reads_certificates: bool) -> Result<Config, ConfigError> {
        let default = Path::new("filmroom.toml");
        let chosen = file.or_else(|| default.exists().then_some(default));
        let name = chosen.map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
        let text = match chosen.map(std::fs::read_to_string).transpose() {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                return Err(ConfigError {
                    file: name,
                    problems: vec![error.to_string()],
                });
            }
        };
        let mut config =
            Config::parse_with(&text, std::env::vars(), reads_certificates).map_err(|problems| ConfigError { file: name, problems })?;
        config.file = chosen.map(Path::to_path_buf);
        Ok(config)
    }

    /// The same from text.
    #[cfg(test)]
    pub(crate) fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Config, Vec<String>> {
        Config::parse_with(text, environment, true)
    }

    fn parse_with(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
        reads_certificates: bool,
    ) -> Result<Config, Vec<String>> {
        let mut problems = Vec::new();
        let source = source::read(text, environment, &mut problems);
        let mut reader = Reader {
            source,
            problems,
            reads_certificates,
            tls_cas: BTreeMap::new(),
            tls_files: tls::Files::default(),
        };
        let config = reader.config();
        reader.problems.is_empty().then_some(config).ok_or(reader.problems)
    }
}

/// Takes values out of the source, collecting problems; where a value is wrong the default stands in, so that one pass finds all.
struct Reader {
    source: Source,
    problems: Vec<String>,
    /// Whether the files of `[tls]` are read
    reads_certificates: bool,
    /// Where each `ae.tls_ca` was written
    tls_cas: BTreeMap<PathBuf, Origin>,
    /// The files of TLS, once they are known
    tls_files: tls::Files,
}

impl Reader {
    fn config(&mut self) -> Config {
        let data_dir = PathBuf::from(self.text("node", "data_dir").unwrap_or_else(|| "filmroom-data".to_owned()));
        let catalogue_url = self
            .text("catalogue", "url")
            .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("catalogue.db").display()));
        let mut dicom = self.dicom(&data_dir);
        let archive = self.archive(data_dir, senders(&dicom));
        dicom.commitment = self.commitment(archive.cold.is_some());
        self.check_together(&archive);
        Config {
            file: None,
            tls_files: std::mem::take(&mut self.tls_files),
            dicom,
            archive,
            catalogue_url,
            http_listen: self.value("http", "listen", address, SocketAddr::from(([127, 0, 0, 1], 8080))),
            log: Log {
                json: self.value("log", "format", log_format, false),
                level: self.text("log", "level").unwrap_or_else(|| "info".to_owned()),
            },
            audit: self.audit(),
        }
    }

    fn dicom(&mut self, data_dir: &Path) -> DicomSettings {
        let peers = self.peers();
        let unknown = if peers.is_empty() { UnknownAe::Allow } else { UnknownAe::Reject };
        let unknown_is_said = self
            .source
            .sections
            .get("dicom")
            .is_some_and(|dicom| dicom.contains_key("unknown_ae"));
        let timers = Timers::default();
        let offline = self.value("cold", "deep_archive_is_offline", values::truth, false);
        let mut settings = DicomSettings {
            ae_title: self.value("node", "ae_title", ae_title, default_title()),
            aliases: self.list("dicom", "aliases", ae_title),
            check_called_ae: self.value("dicom", "check_called_ae", values::truth, true),
            listen: self.value("dicom", "listen", tls::listen, Some(SocketAddr::from(([127, 0, 0, 1], 11112)))),
            tls_listen: self.value("dicom", "tls_listen", tls::listen, None),
            tls: None,
            max_associations: self.value("dicom", "max_associations", |t| count(t, 1, 100_000), 200),
            unknown_ae: self.value("dicom", "unknown_ae", unknown_ae, unknown),
            accept_unknown_sop_classes: self.value("dicom", "accept_unknown_sop_classes", values::truth, true),
            peers,
            identity: self.value("dicom", "user_identity", access::identity_policy, IdentityPolicy::default()),
            users: self.users(),
            timers: Timers {
                artim: self.value("dicom", "artim_timeout", values::duration, timers.artim),
                idle: self.value("dicom", "idle_timeout", values::duration, timers.idle),
                read: self.value("dicom", "read_timeout", values::duration, timers.read),
                write: self.value("dicom", "write_timeout", values::duration, timers.write),
                connect: self.value("dicom", "connect_timeout", values::duration, timers.connect),
            },
            max_pdu: self.value("dicom", "max_pdu", max_pdu, 131_072),
            find_cap: self.value("dicom", "find_max_answers", |t| count(t, 1, 1_000_000), 10_000),
            find_limit: self.value("dicom", "find_timeout", values::duration, Duration::from_secs(20)),
            pending_interval: self.value("retrieve", "pending_interval", values::duration, Duration::from_secs(5)),
            deep_archive: if offline { Availability::Offline } else { Availability::Nearline },
            codec: Some(syntaxes::codec()),
            commitment: Commitment::default(),
        };
        for (key, listen) in [("listen", settings.listen), ("tls_listen", settings.tls_listen)] {
            let open = listen.filter(|listen| !listen.ip().is_loopback());
            if let Some(listen) = open.filter(|_| settings.peers.is_empty() && !unknown_is_said) {
                self.problems.push(format!(
                    "dicom.{key} = \"{listen}\" is open to the network while any AE may store, query and retrieve: list remote AEs as [[ae]], or say \
                     so with dicom.unknown_ae = \"allow\""
                ));
            }
        }
        self.check_access(&settings);
        if settings.listen.is_none() && settings.tls_listen.is_none() {
            self.problems
                .push("dicom.listen = \"off\" without dicom.tls_listen: nobody could reach this node".to_owned());
        }
        settings.tls = self.tls(data_dir, &settings);
        settings
    }

    fn archive(&mut self, data_dir: PathBuf, senders: Senders) -> ArchiveSettings {
        ArchiveSettings {
            data_dir,
            reserve: self.value("hot", "reserve", values::size, 1_000_000_000),
            high_watermark: self.value("hot", "high_watermark", values::percent, 0.85),
            low_watermark: self.value("hot", "low_watermark", values::percent, 0.75),
            evict_after: self.value("hot", "evict_after", values::duration, Duration::from_secs(180 * 86_400)),
            recall_budget: self.value("hot", "recall_budget", values::size, 50_000_000_000),
            senders,
            cold: self.cold(),
            offload_after: self.value("cold", "offload_after", values::duration, Duration::from_secs(3600)),
            mover_interval: self.value("cold", "check_interval", values::duration, Duration::from_secs(60)),
        }
    }

    fn cold(&mut self) -> Option<ColdSettings> {
        let endpoint = self.text("cold", "endpoint");
        let region = self.text("cold", "region");
        let kms_key = self.text("cold", "kms_key");
        let credentials = self.credentials();
        let timeout = self.value("cold", "timeout", values::duration, Duration::from_secs(30));
        let attempts = self.value("cold", "attempts", |t| count(t, 1, 100), 4);
        let setting = self.take("cold", "url")?;
        let location = match cold_location(&first(&setting)) {
            Ok(ColdLocation::S3 { bucket, prefix, .. }) => {
                let region = region.unwrap_or_else(|| "us-east-1".to_owned());
                ColdLocation::S3 {
                    bucket,
                    prefix,
                    endpoint,
                    region,
                    kms_key,
                    credentials,
                }
            }
            Ok(directory) => directory,
            Err(problem) => {
                self.problems.push(format!("{}: cold.url: {problem}", setting.origin));
                return None;
            }
        };
        Some(ColdSettings {
            location,
            timeout,
            attempts: u32::try_from(attempts).unwrap_or(4),
        })
    }

    /// The secret lies in a file of its own, never in the TOML.
    fn credentials(&mut self) -> Option<(String, String)> {
        let id = self.text("cold", "access_key_id");
        let file = self.take("cold", "secret_access_key_file");
        match (id, file) {
            (None, None) => None,
            (Some(id), Some(file)) => match std::fs::read_to_string(first(&file)) {
                Ok(secret) => Some((id, secret.trim().to_owned())),
                Err(error) => {
                    self.problems
                        .push(format!("{}: cold.secret_access_key_file: {}: {error}", file.origin, first(&file)));
                    None
                }
            },
            _ => {
                self.problems
                    .push("cold.access_key_id and cold.secret_access_key_file go together: write both or none".to_owned());
                None
            }
        }
    }

    fn peers(&mut self) -> Vec<Peer> {
        let entries = std::mem::take(&mut self.source.aes);
        let mut peers: Vec<Peer> = Vec::new();
        for (line, mut entry) in entries {
            let Some(title) = self.of_ae(&mut entry, "title", ae_title) else {
                self.problems.push(format!("line {line}: this [[ae]] needs a title"));
                continue;
            };
            if peers.iter().any(|peer| peer.title == title) {
                self.problems.push(format!(
                    "line {line}: {title} is listed twice: merge the two [[ae]], `from` is a list"
                ));
            }
            let (tls, certificates) = self.peer_tls(&mut entry);
            peers.push(Peer {
                title,
                tls,
                certificates,
                address: self.of_ae(&mut entry, "address", host_and_port),
                from: self.networks(&mut entry),
                allow: self.allow(&mut entry),
                destinations: self.destinations(&mut entry),
                users: self.users_of_ae(&mut entry),
                duplicates: self.of_ae(&mut entry, "duplicates", duplicates).unwrap_or_default(),
                issuer_of_patient_id: self.of_ae(&mut entry, "issuer_of_patient_id", |t| Ok(t.to_owned())),
                partial_series: self.of_ae(&mut entry, "partial_series", values::truth).unwrap_or(false),
                may_reject: self.of_ae(&mut entry, "may_reject", values::truth).unwrap_or(false),
                transfer_syntaxes: self.transfer_syntaxes(&mut entry),
                max_associations: self.of_ae(&mut entry, "max_associations", |t| count(t, 1, 1000)).unwrap_or(4),
            });
        }
        peers
    }

    fn allow(&mut self, entry: &mut Section) -> Vec<Service> {
        let Some(setting) = entry.remove("allow") else {
            return Service::ALL.to_vec();
        };
        let mut allowed = Vec::new();
        for word in &setting.values {
            match service(word) {
                Ok(service) => allowed.push(service),
                Err(problem) => self.problems.push(format!("{}: ae.allow: {problem}", setting.origin)),
            }
        }
        allowed
    }

    fn of_ae<T>(&mut self, entry: &mut Section, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let setting = entry.remove(key)?;
        self.parsed("ae", key, &setting, parse)
    }

    fn check_together(&mut self, archive: &ArchiveSettings) {
        if archive.low_watermark > archive.high_watermark {
            self.problems
                .push("hot.low_watermark is above hot.high_watermark: eviction would never end".to_owned());
        }
    }

    fn take(&mut self, section: &str, key: &str) -> Option<Setting> {
        self.source.sections.get_mut(section)?.remove(key)
    }

    fn text(&mut self, section: &str, key: &str) -> Option<String> {
        self.take(section, key).map(|setting| first(&setting))
    }

    fn value<T>(&mut self, section: &str, key: &str, parse: impl Fn(&str) -> Result<T, String>, default: T) -> T {
        let Some(setting) = self.take(section, key) else { return default };
        self.parsed(section, key, &setting, parse).unwrap_or(default)
    }

    fn list<T>(&mut self, section: &str, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(setting) = self.take(section, key) else {
            return Vec::new();
        };
        let mut list = Vec::new();
        for value in &setting.values {
            let one = Setting {
                values: vec![value.clone()],
                origin: setting.origin.clone(),
            };
            list.extend(self.parsed(section, key, &one, &parse));
        }
        list
    }

    fn parsed<T>(&mut self, section: &str, key: &str, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let result = match setting.values.as_slice() {
            [value] => parse(value),
            _ => Err("takes one value, not a list".to_owned()),
        };
        result
            .map_err(|problem| self.problems.push(format!("{}: {section}.{key}: {problem}", setting.origin)))
            .ok()
    }
}

/// What the archive has to know of the listed AEs.
fn senders(dicom: &DicomSettings) -> Senders {
    let of = |peer: &Peer| Sender {
        source: peer.title.clone(),
        default_issuer: peer.issuer_of_patient_id.clone(),
        duplicates: peer.duplicates,
    };
    let own = Sender {
        source: dicom.ae_title.clone(),
        default_issuer: None,
        duplicates: DuplicatePolicy::default(),
    };
    Senders {
        own,
        listed: dicom.peers.iter().map(of).collect(),
        may_reject: dicom
            .peers
            .iter()
            .filter(|peer| peer.may_reject)
            .map(|peer| peer.title.clone())
            .collect(),
    }
}

fn first(setting: &Setting) -> String {
    setting.values.first().cloned().unwrap_or_default()
}

#[expect(clippy::expect_used, reason = "a literal that is an AE title")]
fn default_title() -> AeTitle {
    AeTitle::parse("FILMROOM").expect("FILMROOM is an AE title")
}

fn ae_title(text: &str) -> Result<AeTitle, String> {
    AeTitle::parse(text).map_err(|error| error.to_string())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    SocketAddr::from_str(text).map_err(|_| format!("{text:?} is not an address and port: write such as \"127.0.0.1:11112\""))
}

pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let advice = || format!("{text:?} is not a host and port: write such as \"10.0.0.5:104\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(advice)?;
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(advice());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| advice())?))
}

fn count(text: &str, least: u64, most: u64) -> Result<usize, String> {
    values::number(text, least, most).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

fn max_pdu(text: &str) -> Result<u32, String> {
    values::number(text, 4096, 1 << 20).map(|n| u32::try_from(n).unwrap_or(131_072))
}

fn unknown_ae(text: &str) -> Result<UnknownAe, String> {
    match text {
        "reject" => Ok(UnknownAe::Reject),
        "store" => Ok(UnknownAe::Store),
        "allow" => Ok(UnknownAe::Allow),
        _ => Err(format!("{text:?}: write \"reject\", \"store\" or \"allow\"")),
    }
}

fn duplicates(text: &str) -> Result<DuplicatePolicy, String> {
    match text {
        "correct" => Ok(DuplicatePolicy::Correct),
        "keep" => Ok(DuplicatePolicy::Keep),
        "reject" => Ok(DuplicatePolicy::Reject),
        _ => Err(format!("{text:?}: write \"correct\", \"keep\" or \"reject\"")),
    }
}

fn service(text: &str) -> Result<Service, String> {
    match text {
        "echo" => Ok(Service::Echo),
        "store" => Ok(Service::Store),
        "find" => Ok(Service::Find),
        "move" => Ok(Service::Move),
        "get" => Ok(Service::Get),
        "commit" => Ok(Service::Commit),
        _ => Err(format!(
            "{text:?}: write any of \"echo\", \"store\", \"find\", \"move\", \"get\", \"commit\""
        )),
    }
}

fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "human" => Ok(false),
        "json" => Ok(true),
        _ => Err(format!("{text:?}: write \"human\" or \"json\"")),
    }
}

fn cold_location(url: &str) -> Result<ColdLocation, String> {
    let advice = || format!("{url:?} is no cold store: write \"s3://bucket/prefix\" or \"file:///mnt/nas/archive\"");
    if let Some(path) = url.strip_prefix("file://") {
        return if path.starts_with('/') {
            Ok(ColdLocation::Directory(PathBuf::from(path)))
        } else {
            Err(advice())
        };
    }
    let rest = url.strip_prefix("s3://").ok_or_else(advice)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(advice());
    }
    Ok(ColdLocation::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.trim_matches('/').to_owned(),
        endpoint: None,
        region: String::new(),
        kms_key: None,
        credentials: None,
    })
}

#[cfg(test)]
mod tests;
