//! Who works on a delivery: claims, pages of what is left, pauses, the end.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::{COLLISIONS, end, end_items, lock, tally};
use crate::catalogue::columns::clean;
use crate::catalogue::database::{Connection, again, execute, fetch_all, fetch_optional, held, in_list, now};
use crate::catalogue::find::locate_objects;
use crate::catalogue::lists::{Ids, Texts};
use crate::catalogue::rows::{node_row, read_title};
use crate::catalogue::{
    AuditEvent, Catalogue, DeliveryClaim, DeliveryItem, DeliveryItemKey, DeliveryKey, DeliveryPage, DeliveryState, EndedDelivery, Error,
    Located, Result, SeriesKey,
};
use crate::model::{AeTitle, NodeId, Timestamp};

/// Longest error on record, in characters.
const MAX_ERROR: usize = 1024;

#[derive(FromRow)]
struct ClaimedRow {
    id: i64,
    destination: String,
    requester: String,
    asked_at: i64,
    deadline: i64,
    attempts: i64,
    wakes: i64,
    fence: i64,
}

impl Catalogue {
    /// Leases the next delivery that is due: one that is to none of the destinations in `except`, or one to anybody whose deadline is
    /// before `clock`, the node's time.
    pub async fn claim_delivery(
        &self,
        node: NodeId,
        clock: Timestamp,
        lease: Duration,
        except: &[AeTitle],
    ) -> Result<Option<DeliveryClaim>> {
        let mut connection = self.write().await?;
        let node = node_row(&mut connection, node).await?;
        let now = now(&mut connection).await?;
        let sql = connection.pick(
            "UPDATE deliveries SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM deliveries WHERE state = 'open' AND lease_until <= $2
                         AND (deadline <= $4 OR (next_at <= $2 AND destination NOT IN (SELECT value FROM json_each($5))))
                         ORDER BY next_at, id LIMIT 1)
             RETURNING id, destination, requester, asked_at, deadline, attempts, wakes, fence",
            "UPDATE deliveries SET node = $1, lease_until = $3, fence = fence + 1
             WHERE id = (SELECT id FROM deliveries WHERE state = 'open' AND lease_until <= $2
                         AND (deadline <= $4 OR (next_at <= $2 AND destination <> ALL ($5)))
                         ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id, destination, requester, asked_at, deadline, attempts, wakes, fence",
        );
        let except: Texts = except.iter().map(AeTitle::as_str).collect();
        let row: Option<ClaimedRow> = fetch_optional!(connection, sql, node, now.0, now.after(lease).0, clock.0, except.clone())?;
        let Some(row) = row else {
            return Ok(None);
        };
        connection.commit().await?;
        row.read().map(Some)
    }

    /// Extends the lease.
    pub async fn renew_delivery(&self, claim: &DeliveryClaim, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE deliveries SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'open'";
        let changed = execute!(connection, sql, claim.key.0, claim.fence, until.0)?;
        held(connection, changed).await
    }

    /// What a delivery waits to send, from the series after `after` on: whole series, together about `limit` images, where one series
    /// has not more.
    pub async fn delivery_page(&self, node: NodeId, claim: &DeliveryClaim, after: Option<SeriesKey>, limit: u32) -> Result<DeliveryPage> {
        let mut connection = self.read().await?;
        let after = after.map_or(i64::MIN, |series| series.0);
        let sql = "SELECT o.series, count(*) FROM delivery_items i JOIN objects o ON o.id = i.object
                   WHERE i.delivery = $1 AND i.state = 'waiting' AND o.series > $2 GROUP BY o.series ORDER BY o.series LIMIT $3";
        let series: Vec<(i64, i64)> = fetch_all!(connection, sql, claim.key.0, after, i64::from(limit.max(1)))?;
        let mut images = 0;
        let within = |(_, count): &&(i64, i64)| {
            let fits = images == 0 || images + count <= i64::from(limit);
            images += count;
            fits
        };
        let Some((last, _)) = series.iter().take_while(within).last().copied() else {
            return Ok(DeliveryPage::default());
        };
        let sql = "SELECT i.id, v.object_id FROM delivery_items i JOIN objects o ON o.id = i.object
                   LEFT JOIN objects v ON v.sop_instance_uid = o.sop_instance_uid AND v.state = 'served' AND v.series = o.series
                   WHERE i.delivery = $1 AND i.state = 'waiting' AND o.series > $2 AND o.series <= $3 ORDER BY i.id";
        let rows: Vec<(i64, Option<Uuid>)> = fetch_all!(connection, sql, claim.key.0, after, last)?;
        let served: Vec<Uuid> = rows.iter().filter_map(|(_, object)| *object).collect();
        let mut items: HashMap<Uuid, DeliveryItemKey> = HashMap::new();
        let mut page = Vec::with_capacity(rows.len());
        for (item, object) in rows {
            match object {
                Some(object) => {
                    items.insert(object, DeliveryItemKey(item));
                }
                None => page.push(DeliveryItem {
                    key: DeliveryItemKey(item),
                    instance: None,
                }),
            }
        }
        for part in served.chunks(super::CHUNK) {
            let located: Vec<Located> = locate_objects(&mut connection, node, part).await?;
            page.extend(located.into_iter().filter_map(|instance| {
                Some(DeliveryItem {
                    key: items.get(&instance.object.0).copied()?,
                    instance: Some(instance),
                })
            }));
        }
        Ok(DeliveryPage {
            items: page,
            last: Some(SeriesKey(last)),
        })
    }

