//! One image of a delivery: who sends it now, and that it was sent.

use std::time::Duration;

use sqlx::FromRow;

use super::COLLISIONS;
use crate::catalogue::database::{Connection, again, execute, fetch_all, fetch_optional, now};
use crate::catalogue::rows::node_row;
use crate::catalogue::{Catalogue, DeliveryClaim, DeliveryItemKey, Error, ItemLease, ItemTaken, Result};
use crate::model::{AeTitle, NodeId, ObjectId, Timestamp};

#[derive(FromRow)]
struct KnownItem {
    id: i64,
    state: String,
}

impl Catalogue {
    /// The database's time, for [`Catalogue::take_for_destination`].
    pub async fn database_time(&self) -> Result<Timestamp> {
        let mut connection = self.read().await?;
        now(&mut connection).await
    }

    /// Takes an image of a claimed delivery to send it.
    pub async fn take_delivery_item(
        &self,
        node: NodeId,
        claim: &DeliveryClaim,
        item: DeliveryItemKey,
        lease: Duration,
    ) -> Result<ItemTaken> {
        let mut connection = self.write().await?;
        let sql = "SELECT i.id, i.state FROM delivery_items i JOIN deliveries d ON d.id = i.delivery
                   WHERE i.id = $1 AND d.id = $2 AND d.fence = $3 AND d.state = 'open'";
        let known: Option<KnownItem> = fetch_optional!(connection, sql, item.0, claim.key.0, claim.fence)?;
        match known.ok_or(Error::LeaseLost)?.state.as_str() {
            "waiting" => take(connection, node, item, lease).await,
            _ => Ok(ItemTaken::Sent),
        }
    }

    /// Takes an image that a C-MOVE is about to send, if a delivery to that destination has it; `since` is the database's time at
    /// which the C-MOVE began: what a delivery has sent from then on need not be sent again.
    pub async fn take_for_destination(
        &self,
        node: NodeId,
        destination: &AeTitle,
        object: ObjectId,
        since: Timestamp,
        lease: Duration,
    ) -> Result<ItemTaken> {
        let mut connection = self.read().await?;
        let sql = "SELECT i.id, i.state FROM objects o JOIN objects v ON v.sop_instance_uid = o.sop_instance_uid
                   JOIN delivery_items i ON i.object = v.id AND i.destination = $1
                   WHERE o.object_id = $2 AND (i.state = 'waiting' OR (i.state = 'sent' AND i.ended_at >= $3))";
        let known: Vec<KnownItem> = fetch_all!(connection, sql, destination.as_str(), object.0, since.0)?;
        drop(connection);
        if known.iter().any(|item| item.state == "sent") {
            return Ok(ItemTaken::Sent);
        }
        match known.first() {
            None => Ok(ItemTaken::Free),
            Some(item) => take(self.write().await?, node, DeliveryItemKey(item.id), lease).await,
        }
    }

    /// Extends the lease on an image that takes long to send.
    pub async fn renew_delivery_item(&self, held: &ItemLease, lease: Duration) -> Result<()> {
        let mut connection = self.write().await?;
        let until = now(&mut connection).await?.after(lease);
        let sql = "UPDATE delivery_items SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'waiting'";
        let changed = execute!(connection, sql, held.item.0, held.fence, until.0)?;
        if changed == 0 {
            return Err(Error::LeaseLost);
        }
        connection.commit().await
    }

    /// The destination has the image: `→ sent`, whoever holds the lease and whatever was decided meanwhile, for it is so. A delivery
    /// of which nothing is left is due, to be ended.
    pub async fn delivery_item_sent(&self, held: &ItemLease) -> Result<()> {
        let once = async || {
            let mut connection = self.write().await?;
            let now = now(&mut connection).await?;
            let sql = "UPDATE deliveries SET next_at = 0, wakes = wakes + 1
                       WHERE state = 'open' AND id = (SELECT delivery FROM delivery_items WHERE id = $1) AND NOT EXISTS (
                          SELECT 1 FROM delivery_items i WHERE i.delivery = deliveries.id AND i.state = 'waiting' AND i.id <> $1)";
            execute!(connection, sql, held.item.0)?;
            let sql = "UPDATE delivery_items SET state = 'sent', ended_at = $2, lease_until = 0, fence = fence + 1
                       WHERE id = $1 AND state <> 'sent'";
            execute!(connection, sql, held.item.0, now.0)?;
            connection.commit().await
        };
        again!(COLLISIONS, once())
    }

    /// The image was not sent, for reasons that say nothing of it.
    pub async fn delivery_item_given_back(&self, held: &ItemLease) -> Result<()> {
        let mut connection = self.write().await?;
        let sql = "UPDATE delivery_items SET lease_until = 0 WHERE id = $1 AND fence = $2 AND state = 'waiting'";
        execute!(connection, sql, held.item.0, held.fence)?;
        connection.commit().await
    }

    /// The destination does not take this image, or it cannot be had in what the destination takes. After so many times it is given
    /// up: `waiting → refused`, and true is returned.
    pub async fn delivery_item_refused(&self, held: &ItemLease, times: u32) -> Result<bool> {
        let mut connection = self.write().await?;
        let now = now(&mut connection).await?;
        let sql = "UPDATE delivery_items SET lease_until = 0, refusals = refusals + 1,
                   state = CASE WHEN refusals + 1 >= $3 THEN 'refused' ELSE state END,
                   ended_at = CASE WHEN refusals + 1 >= $3 THEN $4 ELSE ended_at END
                   WHERE id = $1 AND fence = $2 AND state = 'waiting' RETURNING state";
        let row: Option<(String,)> = fetch_optional!(connection, sql, held.item.0, held.fence, i64::from(times), now.0)?;
        connection.commit().await?;
        Ok(row.is_some_and(|(state,)| state == "refused"))
    }
}

async fn take(mut connection: Connection, node: NodeId, item: DeliveryItemKey, lease: Duration) -> Result<ItemTaken> {
    let node = node_row(&mut connection, node).await?;
    let now = now(&mut connection).await?;
    let sql = "UPDATE delivery_items SET lease_until = $3, fence = fence + 1, node = $4
               WHERE id = $1 AND state = 'waiting' AND lease_until <= $2 RETURNING fence";
    let row: Option<(i64,)> = fetch_optional!(connection, sql, item.0, now.0, now.after(lease).0, node)?;
    let Some((fence,)) = row else {
        return Ok(ItemTaken::Busy);
    };
    connection.commit().await?;
    Ok(ItemTaken::Taken(ItemLease { item, fence }))
}
