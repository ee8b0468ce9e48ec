//! Objects that another program put into the cold store, made known where they lie.
//!
//! # Mechanics
//! As arrivals from the network: resolved, judged, written in one transaction a batch; but each has a row of `packs` from the beginning, and no hot copy. Nothing is
//! displaced by them (`classify`). A row of `packs` without `manifest` is one of which no record in the cold store tells yet: whoever adopted it writes that next.
//!
//! # Invariants
//! - A key is on record once, with the entity tag that it had when its head was read.
//! - `verified` says of such an object that the store listed it, with that length and entity tag, and gave out its head on condition of the tag. Nobody has
//!   compared its bytes with anything: its digests are NULL until somebody reads it whole.
//! - What is not put on record leaves no trace: its object stays where it is, as it is.
//!
//! # Crash story
//! Before COMMIT nothing happened. After it the keys are on record, and a later run passes over them.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::FromRow;
use uuid::Uuid;

use super::super::classify::Lengths;
use super::super::columns::PatientColumns;
use super::super::database::{Connection, execute, fetch_all, fetch_optional, in_list, now};
use super::super::lists::{Ids, Texts};
use super::super::rows::{node_row, read_digest, read_state, read_title, read_uid, signed, unsigned};
use super::super::{
    Adopted, AdoptedObject, Arrival, AuditEvent, Catalogue, Error, KnownForeign, Outcome, PackKey, Result, audit, deletions, rejections,
};
use super::on_record::{VersionRow, versions};
use super::{COLLISIONS, Entry, judge, refusal, resolve, write};
use crate::model::{NodeId, ObjectId, ServingState, Timestamp};
use crate::part10::FileMeta;

/// What tells of the bytes of a version on record, where nobody reads them. What stands in front of the data set is as long as we write it; of what another
/// program wrote it is not known, also where that lies in a pack by now.
pub(super) fn lengths(row: &VersionRow) -> Result<Lengths> {
    let preface = FileMeta {
        sop_class: read_uid(&row.sop_class_uid)?,
        sop_instance: read_uid(&row.sop_instance_uid)?,
        transfer_syntax: read_uid(&row.transfer_syntax)?,
        source: Some(read_title(&row.source)?),
    };
    let file = unsigned(row.length);
    let ours = row.layout.as_deref() != Some("foreign");
    Ok(Lengths {
        file,
        data_set: file.checked_sub(preface.encode().len() as u64).filter(|_| ours),
    })
}

#[derive(FromRow)]
struct ForeignRow {
    id: i64,
    cold_key: String,
    length: i64,
    etag: Option<String>,
    damaged_at: Option<i64>,
    original_of: Option<i64>,
}

#[derive(FromRow)]
struct OwedRow {
    id: i64,
    cold_key: String,
    etag: Option<String>,
    node_id: Uuid,
    object_id: Uuid,
    study_uid: String,
    series_uid: String,
    sop_class_uid: String,
    sop_instance_uid: String,
    transfer_syntax: String,
    state: String,
    reason: String,
    length: i64,
    sha256: Option<Vec<u8>>,
    crc32: Option<i64>,
    received_at: i64,
    source: String,
}

macro_rules! of_foreign {
    ($condition:literal) => {
        concat!(
            "SELECT k.id, k.cold_key, k.etag, n.node_id, o.object_id, st.study_uid, se.series_uid, ki.sop_class_uid, o.sop_instance_uid,
                    ki.transfer_syntax, k.serving AS state, o.reason, o.length, o.sha256, o.crc32, o.received_at, ki.source
             FROM packs k JOIN nodes n ON n.id = k.node JOIN series se ON se.id = k.series JOIN studies st ON st.id = se.study
             JOIN objects o ON o.series = k.series AND (o.pack = k.id OR o.id = k.original_of) JOIN kinds ki ON ki.id = o.kind
             WHERE k.layout = 'foreign' AND ",
            $condition
        )
    };
}

impl Catalogue {
    /// Which of these keys are those of adopted objects on record.
    pub async fn known_foreign(&self, keys: &[&str]) -> Result<HashMap<String, KnownForeign>> {
        let mut connection = self.read().await?;
        let sql = in_list!(
            connection,
            "SELECT id, cold_key, length, etag, damaged_at, original_of FROM packs WHERE layout = 'foreign' AND cold_key",
            "$1",
            ""
        );
        let rows: Vec<ForeignRow> = fetch_all!(connection, sql, keys.iter().collect::<Texts>())?;
        let known = |row: ForeignRow| {
            let known = KnownForeign {
                pack: PackKey(row.id),
                length: unsigned(row.length),
                etag: row.etag.unwrap_or_default(),
                damaged: row.damaged_at.is_some(),
                original: row.original_of.is_some(),
            };
            (row.cold_key, known)
        };
        Ok(rows.into_iter().map(known).collect())
    }

