//! Deliveries: from what a C-MOVE could not send to the last image that the destination has.
//!
//! # Mechanics
//! A delivery is a row and a row for each of its images. Any node that finds it due claims it, by lease and fencing number
//! ([`claims`]); each image is leased anew right before it is sent and recorded right after ([`items`]), by whoever sends it: the
//! delivery, or a C-MOVE that asks for it again. What is here opens, cancels and forgets; [`list`] is for those who only read. A pack that becomes readable makes
//! the deliveries due that wait for it ([`pack_readable`]).
//!
//! # Invariants
//! - An image is open for a destination once: who asks for it again joins, and an older version of the instance counts too.
//! - A recorded success is never sent again. Which version is sent is decided when it is sent: the one that is served then, in the
//!   series that was asked for.
//! - An ended delivery has no image that waits. A transition by a lost lease changes nothing but that an image was sent: that is so.
//! - Locks are taken in one order: deliveries, then items.
//!
//! # Crash story
//! What was claimed is due again when the lease runs out, or when the node that held it starts again. An image whose success was
//! received and not recorded is sent once more, byte for byte the same.

use super::database::{Connection, again, execute, fetch_all, fetch_optional, in_list, in_uuids, now};
use super::lists::{Ids, Uuids};
use super::rows::{node_row, unsigned};
use super::{
    AuditEvent, AuditOutcome, Catalogue, DeliveryKey, DeliveryState, DeliveryTally, EndedDelivery, Error, NewDelivery, OpenedDelivery,
    PackKey, Result, audit,
};
use crate::model::{AeTitle, NodeId, ObjectId, Timestamp};

mod claims;
mod items;
mod list;

/// How often transactions may get in each other's way before one is given up.
const COLLISIONS: u32 = 10;

/// Objects in one statement.
const CHUNK: usize = 1000;

/// Ended deliveries that are forgotten at once.
const FORGOTTEN: i64 = 20;

/// What was just asked for is not looked at before the C-MOVE has ended.
const HEAD_START: std::time::Duration = std::time::Duration::from_secs(5);

impl Catalogue {
    /// Puts on record what a destination is to have later, audited: what no open delivery to it has becomes one, the rest joins, and
    /// whatever was joined holds at least until the new deadline. Once this has returned it can be promised.
    pub async fn open_delivery(&self, new: &NewDelivery<'_>) -> Result<OpenedDelivery> {
        again!(COLLISIONS, self.open_once(new))
    }

