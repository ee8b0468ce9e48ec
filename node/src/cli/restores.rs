//! `filmroom restores`: what comes back out of S3's archive tiers, for whom, how fast, when, and what it costs.

use filmroom_index::catalogue::RestoreSummary;
use filmroom_index::model::RestoreTier;
use filmroom_tiering::cost::{Amount, Prices};
use serde_json::json;

use super::report::{instant, open, second};
use crate::config::Config;

/// `filmroom restores`
#[derive(Debug, clap::Args)]
pub(crate) struct Restores {
    /// At most this many
    #[arg(long, default_value_t = 1000)]
    limit: u32,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(crate) async fn run(config: &Config, restores: Restores) -> anyhow::Result<()> {
    let (catalogue, _) = open(config).await?;
    let list = catalogue.restores(restores.limit).await?;
    if restores.json {
        list.iter().for_each(|restore| println!("{}", describe(restore, &config.prices)));
        return Ok(());
    }
    println!(
        "{:<10} {:<10} {:<20} {:<16} {:<20} {:<20} {:>14} {:>8}  STUDY",
        "STATE", "TIER", "FROM", "ASKED BY", "SINCE", "READABLE", "BYTES", config.prices.currency
    );
    for restore in &list {
        // Of what has failed there is no time to come.
        let readable = match (restore.ended_at, restore.state.is_open()) {
            (Some(at), _) => second(at),
            (None, true) => format!("~{}", second(restore.expected_at)),
            (None, false) => String::new(),
        };
        println!(
            "{:<10} {:<10} {:<20} {:<16} {:<20} {:<20} {:>14} {:>8.2}  {}",
            restore.state.as_str(),
            tier(restore).as_str(),
            restore.archived_in.as_str(),
            restore.requester,
            second(restore.wanted_at),
            readable,
            restore.bytes,
            cost(restore, &config.prices),
            restore.study_uid
        );
        if !restore.error.is_empty() {
            println!("{:<10} {}", "", restore.error);
        }
    }
    Ok(())
}

/// How fast it is, or is to be.
fn tier(restore: &RestoreSummary) -> RestoreTier {
    restore.accepted.unwrap_or(restore.wanted)
}

/// What S3 charges for it by the price list: Expedited only, and once it was accepted.
fn cost(restore: &RestoreSummary, prices: &Prices) -> f64 {
    match restore.accepted {
        Some(RestoreTier::Expedited) => prices.expedited_restore(Amount {
            objects: 1.0,
            bytes: restore.bytes as f64,
        }),
        _ => 0.0,
    }
}

fn describe(restore: &RestoreSummary, prices: &Prices) -> serde_json::Value {
    json!({
        "study": restore.study_uid.as_str(), "series": restore.series_uid.as_str(), "key": restore.cold_key,
        "state": restore.state.as_str(), "wanted": restore.wanted.as_str(), "accepted": restore.accepted.map(RestoreTier::as_str),
        "archived_in": restore.archived_in.as_str(), "bytes": restore.bytes, "asked_by": restore.requester.as_str(),
        "since": instant(restore.wanted_at), "accepted_at": restore.requested_at.map(instant), "expected": instant(restore.expected_at),
        "ended": restore.ended_at.map(instant), "cost": cost(restore, prices), "currency": prices.currency, "error": restore.error,
    })
}