    /// Puts objects on record where they lie, in one transaction. None for one whose key is on record already. Only what is served, quarantined or withdrawn has
    /// a row then; what is redundant, rejected or deleted on purpose has none.
    pub async fn adopt_objects(&self, node: NodeId, batch: &[Adopted], actor: &str) -> Result<Vec<Option<Outcome>>> {
        let mut collisions = 0;
        loop {
            match self.adopt_once(node, batch, actor).await {
                Err(error) if collisions < COLLISIONS && self.may_try_again(&error) => collisions += 1,
                Err(Error::Refused(error)) if Error::Refused(error.clone()).is_collision() => return Err(Error::Unavailable(error)),
                other => return other,
            }
        }
    }

    async fn adopt_once(&self, node: NodeId, batch: &[Adopted], actor: &str) -> Result<Vec<Option<Outcome>>> {
        let kinds = self.kinds(batch.iter().map(|adopted| &adopted.arrival)).await?;
        let mut connection = rejections::begin_shared(self).await?;
        let mut taken = keys_on_record(&mut connection, batch).await?;
        let mut fresh: Vec<&Adopted> = batch.iter().filter(|adopted| taken.insert(adopted.place.key.clone())).collect();
        let mut outcomes: HashMap<ObjectId, Outcome> = HashMap::new();
        let mut events = Vec::new();
        let tombstones = deletions::tombstones(&mut connection, fresh.iter().map(|adopted| &adopted.arrival.sop_instance)).await?;
        fresh.retain(|adopted| {
            let Some(reason) = tombstones.why(&adopted.arrival.sop_instance) else {
                return true;
            };
            events.push(AuditEvent {
                at: adopted.place.read_at,
                ..refusal(&adopted.arrival, &reason)
            });
            outcomes.insert(adopted.arrival.object, Outcome::Deleted { reason });
            false
        });
        if !fresh.is_empty() {
            let arrivals: Vec<&Arrival> = fresh.iter().map(|adopted| &adopted.arrival).collect();
            let patients: Vec<PatientColumns> = arrivals.iter().map(|arrival| PatientColumns::of(arrival)).collect();
            let mut holders = resolve::resolve(&mut connection, &arrivals, &patients, None).await?;
            let versions = versions(&mut connection, &arrivals).await?;
            let in_force = rejections::in_force(&mut connection, arrivals.iter().map(|arrival| &arrival.sop_instance)).await?;
            let belong: Vec<_> = arrivals
                .iter()
                .zip(&patients)
                .map(|(arrival, patient)| holders.belongs_to(arrival, &patient.identity))
                .collect();
            let data_sets = fresh
                .iter()
                .map(|adopted| (adopted.arrival.object, adopted.data_set_length))
                .collect();
            let mut entries = judge(&arrivals, &patients, &belong, versions, &in_force, &data_sets);
            outcomes.extend(entries.iter().map(|entry| (entry.arrival.object, entry.outcome())));
            entries.retain(|entry| entry.state != ServingState::Deleted);
            let packs = insert_packs(&mut connection, node, &entries, &fresh, &mut holders).await?;
            write::write_adopted(&mut connection, &entries, &mut holders, &kinds, &packs).await?;
            events.extend(adoptions(&entries, &fresh, actor));
        }
        audit::write(&mut connection, &events).await?;
        connection.commit().await?;
        Ok(batch.iter().map(|adopted| outcomes.get(&adopted.arrival.object).cloned()).collect())
    }

    /// Adopted objects of which no record in the cold store tells, by their rows, at most so many.
    pub async fn unrecorded_foreign(&self, limit: u32) -> Result<Vec<AdoptedObject>> {
        let mut connection = self.read().await?;
        let sql = of_foreign!("k.manifest IS NULL ORDER BY k.id LIMIT $1");
        let rows: Vec<OwedRow> = fetch_all!(connection, sql, i64::from(limit))?;
        rows.into_iter().map(OwedRow::read).collect()
    }

    /// The adopted objects of which this record has to tell.
    pub async fn foreign_of_record(&self, record: &str) -> Result<Vec<AdoptedObject>> {
        let mut connection = self.read().await?;
        let rows: Vec<OwedRow> = fetch_all!(connection, of_foreign!("k.manifest = $1 ORDER BY k.id"), record)?;
        rows.into_iter().map(OwedRow::read).collect()
    }

    /// The record that tells of an adopted object; none if there is no such object, or no record yet.
    pub async fn record_of_foreign(&self, key: &str) -> Result<Option<String>> {
        let mut connection = self.read().await?;
        let sql = "SELECT manifest FROM packs WHERE cold_key = $1 AND layout = 'foreign'";
        let row: Option<(Option<String>,)> = fetch_optional!(connection, sql, key)?;
        Ok(row.and_then(|(record,)| record))
    }

