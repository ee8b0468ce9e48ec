//! The members of packs, and objects in none, become rows.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::super::columns::PatientColumns;
use super::super::database::{Connection, execute, fetch_all, fetch_optional, in_list, in_uuids, now};
use super::super::ingest::{Found, ObjectRows, Standing, hear, insert_conflict, insert_objects, patient_of};
use super::super::kinds::Kinds;
use super::super::lists::{Texts, Uuids};
use super::super::rows::{node_row, signed};
use super::super::stored_header::StoredHeader;
use super::super::{Catalogue, Error, HotFile, Rebuilt, RebuiltPack, RebuiltPart, Result, rejections, totals};
use super::decide::{insert_listed, settle_notes};
use super::deletions::take_in_hand;
use super::describe::{Series, Statement, Study};
use super::files::used_here;
use crate::model::{NodeId, ObjectId, ServingState, Timestamp};
use crate::rejection;

/// What came of loading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Objects that are on record now
    pub objects: u64,
    /// Served versions that another, newer one took the place of, though nothing says so
    pub settled: u64,
}

impl Catalogue {
    /// Puts parts on record, in one transaction. Objects that are on record already stay what they are.
    pub async fn rebuild_load(&self, node: NodeId, parts: &[RebuiltPart]) -> Result<Loaded> {
        let objects = parts.iter().flat_map(|part| &part.objects);
        let kinds = self.kinds(objects.map(|object| &object.arrival)).await?;
        // Other nodes decide about patients while this one meets what lies on its disk.
        let mut connection = rejections::begin_shared(self).await?;
        lock_known(&mut connection, parts).await?;
        let now = now(&mut connection).await?;
        let mut loaded = Loaded::default();
        let mut studies: BTreeSet<i64> = BTreeSet::new();
        for part in parts {
            load(&mut connection, node, part, &kinds, now, &mut studies, &mut loaded).await?;
        }
        for study in studies {
            totals::recount(&mut connection, study).await?;
        }
        connection.commit().await?;
        Ok(loaded)
    }
}

/// Locks the studies of parts that are on record already: what is counted anew of them must not miss what another node has received and is about to commit.
pub(super) async fn lock_known(connection: &mut Connection, parts: &[RebuiltPart]) -> Result<()> {
    let sql = in_list!(
        connection,
        "SELECT id FROM studies WHERE study_uid",
        "$1",
        " ORDER BY id",
        " FOR NO KEY UPDATE"
    );
    let uids: Texts = parts.iter().map(|part| part.study.as_str()).collect();
    let _: Vec<(i64,)> = fetch_all!(connection, sql, uids)?;
    Ok(())
}

impl Catalogue {
    /// How many of some objects are not deleted, and in no pack.
    pub async fn rebuild_unplaced(&self, objects: &[ObjectId]) -> Result<u64> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT object_id FROM objects WHERE pack IS NULL AND state <> 'deleted' AND object_id",
            "$1",
            ""
        );
        let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, Uuids(objects.iter().map(|object| object.0).collect()))?;
        Ok(rows.len() as u64)
    }
}

pub(super) async fn load(
    connection: &mut Connection,
    node: NodeId,
    part: &RebuiltPart,
    kinds: &Kinds<'_>,
    now: Timestamp,
    studies: &mut BTreeSet<i64>,
    loaded: &mut Loaded,
) -> Result<()> {
    let statement = Statement::of(part)?;
    let study = statement.study(connection, part.study.as_str()).await?;
    let series = statement.series(connection, &study, part.series.as_str()).await?;
    studies.insert(study.id);
    let mut packs = Vec::with_capacity(part.packs.len());
    for pack in &part.packs {
        packs.push(insert_pack(connection, series.id, pack, now).await?);
    }
    let placed = |object: &Rebuilt| object.place.and_then(|(index, offset)| Some((*packs.get(index)?, offset)));
    let known = known(connection, &part.objects).await?;
    for object in part.objects.iter().filter(|object| known.contains(&object.arrival.object.0)) {
        if let Some(place) = placed(object) {
            put_in_place(connection, series.id, place, object).await?;
            is_original(connection, place.0, object).await?;
        }
    }
    let mut rows = ObjectRows::default();
    let mut served: Vec<&Rebuilt> = Vec::new();
    let newer = settle_served(connection, &part.objects, &known, studies, loaded).await?;
    for object in part.objects.iter().filter(|object| !known.contains(&object.arrival.object.0)) {
        let mut state = object.state;
        if object.deletion.is_some() {
            state = ServingState::Deleted;
        }
        if newer.contains(&object.arrival.object) {
            state = ServingState::Superseded;
        }
        let (header, partial) = StoredHeader::new(&object.arrival.header);
        let standing = Standing {
            state,
            reason: &object.reason,
            counterpart: object.counterpart,
            pack: placed(object),
        };
        let belongs = (series.id, kinds.of(&object.arrival)?);
        rows.push(belongs, &object.arrival, &standing, &series.header.store(&header)?, partial);
        loaded.objects += 1;
        if state == ServingState::Served {
            served.push(object);
        }
    }
    insert_objects(connection, &rows).await?;
    name_source(connection, series.id).await?;
    let fresh = part.objects.iter().filter(|object| !known.contains(&object.arrival.object.0));
    take_in_hand(connection, fresh).await?;
    note_down(connection, &part.objects, &served).await?;
    contradictions(connection, &study, part, &served).await?;
    hold(connection, node, &series, &part.objects).await
}

