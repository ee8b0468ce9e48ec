//! The tables and the JSON of `filmroom rules test`.

use std::time::Duration;

use filmroom_index::catalogue::KeptSeries;
use filmroom_tiering::rules::Keep;
use serde_json::{Value, json};

use super::tally::{Amount, Changes, GENERAL, Outcome, Tallies, Tally};

/// A duration as the configuration has it.
fn humane(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

fn keep(keep: Keep) -> String {
    match keep {
        Keep::For(time) => humane(time),
        Keep::Always => "never".to_owned(),
    }
}

fn described(outcome: &Outcome<'_>) -> Value {
    let treatment = &outcome.treatment;
    json!({
        "rule": treatment.rule, "evict_after": keep(treatment.keep), "archive": treatment.archive,
        "offload_after": humane(treatment.offload_after), "layout": treatment.layout.as_str(), "evict_now": outcome.evict, "offload_now": outcome.offload,
        "packs_to_tag": outcome.tagged.count, "packs_archived_already": outcome.archived.count,
    })
}

/// One series.
pub(super) fn series(series: &KeptSeries, before: &Outcome<'_>, after: Option<&Outcome<'_>>, as_json: bool) {
    let subject = &series.subject;
    if as_json {
        let line = json!({
            "study_uid": subject.study_uid.as_str(), "series_uid": subject.series_uid.as_str(), "modality": subject.modality,
            "source": subject.source, "instances": series.instances, "bytes": series.bytes,
            "hot_bytes": series.hot.map_or(0, |hot| hot.bytes), "now": described(before), "against": after.map(described),
        });
        println!("{line}");
        return;
    }
    println!("{}  {:<4} {:>9} bytes", subject.series_uid, subject.modality, series.bytes);
    for (name, outcome) in [("", Some(before)), ("against: ", after)] {
        let Some(outcome) = outcome else { continue };
        let treatment = &outcome.treatment;
        println!(
            "    {name}{}: evict_after {}, archive {}, offload_after {}, layout {}{}{}{}{}",
            treatment.rule.unwrap_or(GENERAL),
            keep(treatment.keep),
            treatment.archive,
            humane(treatment.offload_after),
            treatment.layout.as_str(),
            if outcome.evict { "; is evicted now" } else { "" },
            if outcome.offload { "; is packed now" } else { "" },
            told("packs get another tag", outcome.tagged),
            told("packs are archived already and stay so", outcome.archived),
        );
    }
}

fn told(what: &str, amount: Amount) -> String {
    match amount.count {
        0 => String::new(),
        count => format!("; {count} {what}"),
    }
}

fn amount(amount: Amount) -> Value {
    json!({ "count": amount.count, "bytes": amount.bytes })
}

fn tally(tally: &Tally) -> Value {
    json!({
        "rule": tally.rule, "series": amount(tally.series), "hot": amount(tally.hot), "kept_for_ever": amount(tally.kept),
        "evict_now": amount(tally.evict), "offload_now": amount(tally.offload), "packs_to_tag": amount(tally.tagged),
        "packs_archived_already": amount(tally.archived),
    })
}

fn changes(changes: &Changes) -> Value {
    json!({
        "treated_otherwise": amount(changes.treated), "evicted_now": amount(changes.evict), "kept_now": amount(changes.keep),
        "offloaded_now": amount(changes.offload), "of_another_layout": amount(changes.layout), "never_archived_any_more": amount(changes.forbid), "archived_again": amount(changes.allow),
    })
}

/// The whole catalogue.
pub(super) fn all(all: &Tallies<'_>, as_json: bool) {
    let sides: Vec<&[Tally]> = all.sides().collect();
    let compared = sides.len() > 1;
    if as_json {
        let lists: Vec<Value> = sides.iter().map(|side| side.iter().map(tally).collect()).collect();
        let document = json!({
            "now": lists.first(), "against": lists.get(1), "changes": compared.then(|| changes(&all.changes)),
        });
        println!("{document:#}");
        return;
    }
    for (title, side) in ["", "AGAINST"].into_iter().zip(sides) {
        if !title.is_empty() {
            println!("\n{title}");
        }
        table(side);
    }
    if compared {
        println!("\nWHAT WOULD CHANGE");
        let changes = &all.changes;
        for (what, amount) in [
            ("series treated otherwise", changes.treated),
            ("  evicted at once", changes.evict),
            ("  kept that are evicted now", changes.keep),
            ("  packed at once", changes.offload),
            ("  of another layout from now on", changes.layout),
            ("  never archived any more", changes.forbid),
            ("  archived again", changes.allow),
        ] {
            println!("{what:<32} {:>10} {:>18} bytes", amount.count, amount.bytes);
        }
    }
}

fn table(side: &[Tally]) {
    println!(
        "{:<32} {:>9} {:>16} {:>16} {:>9} {:>16} {:>9} {:>9} {:>9}",
        "RULE", "SERIES", "BYTES", "HOT BYTES", "EVICTED", "BYTES", "PACKED", "TAGGED", "ARCHIVED"
    );
    for tally in side {
        println!(
            "{:<32} {:>9} {:>16} {:>16} {:>9} {:>16} {:>9} {:>9} {:>9}",
            tally.rule,
            tally.series.count,
            tally.series.bytes,
            tally.hot.bytes,
            tally.evict.count,
            tally.evict.bytes,
            tally.offload.count,
            tally.tagged.count,
            tally.archived.count
        );
    }
    println!(
        "EVICTED, PACKED: series, now; TAGGED: packs that get another tag; ARCHIVED: packs of these that are archived already and stay so"
    );
}
