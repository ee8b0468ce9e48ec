//! What is read of deliveries: by people, and by the metrics.

use sqlx::FromRow;

use crate::catalogue::database::{fetch_all, fetch_optional, in_list};
use crate::catalogue::lists::Ids;
use crate::catalogue::rows::{read_title, unsigned};
use crate::catalogue::{Catalogue, DeliveryCounts, DeliveryKey, DeliveryState, DeliverySummary, DeliveryTally, Error, Result};
use crate::model::Timestamp;

#[derive(FromRow)]
struct SummaryRow {
    id: i64,
    destination: String,
    requester: String,
    state: String,
    asked_at: i64,
    deadline: i64,
    ended_at: Option<i64>,
    attempts: i64,
    error: String,
}

impl Catalogue {
    /// What all nodes still have to deliver.
    pub async fn delivery_counts(&self) -> Result<DeliveryCounts> {
        let mut connection = self.read().await?;
        let sql = "SELECT (SELECT count(*) FROM deliveries WHERE state = 'open'),
                          (SELECT count(*) FROM delivery_items WHERE state = 'waiting')";
        let row: Option<(i64, i64)> = fetch_optional!(connection, sql)?;
        let (open, waiting) = row.unwrap_or_default();
        Ok(DeliveryCounts {
            open: unsigned(open),
            waiting: unsigned(waiting),
        })
    }

    /// Deliveries, open ones first, of either the newest first.
    pub async fn deliveries(&self, limit: u32) -> Result<Vec<DeliverySummary>> {
        let mut connection = self.read().await?;
        let sql = "SELECT id, destination, requester, state, asked_at, deadline, ended_at, attempts, error FROM deliveries
                   ORDER BY CASE WHEN state = 'open' THEN 0 ELSE 1 END, id DESC LIMIT $1";
        let rows: Vec<SummaryRow> = fetch_all!(connection, sql, i64::from(limit))?;
        let sql = in_list!(
            connection,
            "SELECT delivery, state, count(*) FROM delivery_items WHERE delivery",
            "$1",
            " GROUP BY delivery, state"
        );
        let counted: Vec<(i64, String, i64)> = fetch_all!(connection, sql, Ids(rows.iter().map(|row| row.id).collect()))?;
        let read = |row: SummaryRow| {
            let of = counted.iter().filter(|(delivery, ..)| *delivery == row.id);
            let tally = of.map(|(_, state, count)| (state.as_str(), *count)).collect();
            row.read(tally)
        };
        rows.into_iter().map(read).collect()
    }
}

impl SummaryRow {
    fn read(self, tally: DeliveryTally) -> Result<DeliverySummary> {
        Ok(DeliverySummary {
            key: DeliveryKey(self.id),
            destination: read_title(&self.destination)?,
            requester: read_title(&self.requester)?,
            state: DeliveryState::parse(&self.state).ok_or_else(|| Error::Corrupt(format!("delivery state {:?}", self.state)))?,
            tally,
            asked_at: Timestamp(self.asked_at),
            deadline: Timestamp(self.deadline),
            ended_at: self.ended_at.map(Timestamp),
            attempts: unsigned(self.attempts),
            error: self.error,
        })
    }
}