/// The source of a series is that of the object that was received first, in whatever order they are loaded.
async fn name_source(connection: &mut Connection, series: i64) -> Result<()> {
    let sql = "UPDATE series SET source = coalesce(
                   (SELECT ki.source FROM objects o JOIN kinds ki ON ki.id = o.kind WHERE o.series = $1 ORDER BY o.received_at, o.object_id LIMIT 1),
                   '') WHERE id = $1";
    execute!(connection, sql, series)?;
    Ok(())
}

async fn insert_pack(connection: &mut Connection, series: i64, pack: &RebuiltPack, now: Timestamp) -> Result<i64> {
    let node = node_row(connection, pack.node).await?;
    let sql =
        "INSERT INTO packs (series, node, cold_key, length, serving, state, crc64, verified_at, archive_clock, layout, manifest, etag)
               VALUES ($1, $2, $3, $4, $5, 'verified', $6, $7, $8, $9, $10, $11) ON CONFLICT (cold_key) DO NOTHING";
    execute!(
        connection,
        sql,
        series,
        node,
        pack.key.as_str(),
        signed(pack.length),
        pack.serving.as_str(),
        pack.crc64.map(u64::cast_signed),
        now.0,
        pack.put_at.0,
        pack.layout.as_str(),
        pack.manifest.as_deref(),
        pack.etag.as_deref()
    )?;
    let row: Option<(i64,)> = fetch_optional!(connection, "SELECT id FROM packs WHERE cold_key = $1", pack.key.as_str())?;
    row.map(|(id,)| id).ok_or_else(|| Error::Corrupt("a pack has no row".to_owned()))
}

/// Objects that are on record. One may be in two packs, of which one was given up.
async fn known(connection: &mut Connection, objects: &[Rebuilt]) -> Result<HashSet<Uuid>> {
    let sql = in_uuids!(connection, "SELECT object_id FROM objects WHERE object_id", "$1", "");
    let ids = Uuids(objects.iter().map(|object| object.arrival.object.0).collect());
    let rows: Vec<(Uuid,)> = fetch_all!(connection, sql, ids)?;
    Ok(rows.into_iter().map(|(object,)| object).collect())
}

/// An object on record that is in no pack, for the one of the manifest that was read before is gone, is in this one.
async fn put_in_place(connection: &mut Connection, series: i64, (pack, offset): (i64, u64), object: &Rebuilt) -> Result<()> {
    // Of what was adopted and packed since, and whose pack is lost, the record may not know the digest.
    let sql = "UPDATE objects SET pack = $1, pack_offset = $2
               WHERE object_id = $3 AND series = $4 AND length = $6
               AND (sha256 = $5 OR ($5 IS NULL AND EXISTS (SELECT 1 FROM packs f WHERE f.id = $1 AND f.layout = 'foreign')))
               AND (pack IS NULL OR NOT EXISTS (SELECT 1 FROM packs p WHERE p.id = objects.pack))";
    let arrival = &object.arrival;
    let (id, sha256) = (arrival.object.0, arrival.sha256.map(|digest| digest.0.to_vec()));
    execute!(connection, sql, pack, signed(offset), id, series, sha256, signed(arrival.length))?;
    Ok(())
}

/// An adopted object that lies in a pack by now was packed from where it lay: that is left, and nothing needs it.
async fn is_original(connection: &mut Connection, pack: i64, object: &Rebuilt) -> Result<()> {
    let sql =
        "UPDATE packs SET original_of = (SELECT o.id FROM objects o JOIN packs k ON k.id = o.pack WHERE o.object_id = $2 AND k.id <> $1)
               WHERE id = $1 AND layout = 'foreign'";
    execute!(connection, sql, pack, object.arrival.object.0)?;
    Ok(())
}