    /// A record that tells of these objects is in the cold store.
    pub async fn foreign_recorded(&self, packs: &[PackKey], record: &str) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = in_list!(
            connection,
            "UPDATE packs SET manifest = $1 WHERE layout = 'foreign' AND id",
            "$2",
            ""
        );
        execute!(connection, sql, record, Ids(packs.iter().map(|pack| pack.0).collect()))?;
        connection.commit().await
    }

    /// How many objects on record lie where another program put them, and their bytes: but for originals of what is packed.
    pub async fn foreign_count(&self) -> Result<(u64, u64)> {
        let mut connection = self.read().await?;
        let sql = "SELECT count(*), CAST(coalesce(sum(length), 0) AS BIGINT) FROM packs
                   WHERE layout = 'foreign' AND original_of IS NULL";
        let row: Option<(i64, i64)> = fetch_optional!(connection, sql)?;
        Ok(row.map_or((0, 0), |(count, bytes)| (unsigned(count), unsigned(bytes))))
    }
}

impl OwedRow {
    fn read(self) -> Result<AdoptedObject> {
        let crc32 = self.crc32.and_then(|crc32| u32::try_from(crc32).ok());
        Ok(AdoptedObject {
            pack: PackKey(self.id),
            key: self.cold_key,
            etag: self.etag.unwrap_or_default(),
            node: NodeId(self.node_id),
            object: ObjectId(self.object_id),
            study: read_uid(&self.study_uid)?,
            series: read_uid(&self.series_uid)?,
            sop_class: read_uid(&self.sop_class_uid)?,
            sop_instance: read_uid(&self.sop_instance_uid)?,
            transfer_syntax: read_uid(&self.transfer_syntax)?,
            state: read_state(&self.state)?,
            reason: self.reason,
            length: unsigned(self.length),
            digests: self.sha256.as_deref().map(read_digest).transpose()?.zip(crc32),
            received_at: Timestamp(self.received_at),
            source: read_title(&self.source)?,
        })
    }
}

async fn keys_on_record(connection: &mut Connection, batch: &[Adopted]) -> Result<HashSet<String>> {
    let sql = in_list!(connection, "SELECT cold_key FROM packs WHERE cold_key", "$1", "");
    let keys: Texts = batch.iter().map(|adopted| adopted.place.key.as_str()).collect();
    let rows: Vec<(String,)> = fetch_all!(connection, sql, keys)?;
    Ok(rows.into_iter().map(|(key,)| key).collect())
}

/// A row of `packs` for each, by its object.
async fn insert_packs(
    connection: &mut Connection,
    node: NodeId,
    entries: &[Entry<'_>],
    fresh: &[&Adopted],
    holders: &mut resolve::Holders,
) -> Result<HashMap<ObjectId, i64>> {
    let (node, now) = (node_row(connection, node).await?, now(connection).await?);
    let places: HashMap<ObjectId, &Adopted> = fresh.iter().map(|adopted| (adopted.arrival.object, *adopted)).collect();
    let sql = "INSERT INTO packs (series, node, cold_key, length, serving, state, verified_at, seen_at, archive_clock, layout, etag)
               VALUES ($1, $2, $3, $4, $5, 'verified', $6, $7, $7, 'foreign', $8) RETURNING id";
    let mut packs = HashMap::new();
    for entry in entries {
        let Some(adopted) = places.get(&entry.arrival.object) else {
            continue;
        };
        let (study, _) = holders.of(entry.arrival)?;
        let series = study.series(&entry.arrival.series)?.totals.series;
        let place = &adopted.place;
        let row: Option<(i64,)> = fetch_optional!(
            connection,
            sql,
            series,
            node,
            place.key.as_str(),
            signed(entry.arrival.length),
            entry.state.as_str(),
            now.0,
            place.read_at.0,
            place.etag.as_str()
        )?;
        let (id,) = row.ok_or_else(|| Error::Corrupt("an adopted object has no row".to_owned()))?;
        packs.insert(entry.arrival.object, id);
    }
    Ok(packs)
}

/// What the audit says: how many of which study, and each that is not served.
fn adoptions(entries: &[Entry<'_>], fresh: &[&Adopted], actor: &str) -> Vec<AuditEvent> {
    let read_at = fresh.first().map_or(Timestamp(0), |adopted| adopted.place.read_at);
    let mut studies: BTreeMap<&str, AuditEvent> = BTreeMap::new();
    for entry in entries {
        let study = entry.arrival.study.as_str();
        let event = studies.entry(study).or_insert_with(|| AuditEvent {
            patient_id: entry.patient.identity.patient_id.clone(),
            study_uid: study.to_owned(),
            ..AuditEvent::new(read_at, "adopt", actor)
        });
        event.instances += 1;
        if entry.state != ServingState::Served {
            event.detail.push_str(&format!(
                " {} {}: {};",
                entry.state.as_str(),
                entry.arrival.sop_instance,
                entry.reason()
            ));
        }
    }
    for event in studies.values_mut() {
        event.detail = format!("{} instances adopted where they lie{}", event.instances, event.detail);
    }
    studies.into_values().collect()
}