    /// These images are not served any more: `waiting → withdrawn`.
    pub async fn delivery_items_withdrawn(&self, claim: &DeliveryClaim, items: &[DeliveryItemKey]) -> Result<u64> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        check(&mut connection, claim).await?;
        let sql = in_list!(
            connection,
            "UPDATE delivery_items SET state = 'withdrawn', ended_at = $1
             WHERE state = 'waiting' AND lease_until <= $1 AND delivery = $2 AND id",
            "$3",
            ""
        );
        let items = Ids(items.iter().map(|item| item.0).collect());
        let withdrawn = execute!(connection, sql, now.0, claim.key.0, items)?;
        connection.commit().await?;
        Ok(withdrawn)
    }

    /// Not yet, for a reason: due again after `pause`, or at once if it was made due meanwhile. `failed`: the destination has failed,
    /// once more if it did the last time.
    pub async fn delivery_waits(&self, claim: &DeliveryClaim, why: &str, pause: Duration, failed: bool) -> Result<()> {
        let mut connection = self.write().await?;
        let next_at = now(&mut connection).await?.after(pause).0;
        let sql = "UPDATE deliveries SET error = $3, next_at = CASE WHEN wakes = $4 THEN $5 ELSE 0 END,
                   attempts = CASE WHEN $6 = 1 THEN attempts + 1 ELSE 0 END, lease_until = 0
                   WHERE id = $1 AND fence = $2 AND state = 'open'";
        let (why, failed) = (clean(why, MAX_ERROR), i64::from(failed));
        let changed = execute!(connection, sql, claim.key.0, claim.fence, why, claim.wakes, next_at, failed)?;
        held(connection, changed).await
    }

    /// Ends a delivery of which nothing waits any more, audited: `open → done`. None if something does.
    pub async fn end_delivery(&self, claim: &DeliveryClaim, event: &AuditEvent) -> Result<Option<EndedDelivery>> {
        let once = async || -> Result<Option<EndedDelivery>> {
            let mut connection = self.write().await?;
            check(&mut connection, claim).await?;
            if tally(&mut connection, claim.key.0).await?.waiting > 0 {
                return Ok(None);
            }
            let now = now(&mut connection).await?;
            let ended = end(&mut connection, claim.key.0, DeliveryState::Done, now, event).await?;
            connection.commit().await?;
            Ok(ended)
        };
        again!(COLLISIONS, once())
    }

    /// Its time is over, audited: `open → expired`, and so what of it waits.
    pub async fn expire_delivery(&self, claim: &DeliveryClaim, event: &AuditEvent) -> Result<Option<EndedDelivery>> {
        let once = async || -> Result<Option<EndedDelivery>> {
            let mut connection = self.write().await?;
            check(&mut connection, claim).await?;
            let now = now(&mut connection).await?;
            // What was sent to the last image in time is done.
            let state = match tally(&mut connection, claim.key.0).await?.waiting {
                0 => DeliveryState::Done,
                _ => DeliveryState::Expired,
            };
            end_items(&mut connection, claim.key, DeliveryState::Expired, now).await?;
            let ended = end(&mut connection, claim.key.0, state, now, event).await?;
            connection.commit().await?;
            Ok(ended)
        };
        again!(COLLISIONS, once())
    }
}

/// Locks a claimed delivery, if the lease is still held.
async fn check(connection: &mut Connection, claim: &DeliveryClaim) -> Result<()> {
    lock(connection, &[claim.key.0]).await?;
    let sql = "SELECT id FROM deliveries WHERE id = $1 AND fence = $2 AND state = 'open'";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, claim.key.0, claim.fence)?;
    row.map(|_| ()).ok_or(Error::LeaseLost)
}

impl ClaimedRow {
    fn read(self) -> Result<DeliveryClaim> {
        Ok(DeliveryClaim {
            key: DeliveryKey(self.id),
            destination: read_title(&self.destination)?,
            requester: read_title(&self.requester)?,
            asked_at: Timestamp(self.asked_at),
            deadline: Timestamp(self.deadline),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            wakes: self.wakes,
            fence: self.fence,
        })
    }
}
