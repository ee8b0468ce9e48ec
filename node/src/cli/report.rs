//! Commands that only look: they read the catalogue, so they work while the node runs and while it does not.

use anyhow::{Context, bail};
use filmroom_index::catalogue::{Catalogue, FindingKind, Quarantined};
use filmroom_index::model::{NodeId, Timestamp};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::scrub;
use crate::audit;
use crate::config::Config;

/// Quarantined objects that one listing shows.
const LISTED: u32 = 1000;

pub(super) async fn open(config: &Config) -> anyhow::Result<(Catalogue, NodeId)> {
    let data_dir = &config.archive.data_dir;
    let Some(node) = filmroom_tiering::node_of(data_dir)? else {
        bail!(
            "{}: no node has ever run here: start one with `filmroom serve`, or name its configuration with --config",
            data_dir.display()
        );
    };
    let catalogue = Catalogue::open(&config.catalogue_url).await.context("catalogue.url")?;
    Ok((catalogue, node))
}

/// `filmroom status`
pub(crate) async fn status(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, node) = open(config).await?;
    let counts = catalogue.counts(node).await?;
    let deliveries = catalogue.delivery_counts().await?;
    let spools = audit::lag(&catalogue).await?;
    let scrubs = catalogue.scrubs(node).await?;
    let findings = catalogue.findings_open(node).await?;
    let (adopted, adopted_bytes) = catalogue.foreign_count().await?;
    let rows = [
        ("patients", counts.patients),
        ("studies", counts.studies),
        ("series", counts.series),
        ("instances", counts.instances),
        ("hot objects", counts.of_node.hot_objects),
        ("hot bytes", counts.of_node.hot_bytes),
        ("packs verified", counts.packs_verified),
        ("pack bytes", counts.pack_bytes),
        ("objects adopted", adopted),
        ("adopted bytes", adopted_bytes),
        ("packs pending", counts.of_node.packs_pending),
        ("packs damaged", counts.of_node.packs_damaged),
        ("findings open", findings.iter().map(|(_, count)| count).sum()),
        ("journal pending", counts.of_node.journal_pending),
        ("commitments pending", counts.commitments_pending),
        ("deliveries open", deliveries.open),
        ("images to deliver", deliveries.waiting),
        ("quarantined", counts.quarantined),
        ("conflicts", counts.conflicts),
        ("rejections refused", catalogue.rejections_refused().await?),
    ];
    if as_json {
        let mut object: serde_json::Map<String, serde_json::Value> =
            rows.iter().map(|(name, n)| (name.replace(' ', "_"), json!(n))).collect();
        object.insert("node".to_owned(), json!(node.to_string()));
        let of_kind = |(kind, count): &(FindingKind, u64)| (kind.as_str().to_owned(), json!(count));
        object.insert(
            "findings".to_owned(),
            findings.iter().map(of_kind).collect::<serde_json::Map<_, _>>().into(),
        );
        let spool = |spool: &audit::Spool| {
            let oldest = spool.oldest.map(|oldest| oldest.as_secs());
            json!({ "target": spool.target, "rows": spool.rows, "oldest_seconds": oldest, "error": spool.error })
        };
        object.insert("audit".to_owned(), spools.iter().map(spool).collect());
        let scrubs = scrubs
            .iter()
            .map(|(of, progress)| (of.as_str().to_owned(), scrub::described(progress)));
        object.insert("scrub".to_owned(), serde_json::Value::Object(scrubs.collect()));
        println!("{}", serde_json::Value::Object(object));
    } else {
        println!("{:<20} {node}", "node");
        println!("{:<20} {}", "catalogue", without_password(&config.catalogue_url));
        rows.iter().for_each(|(name, n)| println!("{name:<20} {n}"));
        for (of, progress) in &scrubs {
            println!("{:<20} {}", format!("scrub {}", of.as_str()), scrub::line(progress));
        }
        for (kind, count) in &findings {
            println!("{:<20} {count} {}: filmroom fsck", "finding", kind.as_str());
        }
        for spool in &spools {
            let oldest = spool.oldest.map(|oldest| format!(", the oldest for {} s", oldest.as_secs()));
            let error = if spool.error.is_empty() {
                String::new()
            } else {
                format!(" ({})", spool.error)
            };
            let (rows, target) = (spool.rows, &spool.target);
            println!(
                "{:<20} {rows} rows to export to {target}{}{error}",
                "audit",
                oldest.unwrap_or_default()
            );
        }
    }
    Ok(())
}