    async fn open_once(&self, new: &NewDelivery<'_>) -> Result<OpenedDelivery> {
        let mut connection = self.write().await?;
        let due = now(&mut connection).await?.after(HEAD_START).0;
        let destination = new.destination.as_str();
        let sql = "INSERT INTO deliveries (destination, requester, state, asked_at, deadline, next_at) VALUES ($1, $2, 'open', $3, $4, $5)
                   RETURNING id";
        let (asked_at, deadline, requester) = (new.asked_at.0, new.deadline.0, new.requester.as_str());
        let made: Option<(i64,)> = fetch_optional!(connection, sql, destination, requester, asked_at, deadline, due)?;
        let (key,) = made.ok_or_else(|| Error::Corrupt("a delivery's row is gone".to_owned()))?;
        let join = in_uuids!(
            connection,
            "UPDATE deliveries SET deadline = CASE WHEN deadline < $1 THEN $1 ELSE deadline END
             WHERE state = 'open' AND id IN (
                SELECT i.delivery FROM objects o JOIN objects v ON v.sop_instance_uid = o.sop_instance_uid
                JOIN delivery_items i ON i.object = v.id AND i.destination = $2 AND i.state = 'waiting' WHERE o.object_id",
            "$3",
            ")"
        );
        let insert = in_uuids!(
            connection,
            "INSERT INTO delivery_items (delivery, destination, object, state)
             SELECT $1, $2, o.id, 'waiting' FROM objects o WHERE NOT EXISTS (
                SELECT 1 FROM objects v JOIN delivery_items i ON i.object = v.id AND i.destination = $2
                AND (i.state = 'waiting' OR (i.state = 'sent' AND i.ended_at >= $4))
                WHERE v.sop_instance_uid = o.sop_instance_uid) AND o.object_id",
            "$3",
            " ORDER BY o.id ON CONFLICT (destination, object) WHERE state = 'waiting' DO NOTHING"
        );
        let since = new.since.map_or(i64::MAX, |since| since.0);
        let mut opened = OpenedDelivery::default();
        for objects in new.objects.chunks(CHUNK) {
            let objects = Uuids(objects.iter().map(|object| object.0).collect());
            let all = objects.0.len() as u64;
            execute!(connection, join, deadline, destination, objects.clone())?;
            let added = execute!(connection, insert, key, destination, objects, since)?;
            opened.added += added;
            opened.joined += all.saturating_sub(added);
        }
        let detail = if opened.added == 0 {
            execute!(connection, "DELETE FROM deliveries WHERE id = $1", key)?;
            format!("asked for again: {} instances that deliveries have already", opened.joined)
        } else {
            opened.key = Some(DeliveryKey(key));
            let (added, joined) = (opened.added, opened.joined);
            format!("delivery {key}: {added} instances when they are readable, {joined} more that other deliveries have already")
        };
        let event = AuditEvent {
            destination: destination.to_owned(),
            instances: opened.added,
            detail,
            ..new.audit.clone()
        };
        audit::write(&mut connection, &[event]).await?;
        connection.commit().await?;
        Ok(opened)
    }

    /// These images are not wanted at a destination any more, audited: `waiting → cancelled`. What is being sent now may still
    /// arrive. Returns how many images that were.
    pub async fn cancel_delivery_of(&self, destination: &AeTitle, objects: &[ObjectId], event: &AuditEvent) -> Result<u64> {
        again!(COLLISIONS, self.cancel_once(destination, objects, event))
    }

    async fn cancel_once(&self, destination: &AeTitle, objects: &[ObjectId], event: &AuditEvent) -> Result<u64> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = in_uuids!(
            connection,
            "SELECT i.delivery, i.id FROM objects o JOIN objects v ON v.sop_instance_uid = o.sop_instance_uid
             JOIN delivery_items i ON i.object = v.id AND i.destination = $1 AND i.state = 'waiting' WHERE o.object_id",
            "$2",
            ""
        );
        let mut found: Vec<(i64, i64)> = Vec::new();
        for objects in objects.chunks(CHUNK) {
            let objects = Uuids(objects.iter().map(|object| object.0).collect());
            let mut rows: Vec<(i64, i64)> = fetch_all!(connection, sql, destination.as_str(), objects)?;
            found.append(&mut rows);
        }
        let mut deliveries: Vec<i64> = found.iter().map(|(delivery, _)| *delivery).collect();
        deliveries.sort_unstable();
        deliveries.dedup();
        lock(&mut connection, &deliveries).await?;
        let sql = in_list!(
            connection,
            "UPDATE delivery_items SET state = 'cancelled', ended_at = $1, lease_until = 0, fence = fence + 1 WHERE state = 'waiting' AND id",
            "$2",
            ""
        );
        let mut cancelled = 0;
        for items in found.chunks(CHUNK) {
            cancelled += execute!(connection, sql, now.0, Ids(items.iter().map(|(_, item)| *item).collect()))?;
        }
        for delivery in deliveries {
            if tally(&mut connection, delivery).await?.waiting == 0 {
                end(&mut connection, delivery, DeliveryState::Cancelled, now, event).await?;
            }
        }
        connection.commit().await?;
        Ok(cancelled)
    }

    /// A whole delivery is not wanted any more, audited: `open → cancelled`. None if it is not open.
    pub async fn cancel_delivery(&self, key: DeliveryKey, event: &AuditEvent) -> Result<Option<EndedDelivery>> {
        again!(COLLISIONS, self.cancel_whole_once(key, event))
    }

