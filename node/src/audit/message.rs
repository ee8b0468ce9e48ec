//! Rows of the audit as messages of PS3.15 A.5: one row, one message, but for stores of a study, which are counted together.
//!
//! | action | event (PS3.15 A.5.3) |
//! |---|---|
//! | `start`, `stop` | Application Activity (110100) |
//! | `store` | DICOM Instances Transferred (110104), C; of the node's own files: Import (110107) |
//! | `find` | Query (110112) |
//! | `move-begun`, `get-begun` | Begin Transferring DICOM Instances (110102) |
//! | `move`, `get`, `send`, `deliver` | DICOM Instances Transferred (110104), R |
//! | `login` | User Authentication (110114), Login |
//! | `refuse` | Security Alert (110113): Node Authentication, or Use of Restricted Function where a patient's images were asked for |
//! | `discarded`, `deleted` | DICOM Instances Accessed (110103), D |
//! | `patient-merged`, `patient-unmerged` | Patient Record (110110), U |
//! | anything else that names a study | DICOM Instances Accessed (110103), U |
//! | anything else | Application Activity (110100) |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filmroom_index::catalogue::{AuditOutcome, AuditRecord};
use filmroom_index::model::transfer_syntax;
use time::OffsetDateTime;
use time::macros::format_description;

use super::xml::Xml;

mod parts;

use parts::{Code, Participant, patient, study};

/// What a message says of the node that writes it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The node's AE title
    pub(crate) ae_title: String,
    /// The machine's name
    pub(crate) host: String,
}

/// A message, and what syslog has to know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    /// The row of the audit, the last one where several are in it
    pub(crate) id: i64,
    /// When it happened, RFC 3339 in UTC
    pub(crate) at: String,
    /// Whether something failed
    pub(crate) failed: bool,
    /// The XML, on one line
    pub(crate) xml: String,
}

/// The messages of some rows. Stores of the same study from the same sender become one, where the first of them stands.
pub(crate) fn messages(rows: Vec<AuditRecord>, source: &Source) -> Vec<Message> {
    let mut merged: Vec<AuditRecord> = Vec::new();
    for row in rows.into_iter().map(bounded) {
        match merged.iter_mut().find(|earlier| same_store(earlier, &row)) {
            Some(earlier) => {
                earlier.id = row.id;
                earlier.instances += row.instances;
                earlier.detail = format!("{} instances", earlier.instances);
            }
            None => merged.push(row),
        }
    }
    merged.iter().map(|row| message(row, source)).collect()
}

/// Whether two rows tell of nothing but instances of one study that came from one sender.
fn same_store(one: &AuditRecord, other: &AuditRecord) -> bool {
    let plain = |row: &AuditRecord| {
        row.action == "store" && row.outcome == AuditOutcome::Success && row.detail == format!("{} instances", row.instances)
    };
    let key = |row: &AuditRecord| {
        let texts = [&row.actor, &row.user, &row.address, &row.patient_id, &row.study_uid];
        texts.map(String::clone)
    };
    plain(one) && plain(other) && key(one) == key(other)
}

/// Longest text but for the detail, in characters: whatever is in a row, its message fits a datagram.
const MAX_TEXT: usize = 256;

fn bounded(mut row: AuditRecord) -> AuditRecord {
    for text in [
        &mut row.actor,
        &mut row.user,
        &mut row.address,
        &mut row.destination,
        &mut row.patient_id,
        &mut row.sop_class,
    ] {
        if text.len() > MAX_TEXT {
            *text = text.chars().take(MAX_TEXT).collect();
        }
    }
    row
}

fn message(row: &AuditRecord, source: &Source) -> Message {
    let at = instant(row);
    let event = event(row, source);
    let mut xml = Xml::document();
    xml.element("AuditMessage", &[], |xml| {
        identification(xml, row, &event, &at);
        participants(row, source, event.kind).iter().for_each(|one| one.write(xml));
        let id = format!("{}@{}", source.ae_title, source.host);
        xml.element("AuditSourceIdentification", &[("AuditSourceID", &id)], |xml| {
            Code("4", "DCM", "Application Server").write(xml, "AuditSourceTypeCode");
        });
        objects(xml, row, event.kind);
    });
    Message {
        id: row.id,
        at,
        failed: row.outcome != AuditOutcome::Success,
        xml: xml.finish(),
    }
}

/// What kind of message a row becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Activity,
    Received,
    Imported,
    Query,
    Begun,
    Sent,
    Login,
    Alert,
    Accessed,
}

struct Event {
    kind: Kind,
    id: Code,
    action: &'static str,
    type_code: Option<Code>,
}

