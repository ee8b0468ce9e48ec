//! The real disk, the real cold store and the catalogue, compared with what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use filmroom_index::catalogue::{DeletionState, Located};
use filmroom_tiering::fsck::{Order, Place, Scope};

use super::model::{Body, Model, SLOTS, Standing, instance_uid};
use super::room::{DIGITS, MARK, Room, data_set};
use crate::node::{STUDY, files_below, locate};

/// What any number of looks may say: `Err` names what is wrong.
pub(super) type Verdict = Result<(), String>;

fn holds(what: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if what { Ok(()) } else { Err(otherwise()) }
}

/// What holds at any time, whatever is under way: what is served is found and can be read, what is kept is somewhere.
pub(super) fn at_any_time(room: &Room, model: &Model) -> Verdict {
    let archive = room.archive();
    let located = room.finish(locate(&archive, STUDY));
    let found: BTreeSet<&str> = located.iter().map(|located| located.sop_instance.as_str()).collect();
    for slot in 0..SLOTS {
        let (served, uid) = (model.served(slot), instance_uid(slot));
        holds(served.is_some() == found.contains(uid.as_str()), || {
            format!("{uid} is found: {}, it is {served:?}", found.contains(uid.as_str()))
        })?;
    }
    for located in &located {
        let slot = (0..SLOTS)
            .find(|slot| instance_uid(*slot) == located.sop_instance.as_str())
            .unwrap();
        readable(room, located, &data_set(model.served(slot).unwrap().body))?;
    }
    let there: BTreeSet<Body> = scan(room)?.into_iter().map(|(body, _)| body).collect();
    for version in model.versions.iter().filter(|version| model.is_kept(version, room.now())) {
        holds(there.contains(&version.body), || format!("{version:?} is nowhere"))?;
    }
    Ok(())
}

/// Wherever the catalogue says that an instance lies, it lies, byte for byte.
fn readable(room: &Room, located: &Located, data_set: &[u8]) -> Verdict {
    let mut places = 0;
    if located.hot {
        let files = files_below(&room.data().join("hot"));
        let file = files
            .iter()
            .find(|file| file.file_stem().unwrap().to_str() == Some(&located.object.to_string()));
        let bytes = file.map(std::fs::read).transpose().ok().flatten().unwrap_or_default();
        holds(bytes.len() as u64 == located.length && bytes.ends_with(data_set), || {
            format!("{} is not hot as it was received", located.sop_instance)
        })?;
        places += 1;
    }
    if let Some(packed) = located.packed.as_ref().filter(|packed| packed.state.is_verified()) {
        let pack = std::fs::read(room.cold().join(&packed.key)).unwrap_or_default();
        let (start, end) = (packed.offset as usize, (packed.offset + located.length) as usize);
        let bytes = pack.get(start..end).unwrap_or_default();
        holds(bytes.len() as u64 == located.length && bytes.ends_with(data_set), || {
            format!("{} is not in {} as it was received", located.sop_instance, packed.key)
        })?;
        places += 1;
    }
    holds(places > 0, || format!("{} is served and nowhere", located.sop_instance))
}

/// Every body that lies in the hot store, in `incoming/` or in the cold store, and in which file.
fn scan(room: &Room) -> Result<Vec<(Body, PathBuf)>, String> {
    let mut found = Vec::new();
    let mut files = files_below(&room.data().join("hot"));
    files.extend(files_below(&room.data().join("incoming")));
    files.extend(files_below(&room.cold()));
    for path in files {
        // Removed meanwhile.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        for at in positions(&bytes, MARK) {
            let body = body_at(&bytes, at);
            match body {
                Some(body) => found.push((body, path.clone())),
                // Whoever is not at the end of it yet may still be writing.
                None if is_unfinished(&path) => {}
                None => return Err(format!("{} has an image that nobody has sent", path.display())),
            }
        }
    }
    Ok(found)
}

fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

fn positions(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == part[0]).map(|(at, _)| at);
    starts.filter(|at| bytes[*at..].starts_with(part)).collect()
}

