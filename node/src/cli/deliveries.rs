//! `filmroom deliveries`: what destinations still have to get after their C-MOVE ended, and what became of it.

use anyhow::bail;
use filmroom_index::catalogue::{AuditEvent, DeliveryKey, DeliverySummary};
use filmroom_index::clock::Clock;
use serde_json::json;

use super::act::os_user;
use super::report::{instant, open, second};
use crate::config::Config;

/// `filmroom deliveries …`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Deliveries {
    #[command(subcommand)]
    command: Option<Command>,
    /// At most this many
    #[arg(long, default_value_t = 1000)]
    limit: u32,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send nothing more of a delivery
    Cancel {
        /// Its id
        id: i64,
    },
}

/// Lists or cancels.
pub(crate) async fn run(config: &Config, deliveries: Deliveries) -> anyhow::Result<()> {
    match deliveries.command {
        None => list(config, deliveries.limit, deliveries.json).await,
        Some(Command::Cancel { id }) => cancel(config, id).await,
    }
}

async fn list(config: &Config, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let deliveries = catalogue.deliveries(limit).await?;
    if as_json {
        deliveries.iter().for_each(|delivery| println!("{}", describe(delivery)));
        return Ok(());
    }
    println!(
        "{:>6} {:<16} {:<16} {:<10} {:<20} {:<20} {:>8} {:>8}",
        "ID", "DESTINATION", "ASKED BY", "STATE", "SINCE", "UNTIL", "SENT", "WAITING"
    );
    for delivery in &deliveries {
        println!(
            "{:>6} {:<16} {:<16} {:<10} {:<20} {:<20} {:>8} {:>8}",
            delivery.key.0,
            delivery.destination,
            delivery.requester,
            delivery.state.as_str(),
            second(delivery.asked_at),
            second(delivery.deadline),
            delivery.tally.sent,
            delivery.tally.waiting
        );
        let tally = delivery.tally;
        let lost = tally.withdrawn + tally.refused + tally.cancelled + tally.expired;
        if lost > 0 {
            println!("{:>6} {tally}", "");
        }
        if !delivery.error.is_empty() {
            println!("{:>6} {}", "", delivery.error);
        }
    }
    Ok(())
}

async fn cancel(config: &Config, id: i64) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let event = AuditEvent::new(Clock::default().now(), "deliver", os_user());
    match catalogue.cancel_delivery(DeliveryKey(id), &event).await? {
        Some(ended) => println!("delivery {id} is cancelled: {}", ended.tally),
        None => bail!("delivery {id} is not open: see `filmroom deliveries`"),
    }
    Ok(())
}

fn describe(delivery: &DeliverySummary) -> serde_json::Value {
    let tally = &delivery.tally;
    json!({
        "id": delivery.key.0, "destination": delivery.destination.as_str(), "asked_by": delivery.requester.as_str(),
        "state": delivery.state.as_str(), "since": instant(delivery.asked_at), "until": instant(delivery.deadline),
        "ended": delivery.ended_at.map(instant), "waiting": tally.waiting, "sent": tally.sent, "withdrawn": tally.withdrawn,
        "refused": tally.refused, "cancelled": tally.cancelled, "expired": tally.expired, "attempts": delivery.attempts,
        "error": delivery.error,
    })
}