/// `filmroom studies`
pub(crate) async fn studies(config: &Config, patient: Option<&str>, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, node) = open(config).await?;
    let studies = catalogue.studies(node, patient, limit).await?;
    if as_json {
        for study in &studies {
            let line = json!({
                "study_uid": study.study_uid.as_str(), "accession_number": study.accession_number, "patient_id": study.patient_id,
                "study_date": study.study_date, "description": study.description, "modalities": study.modalities, "series": study.series,
                "instances": study.instances, "bytes": study.bytes, "hot_instances": study.hot_instances,
                "packed_instances": study.packed_instances,
            });
            println!("{line}");
        }
        return Ok(());
    }
    println!(
        "{:<10} {:<16} {:<16} {:<10} {:>6} {:>9} {:>9} {:>9}  STUDY INSTANCE UID",
        "DATE", "PATIENT ID", "ACCESSION", "MODALITIES", "SERIES", "INSTANCES", "HOT", "COLD"
    );
    for study in &studies {
        println!(
            "{:<10} {:<16} {:<16} {:<10} {:>6} {:>9} {:>9} {:>9}  {}",
            study.study_date,
            study.patient_id,
            study.accession_number,
            study.modalities.join("/"),
            study.series,
            study.instances,
            study.hot_instances,
            study.packed_instances,
            study.study_uid
        );
    }
    Ok(())
}

/// `filmroom commitments`
pub(crate) async fn commitments(config: &Config, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let commitments = catalogue.commitments(limit).await?;
    if as_json {
        for commitment in &commitments {
            let line = json!({
                "transaction_uid": commitment.transaction.as_str(), "ae": commitment.requester.as_str(), "state": commitment.state.as_str(),
                "instances": commitment.instances, "failed": commitment.failed, "since": instant(commitment.asked_at),
                "ended": commitment.ended_at.map(instant), "attempts": commitment.attempts, "error": commitment.error,
            });
            println!("{line}");
        }
        return Ok(());
    }
    println!(
        "{:<16} {:<10} {:<20} {:>9} {:>7} {:>8}  TRANSACTION UID",
        "AE", "STATE", "SINCE", "INSTANCES", "FAILED", "ATTEMPTS"
    );
    for commitment in &commitments {
        let since = instant(Timestamp(commitment.asked_at.0 - commitment.asked_at.0.rem_euclid(1_000_000)));
        println!(
            "{:<16} {:<10} {since:<20} {:>9} {:>7} {:>8}  {}",
            commitment.requester,
            commitment.state.as_str(),
            commitment.instances,
            commitment.failed,
            commitment.attempts,
            commitment.transaction
        );
        if !commitment.error.is_empty() {
            println!("{:<16} {}", "", commitment.error);
        }
    }
    Ok(())
}

/// `filmroom quarantine list`
pub(crate) async fn quarantine(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    for object in catalogue.quarantined(LISTED).await? {
        if as_json {
            println!("{}", describe(&object));
        } else {
            println!(
                "{}  {}  {:<16} {}",
                object.object,
                instant(object.received_at),
                object.source,
                object.reason
            );
        }
    }
    Ok(())
}

/// `filmroom quarantine show`
pub(crate) async fn quarantined(config: &Config, object: Uuid) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let found = catalogue.quarantined(u32::MAX).await?.into_iter().find(|q| q.object.0 == object);
    let Some(found) = found else {
        bail!("{object} is not in quarantine: see `filmroom quarantine list`")
    };
    println!("{}", serde_json::to_string_pretty(&describe(&found))?);
    Ok(())
}

fn describe(object: &Quarantined) -> serde_json::Value {
    json!({
        "object": object.object.to_string(), "study_uid": object.study_uid.as_str(), "series_uid": object.series_uid.as_str(),
        "sop_instance_uid": object.sop_instance.as_str(), "source": object.source.as_str(), "received_at": instant(object.received_at),
        "reason": object.reason, "bytes": object.length,
    })
}

pub(super) fn instant(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The same in whole seconds, for tables.
pub(crate) fn second(at: Timestamp) -> String {
    instant(Timestamp(at.0 - at.0.rem_euclid(1_000_000)))
}

/// A database URL without the password in it.
pub(super) fn without_password(url: &str) -> String {
    match url
        .split_once("://")
        .and_then(|(scheme, rest)| rest.rsplit_once('@').map(|(user, place)| (scheme, user, place)))
    {
        Some((scheme, user, place)) => format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("postgres://film:s3cret@db/filmroom"),
            "postgres://film@db/filmroom"
        );
        assert_eq!(without_password("sqlite:x.db"), "sqlite:x.db");
    }
}