/// The body whose mark is there, if all of it is.
fn body_at(bytes: &[u8], at: usize) -> Option<Body> {
    let digits = bytes.get(at + MARK.len()..at + MARK.len() + DIGITS)?;
    let mark = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let bodies = (0..SLOTS).flat_map(|slot| [true, false].map(|explicit| Body { slot, mark, explicit }));
    bodies.into_iter().find(|body| {
        let data_set = data_set(*body);
        let before = positions(&data_set, MARK)[0];
        at.checked_sub(before).is_some_and(|start| bytes[start..].starts_with(&data_set))
    })
}

/// What holds once nothing is under way any more; what ended meanwhile is noted.
pub(super) fn at_rest(room: &Room, model: &mut Model) -> Verdict {
    deletions_have_come_as_far_as_their_time(room, model)?;
    for (what, sql) in IDLE.iter().chain(&RECOUNTED) {
        let count = room.number(sql);
        holds(count == 0, || format!("{count} {what}"))?;
    }
    files_and_rows_are_the_same(room)?;
    nothing_is_left_of_what_was_erased(room, model)
}

fn deletions_have_come_as_far_as_their_time(room: &Room, model: &mut Model) -> Verdict {
    let archive = room.archive();
    let rows = room.finish(async { archive.catalogue().deletions(1000).await }).unwrap();
    for place in 0..model.deletions.len() {
        let deletion = &model.deletions[place];
        let row = rows.iter().find(|row| row.key == deletion.key).unwrap();
        let expected = match deletion {
            deletion if deletion.taken_back => DeletionState::TakenBack,
            deletion if deletion.due <= room.now() => DeletionState::Erased,
            _ => DeletionState::Waiting,
        };
        holds(row.state == expected, || format!("{row:?} should be {expected:?}"))?;
        if expected == DeletionState::Erased {
            model.erased(place);
        }
    }
    Ok(())
}

const IDLE: [(&str, &str); 4] = [
    ("journal entries wait", "SELECT count(*) FROM journal WHERE written_at IS NULL"),
    ("packs are on their way", "SELECT count(*) FROM packs WHERE verified_at IS NULL"),
    ("packs are to be erased", "SELECT count(*) FROM erasures"),
    ("files are to be removed", "SELECT count(*) FROM hot_copies WHERE state <> 'held'"),
];

const RECOUNTED: [(&str, &str); 5] = [
    (
        "studies are counted wrong",
        "SELECT count(*) FROM studies st WHERE (st.instances, st.bytes, st.series) <> (
            SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT), count(DISTINCT se.id)
            FROM objects o JOIN series se ON se.id = o.series WHERE se.study = st.id AND o.state = 'served')",
    ),
    (
        "series are counted wrong",
        "SELECT count(*) FROM series se WHERE (se.instances, se.bytes) <> (
            SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT) FROM objects o WHERE o.series = se.id AND o.state = 'served')",
    ),
    (
        "patients are counted wrong",
        "SELECT count(*) FROM patients p WHERE (p.studies, p.series, p.instances) <> (
            SELECT count(*), CAST(coalesce(sum(st.series), 0) AS BIGINT), CAST(coalesce(sum(st.instances), 0) AS BIGINT)
            FROM studies st WHERE st.patient = p.id AND st.instances > 0)",
    ),
    (
        "series have hot copies that are counted wrong",
        "SELECT count(*) FROM series_nodes sn WHERE (sn.hot_objects, sn.hot_bytes) <> (
            SELECT count(*), CAST(coalesce(sum(o.length), 0) AS BIGINT)
            FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held' AND h.node = sn.node WHERE o.series = sn.series)",
    ),
    (
        "objects lie in packs that are not on record",
        "SELECT count(*) FROM objects o WHERE o.pack IS NOT NULL AND NOT EXISTS (SELECT 1 FROM packs p WHERE p.id = o.pack)",
    ),
];