fn event(row: &AuditRecord, source: &Source) -> Event {
    let (kind, id, action, type_code) = match row.action.as_str() {
        "start" => (
            Kind::Activity,
            parts::ACTIVITY,
            "E",
            Some(Code("110120", "DCM", "Application Start")),
        ),
        "stop" => (
            Kind::Activity,
            parts::ACTIVITY,
            "E",
            Some(Code("110121", "DCM", "Application Stop")),
        ),
        "store" if row.actor == source.ae_title => (Kind::Imported, Code("110107", "DCM", "Import"), "C", None),
        "store" => (Kind::Received, parts::TRANSFERRED, "C", None),
        "find" => (Kind::Query, Code("110112", "DCM", "Query"), "E", None),
        "move-begun" | "get-begun" => (Kind::Begun, Code("110102", "DCM", "Begin Transferring DICOM Instances"), "E", None),
        "move" | "get" | "send" | "deliver" => (Kind::Sent, parts::TRANSFERRED, "R", None),
        "login" => {
            let login = Code("110122", "DCM", "Login");
            (Kind::Login, Code("110114", "DCM", "User Authentication"), "E", Some(login))
        }
        "refuse" => {
            let why = match row.destination.is_empty() {
                true => Code("110126", "DCM", "Node Authentication"),
                false => Code("110132", "DCM", "Use of Restricted Function"),
            };
            (Kind::Alert, Code("110113", "DCM", "Security Alert"), "E", Some(why))
        }
        "discarded" | "deleted" => (Kind::Accessed, parts::ACCESSED, "D", None),
        "patient-merged" | "patient-unmerged" => (Kind::Accessed, Code("110110", "DCM", "Patient Record"), "U", None),
        _ if !row.study_uid.is_empty() => (Kind::Accessed, parts::ACCESSED, "U", None),
        _ => (Kind::Activity, parts::ACTIVITY, "E", None),
    };
    Event {
        kind,
        id,
        action,
        type_code,
    }
}

fn identification(xml: &mut Xml, row: &AuditRecord, event: &Event, at: &str) {
    let outcome = row.outcome.indicator().to_string();
    let attributes = [
        ("EventActionCode", event.action),
        ("EventDateTime", at),
        ("EventOutcomeIndicator", &outcome),
    ];
    xml.element("EventIdentification", &attributes, |xml| {
        event.id.write(xml, "EventID");
        if let Some(code) = &event.type_code {
            code.write(xml, "EventTypeCode");
        }
        let described = match row.detail.as_str() {
            "" => row.action.clone(),
            detail => format!("{}: {detail}", row.action),
        };
        xml.element("EventOutcomeDescription", &[], |xml| xml.text(&described));
    });
}

/// Who took part, in the roles that A.5.3 requires of each event.
fn participants(row: &AuditRecord, source: &Source, kind: Kind) -> Vec<Participant> {
    let us = Participant::process(&source.ae_title, Some(("1", &source.host)));
    let network = (!row.address.is_empty()).then_some(("2", row.address.as_str()));
    let them = Participant::process(&row.actor, network);
    let mut all = match kind {
        Kind::Activity => vec![us.in_role(parts::APPLICATION), them.requesting().in_role(parts::LAUNCHER)],
        Kind::Received => vec![them.requesting().in_role(parts::SOURCE), us.in_role(parts::DESTINATION)],
        Kind::Imported => vec![
            us.requesting().in_role(parts::DESTINATION),
            Participant::process("files", None).on_media().in_role(parts::SOURCE_MEDIA),
        ],
        Kind::Query => vec![them.requesting().in_role(parts::SOURCE), us.in_role(parts::DESTINATION)],
        Kind::Begun | Kind::Sent => {
            let us = us.in_role(parts::SOURCE);
            if row.destination.is_empty() || row.destination == row.actor {
                vec![us, them.requesting().in_role(parts::DESTINATION)]
            } else {
                let destination = Participant::process(&row.destination, None).in_role(parts::DESTINATION);
                vec![us, destination, them.requesting()]
            }
        }
        Kind::Login if row.user.is_empty() => vec![them.requesting(), us],
        // The person is the first participant, at the device's address.
        Kind::Login => vec![Participant::person(&row.user, &row.actor, network), us],
        Kind::Alert => vec![us.requesting(), them],
        Kind::Accessed => vec![them.requesting(), us],
    };
    if !row.user.is_empty() && kind != Kind::Login {
        all.push(Participant::person(&row.user, &row.actor, network));
    }
    all
}

/// What it was done to.
fn objects(xml: &mut Xml, row: &AuditRecord, kind: Kind) {
    match kind {
        Kind::Activity | Kind::Login => {}
        Kind::Query => {
            query(xml, row);
            if !row.patient_id.is_empty() {
                patient(xml, &row.patient_id);
            }
        }
        Kind::Alert => {
            parts::subject(xml, &row.detail);
            if !row.study_uid.is_empty() {
                study(xml, &row.study_uid, 0);
            }
            if !row.patient_id.is_empty() {
                patient(xml, &row.patient_id);
            }
        }
        Kind::Received | Kind::Imported | Kind::Begun | Kind::Sent | Kind::Accessed => {
            for uid in row.study_uid.split('\\').filter(|uid| !uid.is_empty()) {
                study(xml, uid, row.instances);
            }
            patient(xml, &row.patient_id);
        }
    }
}

/// The SOP class and the identifier (A.5.3.10).
fn query(xml: &mut Xml, row: &AuditRecord) {
    let sop_class = if row.sop_class.is_empty() { "unknown" } else { &row.sop_class };
    let attributes = [
        ("ParticipantObjectID", sop_class),
        ("ParticipantObjectTypeCode", "2"),
        ("ParticipantObjectTypeCodeRole", "3"),
    ];
    xml.element("ParticipantObjectIdentification", &attributes, |xml| {
        Code("110181", "DCM", "SOP Class UID").write(xml, "ParticipantObjectIDTypeCode");
        xml.element("ParticipantObjectQuery", &[], |xml| xml.text(&STANDARD.encode(&row.query)));
        let syntax = STANDARD.encode(transfer_syntax::EXPLICIT_LITTLE);
        xml.empty("ParticipantObjectDetail", &[("type", "TransferSyntax"), ("value", &syntax)]);
    });
}

/// UTC with microseconds; a time that no calendar has is the epoch.
fn instant(row: &AuditRecord) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(row.at.0) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(format)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
