//! The `[[ae]]` list: remote AEs, and what the archive has to know of them.

use std::time::Duration;

use filmroom_index::model::{DuplicatePolicy, RestoreTier};
use filmroom_scp::settings::{Peer, Service, Settings as DicomSettings};
use filmroom_tiering::archive::{Sender, Senders};

use super::source::Section;
use super::{Reader, ae_title, count, values};

impl Reader {
    /// All of them, in the order of the file.
    pub(super) fn peers(&mut self) -> Vec<Peer> {
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
                restore: self.of_ae(&mut entry, "restore", restore).unwrap_or(Some(RestoreTier::Expedited)),
                restore_budget_per_day: self.of_ae(&mut entry, "restore_budget_per_day", values::size),
                retrieve_wait: self.of_ae(&mut entry, "retrieve_wait", values::duration),
                deliver_later: self.of_ae(&mut entry, "deliver_later", deliver_later).flatten(),
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

    /// One key of an entry.
    pub(super) fn of_ae<T>(&mut self, entry: &mut Section, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let setting = entry.remove(key)?;
        self.parsed("ae", key, &setting, parse)
    }
}

/// What the archive has to know of the listed AEs.
pub(super) fn senders(dicom: &DicomSettings) -> Senders {
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

/// Host (name or address) and port.
pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let advice = || format!("{text:?} is not a host and port: write such as \"10.0.0.5:104\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(advice)?;
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(advice());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| advice())?))
}

fn duplicates(text: &str) -> Result<DuplicatePolicy, String> {
    match text {
        "correct" => Ok(DuplicatePolicy::Correct),
        "keep" => Ok(DuplicatePolicy::Keep),
        "reject" => Ok(DuplicatePolicy::Reject),
        _ => Err(format!("{text:?}: write \"correct\", \"keep\" or \"reject\"")),
    }
}

fn restore(text: &str) -> Result<Option<RestoreTier>, String> {
    match (text, RestoreTier::parse(text)) {
        ("no", _) => Ok(None),
        (_, Some(tier)) => Ok(Some(tier)),
        _ => Err(format!("{text:?}: write \"expedited\", \"standard\", \"bulk\" or \"no\"")),
    }
}

fn deliver_later(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => values::duration(text)
            .map(Some)
            .map_err(|problem| format!("{problem}, or \"never\"")),
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