/// No file without a row, and no row without a file.
fn files_and_rows_are_the_same(room: &Room) -> Verdict {
    let rows = room.ids("SELECT o.object_id FROM hot_copies h JOIN objects o ON o.id = h.object");
    let rows: BTreeSet<String> = rows.iter().map(ToString::to_string).collect();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let files: BTreeSet<String> = files_below(&room.data().join("hot")).iter().map(name).collect();
    holds(rows == files, || format!("hot copies {rows:?}, files {files:?}"))?;
    let incoming = files_below(&room.data().join("incoming"));
    holds(incoming.is_empty(), || format!("left behind: {incoming:?}"))?;
    let mut rows = room.texts("SELECT cold_key FROM packs");
    rows.extend(rows.clone().iter().map(|key| key.replace(".zip", ".json.zst")));
    let rows: BTreeSet<String> = rows.into_iter().collect();
    let cold = room.cold();
    let key = |path: PathBuf| path.strip_prefix(&cold).unwrap().to_string_lossy().into_owned();
    let objects = files_below(&cold).into_iter().filter(|path| !is_unfinished(path)).map(key);
    let objects: BTreeSet<String> = objects.filter(|key| !key.contains("/journal-")).collect();
    holds(rows == objects, || format!("packs {rows:?}, objects {objects:?}"))
}

/// Of bytes that are kept for nobody nothing is anywhere, and of instances without any the journal alone has the UID.
fn nothing_is_left_of_what_was_erased(room: &Room, model: &Model) -> Verdict {
    let kept: BTreeSet<Body> = model.versions.iter().filter(|v| !v.gone).map(|version| version.body).collect();
    for (body, path) in scan(room)? {
        holds(kept.contains(&body), || {
            format!("{body:?} is kept for nobody, and lies in {}", path.display())
        })?;
    }
    let mut files = files_below(&room.data().join("hot"));
    files.extend(files_below(&room.cold()));
    files.retain(|path| !path.to_string_lossy().contains("/journal-"));
    for path in files {
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        if path.extension().is_some_and(|extension| extension == "zst") {
            bytes = zstd::decode_all(bytes.as_slice()).map_err(|error| error.to_string())?;
        }
        for slot in (0..SLOTS).filter(|slot| kept.iter().all(|body| body.slot != *slot)) {
            let uid = instance_uid(slot);
            holds(positions(&bytes, uid.as_bytes()).is_empty(), || {
                format!("{} names {uid}", path.display())
            })?;
        }
    }
    Ok(())
}

/// A walk over everything finds nothing, whatever happens meanwhile. True if it came to its end.
pub(super) fn fsck_finds_nothing(room: &Room) -> Result<bool, String> {
    let order = Order {
        scope: Scope::All,
        study: None,
        repair: false,
        read: false,
        rate: None,
        restart: true,
    };
    let archive = room.archive();
    let walked = room.act(async move {
        let mut order = order;
        let mut place: Option<Place> = None;
        loop {
            let stride = archive.fsck(&order, place.take(), "test").await?;
            order.restart = false;
            place = stride.next;
            if place.is_none() {
                return Ok::<_, filmroom_tiering::error::ArchiveError>(());
            }
        }
    });
    let Ok(walked) = walked else { return Ok(false) };
    match walked {
        // The cold store is away.
        Err(_) if room.cold_is_away => return Ok(false),
        walked => walked.map_err(|error| error.to_string())?,
    }
    let archive = room.archive();
    let found = room
        .finish(async { archive.catalogue().findings(archive.node(), false, 0, 100).await })
        .unwrap();
    holds(found.is_empty(), || format!("{found:?}"))?;
    Ok(true)
}

/// What the model has of each slot, for whoever reads why a run failed.
pub(super) fn told(model: &Model) -> BTreeMap<usize, Vec<(u32, Standing, bool)>> {
    let mut told: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for version in &model.versions {
        told.entry(version.body.slot)
            .or_default()
            .push((version.body.mark, version.standing, version.is_living()));
    }
    told
}