    async fn cancel_whole_once(&self, key: DeliveryKey, event: &AuditEvent) -> Result<Option<EndedDelivery>> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        if lock(&mut connection, &[key.0]).await? == 0 {
            return Ok(None);
        }
        end_items(&mut connection, key, DeliveryState::Cancelled, now).await?;
        let ended = end(&mut connection, key.0, DeliveryState::Cancelled, now, event).await?;
        connection.commit().await?;
        Ok(ended)
    }

    /// Ends every lease this node holds on deliveries and their images: it just started. What is still under way somewhere has lost
    /// its lease.
    pub async fn release_deliveries(&self, node: NodeId) -> Result<()> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let sql = "UPDATE deliveries SET lease_until = 0, fence = fence + 1 WHERE node = $1 AND lease_until > 0 AND state = 'open'";
        execute!(connection, sql, node)?;
        let sql = "UPDATE delivery_items SET lease_until = 0, fence = fence + 1 WHERE node = $1 AND lease_until > 0 AND state = 'waiting'";
        execute!(connection, sql, node)?;
        connection.commit().await
    }

    /// Forgets some of the deliveries that ended longer ago than `kept`. Their audit stays.
    pub async fn forget_deliveries(&self, kept: std::time::Duration) -> Result<u64> {
        let mut connection = self.write().await?;
        let before = now(&mut connection).await?.before(kept);
        let sql = "SELECT id FROM deliveries WHERE ended_at < $1 ORDER BY ended_at LIMIT $2";
        let old: Vec<(i64,)> = fetch_all!(connection, sql, before.0, FORGOTTEN)?;
        let old = Ids(old.into_iter().map(|(id,)| id).collect());
        let sql = in_list!(connection, "DELETE FROM delivery_items WHERE delivery", "$1", "");
        execute!(connection, sql, old.clone())?;
        let sql = in_list!(connection, "DELETE FROM deliveries WHERE id", "$1", "");
        let forgotten = execute!(connection, sql, old)?;
        connection.commit().await?;
        Ok(forgotten)
    }

    /// Whether one of some objects lies in a pack that is being restored, or is archived as far as is known.
    pub async fn any_archived(&self, objects: &[ObjectId]) -> Result<bool> {
        let mut connection = self.read().await?;
        let sql = in_uuids!(
            connection,
            "SELECT o.id FROM objects o JOIN packs p ON p.id = o.pack
             WHERE (p.state IN ('archive_access', 'deep_archive_access')
                    OR EXISTS (SELECT 1 FROM restores r WHERE r.pack = p.id AND r.state IN ('wanted', 'restoring'))) AND o.object_id",
            "$1",
            " LIMIT 1"
        );
        for objects in objects.chunks(CHUNK) {
            let objects = Uuids(objects.iter().map(|object| object.0).collect());
            let found: Option<(i64,)> = fetch_optional!(connection, sql, objects)?;
            if found.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A pack can be read again: what waits for images in it is due.
pub(super) async fn pack_readable(connection: &mut Connection, pack: PackKey) -> Result<()> {
    // From the pack to its series to their items: an index leads from each to the next.
    let sql = "SELECT DISTINCT i.delivery FROM packs p JOIN objects o ON o.series = p.series AND o.pack = p.id
               JOIN delivery_items i ON i.object = o.id AND i.state = 'waiting' WHERE p.id = $1 ORDER BY i.delivery";
    let waiting: Vec<(i64,)> = fetch_all!(connection, sql, pack.0)?;
    if waiting.is_empty() {
        return Ok(());
    }
    let waiting: Vec<i64> = waiting.into_iter().map(|(delivery,)| delivery).collect();
    lock(connection, &waiting).await?;
    let sql = in_list!(
        connection,
        "UPDATE deliveries SET next_at = 0, wakes = wakes + 1 WHERE state = 'open' AND id",
        "$1",
        ""
    );
    execute!(connection, sql, Ids(waiting))?;
    Ok(())
}

/// Locks those of some deliveries that are open, by key, and says how many those are. SQLite has locked the database already.
async fn lock(connection: &mut Connection, deliveries: &[i64]) -> Result<usize> {
    let sql = in_list!(
        connection,
        "SELECT id FROM deliveries WHERE state = 'open' AND id",
        "$1",
        " ORDER BY id",
        " FOR UPDATE"
    );
    let open: Vec<(i64,)> = fetch_all!(connection, sql, Ids(deliveries.to_vec()))?;
    Ok(open.len())
}

/// What waits of a delivery becomes what the delivery becomes.
async fn end_items(connection: &mut Connection, key: DeliveryKey, state: DeliveryState, now: Timestamp) -> Result<()> {
    let sql = "UPDATE delivery_items SET state = $2, ended_at = $3, lease_until = 0, fence = fence + 1
               WHERE delivery = $1 AND state = 'waiting'";
    execute!(connection, sql, key.0, state.as_str(), now.0)?;
    Ok(())
}

/// Ends a locked delivery, audited by study. Whoever works on it has lost its lease.
async fn end(
    connection: &mut Connection,
    delivery: i64,
    state: DeliveryState,
    now: Timestamp,
    event: &AuditEvent,
) -> Result<Option<EndedDelivery>> {
    let sql = "UPDATE deliveries SET state = $2, ended_at = $3, lease_until = 0, fence = fence + 1 WHERE id = $1 AND state = 'open'
               RETURNING destination, requester";
    let row: Option<(String, String)> = fetch_optional!(connection, sql, delivery, state.as_str(), now.0)?;
    let Some((destination, requester)) = row else {
        return Ok(None);
    };
    let sql = "SELECT st.study_uid, i.state, count(*) FROM delivery_items i JOIN objects o ON o.id = i.object
               JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study
               WHERE i.delivery = $1 GROUP BY st.study_uid, i.state ORDER BY st.study_uid";
    let counted: Vec<(String, String, i64)> = fetch_all!(connection, sql, delivery)?;
    let mut events = Vec::new();
    for of_study in counted.chunk_by(|one, other| one.0 == other.0) {
        let tally: DeliveryTally = of_study.iter().map(|(_, state, count)| (state.as_str(), *count)).collect();
        let actor = if event.actor.is_empty() {
            requester.clone()
        } else {
            event.actor.clone()
        };
        events.push(AuditEvent {
            actor,
            destination: destination.clone(),
            study_uid: of_study.first().map(|(study, ..)| study.clone()).unwrap_or_default(),
            outcome: tally.outcome(),
            instances: tally.sent,
            detail: format!("delivery {delivery} for {requester} {}: {tally}", state.as_str()),
            ..event.clone()
        });
    }
    audit::write(connection, &events).await?;
    Ok(Some(EndedDelivery {
        key: DeliveryKey(delivery),
        state,
        tally: tally(connection, delivery).await?,
    }))
}

async fn tally(connection: &mut Connection, delivery: i64) -> Result<DeliveryTally> {
    let sql = "SELECT state, count(*) FROM delivery_items WHERE delivery = $1 GROUP BY state";
    let counted: Vec<(String, i64)> = fetch_all!(connection, sql, delivery)?;
    Ok(counted.iter().map(|(state, count)| (state.as_str(), *count)).collect())
}

impl DeliveryTally {
    fn outcome(&self) -> AuditOutcome {
        match (self.refused + self.expired, self.sent, self.cancelled) {
            (0, _, 0) => AuditOutcome::Success,
            (0, ..) => AuditOutcome::Minor,
            (_, 0, _) => AuditOutcome::Serious,
            _ => AuditOutcome::Minor,
        }
    }
}

impl<'a> FromIterator<(&'a str, i64)> for DeliveryTally {
    fn from_iter<I: IntoIterator<Item = (&'a str, i64)>>(counted: I) -> DeliveryTally {
        let mut tally = DeliveryTally::default();
        for (state, count) in counted {
            let column = match state {
                "waiting" => &mut tally.waiting,
                "sent" => &mut tally.sent,
                "withdrawn" => &mut tally.withdrawn,
                "refused" => &mut tally.refused,
                "cancelled" => &mut tally.cancelled,
                _ => &mut tally.expired,
            };
            *column += unsigned(count);
        }
        tally
    }
}