/// Two versions may seem served where the journal's last entries were lost: the newer one is. Takes older ones on record out of service, and
/// returns those of the part that are older than what is on record.
async fn settle_served(
    connection: &mut Connection,
    objects: &[Rebuilt],
    known: &HashSet<Uuid>,
    studies: &mut BTreeSet<i64>,
    loaded: &mut Loaded,
) -> Result<HashSet<ObjectId>> {
    let mut candidates: HashMap<&str, &Rebuilt> = HashMap::new();
    let mut older = HashSet::new();
    let age = |object: &Rebuilt| (object.arrival.received_at.0, object.arrival.object.0);
    for object in objects {
        if object.state != ServingState::Served || object.deletion.is_some() || known.contains(&object.arrival.object.0) {
            continue;
        }
        if let Some(other) = candidates.insert(object.arrival.sop_instance.as_str(), object) {
            let (old, new) = if age(other) < age(object) {
                (other, object)
            } else {
                (object, other)
            };
            candidates.insert(new.arrival.sop_instance.as_str(), new);
            older.insert(old.arrival.object);
        }
    }
    let sql = in_list!(
        connection,
        "SELECT o.id, o.object_id, o.received_at, o.sop_instance_uid, se.study FROM objects o JOIN series se ON se.id = o.series
         WHERE o.state = 'served' AND o.sop_instance_uid",
        "$1",
        ""
    );
    let rows: Vec<(i64, Uuid, i64, String, i64)> = fetch_all!(connection, sql, candidates.keys().collect::<Texts>())?;
    for (id, object_id, received_at, uid, study) in rows {
        let Some(candidate) = candidates.get(uid.as_str()) else { continue };
        if age(candidate) < (received_at, object_id) {
            older.insert(candidate.arrival.object);
        } else {
            execute!(connection, "UPDATE objects SET state = 'superseded' WHERE id = $1", id)?;
            studies.insert(study);
            loaded.settled += 1;
        }
    }
    loaded.settled += older.len() as u64;
    Ok(older)
}

/// Rejection notes: those that nothing is known of wait to be obeyed, for the others it is known what became of them.
async fn note_down(connection: &mut Connection, objects: &[Rebuilt], served: &[&Rebuilt]) -> Result<()> {
    for object in served {
        rejections::note_accepted(connection, object.arrival.object, &object.arrival.sop_class, &object.arrival.header).await?;
    }
    let mut notes = Vec::new();
    for object in objects {
        let arrival = &object.arrival;
        if rejection::title(&arrival.sop_class, &arrival.header) == rejection::Title::Other {
            continue;
        }
        notes.push(arrival.object);
        if let Ok(note) = rejection::read(&arrival.sop_class, &arrival.sop_instance, &arrival.header) {
            insert_listed(connection, arrival.object, &note.listed).await?;
        }
    }
    settle_notes(connection, &notes).await
}

/// What served objects say of the patient, and what of it contradicts what is on record.
async fn contradictions(connection: &mut Connection, study: &Study, part: &RebuiltPart, served: &[&Rebuilt]) -> Result<()> {
    let mut said: Vec<(PatientColumns, &Rebuilt)> = Vec::new();
    for object in served {
        let columns = PatientColumns::of(&object.arrival);
        if !said.iter().any(|(known, _)| *known == columns) {
            said.push((columns, object));
        }
    }
    for (columns, object) in said {
        let (mut row, own) = patient_of(connection, study.id).await?;
        // That nothing of it is counted yet does not mean that nobody described it.
        row.unserved = false;
        for (patient, conflict) in hear(connection, &mut row, own, &columns).await? {
            let found = Found {
                patient,
                study: part.study.as_str(),
                source: object.arrival.source.as_str(),
                at: object.arrival.received_at,
            };
            insert_conflict(connection, &found, &conflict).await?;
        }
    }
    Ok(())
}

/// Files of these objects on this node's disk.
async fn hold(connection: &mut Connection, node: NodeId, series: &Series, objects: &[Rebuilt]) -> Result<()> {
    let mut last = None;
    for object in objects {
        let Some(file) = object.hot else { continue };
        let node = node_row(connection, node).await?;
        let sql = "INSERT INTO hot_copies (object, node, state) SELECT id, $1, $2 FROM objects WHERE object_id = $3
                   ON CONFLICT (object, node) DO NOTHING";
        execute!(connection, sql, node, file.as_str(), object.arrival.object.0)?;
        if file != HotFile::Doomed {
            let at = object.arrival.received_at.0;
            last = Some((node, last.map_or(at, |(_, before): (i64, i64)| before.max(at))));
        }
    }
    match last {
        Some((node, at)) => used_here(connection, node, series.id, at).await,
        None => Ok(()),
    }
}
