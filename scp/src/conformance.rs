//! The tables of the conformance statement (PS3.2), made from what the code does, so that the statement cannot say otherwise.

use std::fmt::Write;

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, UidDictionary};
use dicom_dictionary_std::{StandardDataDictionary, StandardSopClassDictionary};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use filmroom_index::model::sop_class::NON_PATIENT_OBJECTS;
use filmroom_index::model::{Level, Uid};
use filmroom_index::query::attributes::{is_computed, is_matched, level};

use crate::dimse::{ANSWERS, StatusClass};
use crate::negotiate::syntaxes::{Purpose, choose, purpose, stored_syntaxes};

/// Every generated table by its name in the statement, as Markdown.
pub fn tables() -> Vec<(&'static str, String)> {
    vec![
        ("service SOP classes", service_classes()),
        ("storage SOP classes", storage_classes()),
        ("refused SOP classes", refused_classes()),
        ("transfer syntaxes", transfer_syntaxes()),
        ("keys", keys()),
        ("statuses", statuses()),
    ]
}

fn service_classes() -> String {
    let mut table = "| SOP class | UID | service |\n|---|---|---|\n".to_owned();
    for (uid, keyword) in dictionary() {
        let service = match purpose(&uid) {
            Purpose::Storage | Purpose::UnknownStorage | Purpose::Other => continue,
            served => format!("{served:?}"),
        };
        row(&mut table, &[keyword, uid.as_str(), &service]);
    }
    table
}

fn storage_classes() -> String {
    let mut table = "| SOP class | UID | deflated |\n|---|---|---|\n".to_owned();
    let deflated = [filmroom_index::model::transfer_syntax::DEFLATED].map(Uid::parse);
    let deflated: Vec<Uid> = deflated.into_iter().flatten().collect();
    for (uid, keyword) in dictionary().into_iter().filter(|(uid, _)| purpose(uid) == Purpose::Storage) {
        let taken = choose(&uid, Purpose::Storage, &deflated).is_some();
        row(&mut table, &[keyword, uid.as_str(), if taken { "yes" } else { "" }]);
    }
    table
}

fn refused_classes() -> String {
    let mut table = "| SOP class | UID |\n|---|---|\n".to_owned();
    for uid in NON_PATIENT_OBJECTS {
        let keyword = StandardSopClassDictionary.by_uid(uid).map_or("", |entry| entry.alias);
        row(&mut table, &[keyword, uid]);
    }
    table
}

fn transfer_syntaxes() -> String {
    let mut table = "| transfer syntax | UID | queries and retrieves |\n|---|---|---|\n".to_owned();
    let Ok(find) = Uid::parse("1.2.840.10008.5.1.4.1.2.2.1") else {
        return table;
    };
    for uid in stored_syntaxes() {
        let name = TransferSyntaxRegistry.get(uid.as_str()).map_or("", |syntax| syntax.name());
        let queries = choose(&find, Purpose::Find, std::slice::from_ref(&uid)).is_some();
        row(&mut table, &[name, uid.as_str(), if queries { "yes" } else { "" }]);
    }
    table
}

/// Attributes of the levels above IMAGE, and what is computed; everything else is of the IMAGE level.
fn keys() -> String {
    let mut table = "| key | attribute | VR | level | matched |\n|---|---|---|---|---|\n".to_owned();
    for at in [Level::Patient, Level::Study, Level::Series, Level::Image] {
        for tag in
            attributes().filter(|tag| level(*tag) == at && (at < Level::Image || is_computed(*tag) || is_matched(*tag, Level::Patient)))
        {
            let Some(entry) = StandardDataDictionary.by_tag(tag) else {
                continue;
            };
            let vr = entry.vr().relaxed().to_string();
            let matched = match (is_matched(tag, at), is_matched(tag, Level::Patient)) {
                (_, true) => "at every level",
                (true, false) => "at its level and below",
                (false, false) => "returned only",
            };
            row(&mut table, &[&tag.to_string(), entry.alias(), vr, at.as_str(), matched]);
        }
    }
    table
}

fn statuses() -> String {
    let mut table = "| service | status | class | when |\n|---|---|---|---|\n".to_owned();
    for (service, answers) in ANSWERS {
        for (status, when) in *answers {
            let class = match status.class() {
                StatusClass::Success => "Success",
                StatusClass::Warning => "Warning",
                StatusClass::Failure => "Failure",
                StatusClass::Cancel => "Cancel",
                StatusClass::Pending => "Pending",
            };
            row(&mut table, &[service.name(), &status.to_string(), class, when]);
        }
    }
    table
}

fn row(table: &mut String, cells: &[&str]) {
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

/// The attributes of the groups that the information models have keys in.
fn attributes() -> impl Iterator<Item = Tag> {
    const GROUPS: [u16; 9] = [0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4008];
    let tags = GROUPS
        .into_iter()
        .flat_map(|group| (1..=u16::MAX).map(move |element| Tag(group, element)));
    tags.filter(|tag| StandardDataDictionary.by_tag(*tag).is_some_and(|entry| entry.tag() == *tag))
}

/// The SOP classes of the dictionary with their keywords, in the order of their UIDs' numbers. The dictionary cannot be listed, only asked: these are
/// the arcs of the standard that have SOP classes, searched to well beyond where they end.
fn dictionary() -> Vec<(Uid, &'static str)> {
    let mut found = Vec::new();
    let mut ask = |text: String| {
        if let (Some(entry), Ok(uid)) = (StandardSopClassDictionary.by_uid(&text), Uid::parse(&text)) {
            found.push((uid, entry.alias));
        }
    };
    for arc in [
        "1.2.840.10008.1",
        "1.2.840.10008.1.20",
        "1.2.840.10008.5.1.1",
        "1.2.840.10008.5.1.1.4",
        "1.2.840.10008.5.1.4",
        "1.2.840.10008.5.1.4.1.1",
        "1.2.840.10008.5.1.4.1.2",
        "1.2.840.10008.5.1.4.34",
        "1.2.840.10008.5.1.4.39",
        "1.2.840.10008.5.1.4.43",
        "1.2.840.10008.5.1.4.44",
        "1.2.840.10008.5.1.4.45",
    ] {
        let last = if arc == "1.2.840.10008.5.1.4.1.1" { 700 } else { 60 };
        for n in 1..=last {
            ask(format!("{arc}.{n}"));
            for m in 1..=80 {
                ask(format!("{arc}.{n}.{m}"));
                if arc == "1.2.840.10008.5.1.4.1.1" {
                    (1..=8).for_each(|k| ask(format!("{arc}.{n}.{m}.{k}")));
                }
            }
        }
    }
    found.sort_by_key(|(uid, _)| uid.as_str().split('.').map(|n| n.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>());
    found.dedup();
    found
}
