//! The configuration: one TOML file (`--config`, else `./filmroom.toml`, else built-in defaults) with environment variables over it, checked as a whole.
//! Whoever holds a [`Config`] holds settings that make sense together; whoever does not gets every problem at once, each with its place.

mod access;
pub(crate) mod ae;
mod audit;
mod bandwidth;
mod cold_archive;
mod commitment;
mod cost;
mod delete;
mod keys;
mod migration;
mod rules;
mod scrub;
mod source;
mod storage;
mod syntaxes;
pub(crate) mod tls;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use filmroom_index::catalogue::DeletionTerms;
use filmroom_index::model::{AeTitle, Availability};
use filmroom_scp::access::IdentityPolicy;
use filmroom_scp::migration::pace::Terms;
use filmroom_scp::settings::{Commitment, Settings as DicomSettings, Timers, UnknownAe};
use filmroom_tiering::Settings as ArchiveSettings;
use filmroom_tiering::cost::Prices;
use filmroom_tiering::integrity::ScrubSettings;

use source::{Origin, Setting, Source};
pub(crate) use syntaxes::CODEC;
pub(crate) use values::size;

/// Everything that the node needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that was read, if there was one
    pub(crate) file: Option<PathBuf>,
    /// What makes sense, and is unwise
    pub(crate) warnings: Vec<String>,
    /// DICOM
    pub(crate) dicom: DicomSettings,
    /// Hot and cold storage
    pub(crate) archive: ArchiveSettings,
    /// How what is kept is looked at again and again
    pub(crate) scrub: ScrubSettings,
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
    /// On what terms anything is deleted
    pub(crate) delete: DeletionTerms,
    /// What the cold store charges
    pub(crate) prices: Prices,
    /// How fast other archives are moved in from
    pub(crate) migration: Terms,
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
        let archive = self.archive(data_dir, ae::senders(&dicom));
        dicom.commitment = self.commitment(archive.cold.is_some());
        self.check_together(&archive);
        let mut warnings = Vec::new();
        self.check_clocks(&archive, &mut warnings);
        rules::warn(&archive, &mut warnings);
        Config {
            file: None,
            warnings,
            tls_files: std::mem::take(&mut self.tls_files),
            dicom,
            archive,
            scrub: self.scrub(),
            catalogue_url,
            http_listen: self.value("http", "listen", address, SocketAddr::from(([127, 0, 0, 1], 8080))),
            log: Log {
                json: self.value("log", "format", log_format, false),
                level: self.text("log", "level").unwrap_or_else(|| "info".to_owned()),
            },
            audit: self.audit(),
            delete: self.delete(),
            prices: self.prices(),
            migration: self.migration(),
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
            retrieve_wait: self.value("retrieve", "wait", values::duration, Duration::from_secs(300)),
            delivery_expire: self.value("delivery", "expire", values::duration, Duration::from_secs(7 * 86_400)),
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

fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "human" => Ok(false),
        "json" => Ok(true),
        _ => Err(format!("{text:?}: write \"human\" or \"json\"")),
    }
}

#[cfg(test)]
mod tests;
