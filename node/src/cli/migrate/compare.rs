//! `filmroom migrate compare`: what the other PACS has and what is here, side by side. It asks the remote itself and reads the catalogue, so it works
//! while the node runs and while it does not.

use anyhow::bail;
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_scp::migration::compare::Comparing;
use filmroom_scp::migration::compared::{Compared, Totals};
use serde_json::json;
use time::OffsetDateTime;

use super::super::progress;
use super::super::report::open;
use super::{BAR, Wanted, listed};
use crate::config::Config;

/// UIDs that a table names of one study.
const NAMED: usize = 3;

/// `migrate compare`
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The other PACS, an [[ae]] with an address
    ae: AeTitle,
    #[command(flatten)]
    wanted: Wanted,
    /// Get this share of the images once more by C-GET, and compare the SHA-256 of their data sets; nothing of them is kept
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = share)]
    digests: f64,
    /// Every study, instead of those only that differ
    #[arg(long)]
    all: bool,
    /// A line of JSON for each study, and one for the totals
    #[arg(long, conflicts_with = "tsv")]
    json: bool,
    /// Tab-separated values: a line for each study
    #[arg(long)]
    tsv: bool,
}

/// Compares; fails if something that the remote has is not here, or could not be compared.
pub(super) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    let peer = listed(config, &options.ae)?;
    let (catalogue, _) = open(config).await?;
    let selection = options.wanted.selection()?;
    let today = OffsetDateTime::from_unix_timestamp(Clock::default().now().0 / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let comparing = Comparing {
        settings: &config.dicom,
        catalogue: &catalogue,
        peer,
        selection: &selection,
        digests: options.digests,
        today: today.date(),
    };
    let bar = progress::bar(BAR);
    if options.tsv {
        println!(
            "study_uid\tstudy_date\tremote_series\tremote_images\there_series\there_images\tmissing\tquarantined\twithdrawn\tmore\tsame_bytes\tother_bytes\t\
             state"
        );
    } else if !options.json {
        println!(
            "{:<9} {:>15} {:>15} {:>8} {:>8}  STUDY INSTANCE UID",
            "DATE", "THERE", "HERE", "MISSING", "MORE"
        );
    }
    let mut compared = 0u64;
    let each = |study: &Compared| {
        compared += 1;
        bar.set_length(compared);
        bar.set_position(compared);
        bar.set_message("compared,");
        if options.all || !study.is_equal() || study.is_gone() || !study.more.is_empty() {
            bar.suspend(|| print(&options, study));
        }
    };
    let totals = comparing.run(each).await;
    bar.finish_and_clear();
    let totals = totals?;
    if options.json {
        println!("{}", in_json(&totals));
    } else if !options.tsv {
        summary(&totals);
    }
    if !totals.is_equal() {
        bail!(
            "{}: {} images are not here, {} are in quarantine, {} have other bytes, {} things could not be compared",
            options.ae,
            totals.missing,
            totals.quarantined,
            totals.other_bytes,
            totals.unknown.len()
        );
    }
    Ok(())
}

fn print(options: &Options, study: &Compared) {
    let (there, here) = (study.there, study.here);
    let uid = &study.study.study_uid;
    if options.json {
        println!("{}", study_in_json(study));
        return;
    }
    if options.tsv {
        let (missing, quarantined, withdrawn) = (study.missing.len(), study.quarantined.len(), study.withdrawn.len());
        let (more, same, other) = (study.more.len(), study.same_bytes, study.other_bytes.len());
        println!(
            "{uid}\t{}\t{}\t{}\t{}\t{}\t{missing}\t{quarantined}\t{withdrawn}\t{more}\t{same}\t{other}\t{}",
            study.study.study_date,
            there.0,
            there.1,
            here.0,
            here.1,
            state(study)
        );
        return;
    }
    println!(
        "{:<9} {:>6} / {:>6} {:>6} / {:>6} {:>8} {:>8}  {uid}",
        study.study.study_date,
        there.0,
        there.1,
        here.0,
        here.1,
        study.missing.len(),
        study.more.len()
    );
    let line = |what: &str, text: String| println!("{:<9} {what}: {text}", "");
    if study.is_gone() {
        line("gone", "the remote does not have it any more".to_owned());
    }
    if !study.missing.is_empty() {
        line("missing", named(&study.missing));
    }
    for (image, why) in study.quarantined.iter().take(NAMED) {
        line("in quarantine", format!("{image}: {why}"));
    }
    if !study.other_bytes.is_empty() {
        line("other bytes", named(&study.other_bytes));
    }
    if !study.withdrawn.is_empty() {
        line("withdrawn here", named(&study.withdrawn));
    }
    for why in &study.unknown {
        line("not compared", why.clone());
    }
}

fn named(uids: &[Uid]) -> String {
    let first: Vec<&str> = uids.iter().take(NAMED).map(Uid::as_str).collect();
    let more = uids.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(" "))
}

/// A study in a word.
fn state(study: &Compared) -> &'static str {
    match (study.is_gone(), study.is_equal()) {
        (true, _) if study.here.1 == 0 => "gone",
        (true, _) => "only_here",
        (false, true) => "equal",
        (false, false) => "differs",
    }
}

fn study_in_json(study: &Compared) -> serde_json::Value {
    let uids = |uids: &[Uid]| uids.iter().map(Uid::to_string).collect::<Vec<_>>();
    let quarantined: Vec<_> = study
        .quarantined
        .iter()
        .map(|(image, why)| json!({ "sop_instance_uid": image.as_str(), "reason": why }))
        .collect();
    json!({
        "study_uid": study.study.study_uid.as_str(), "study_date": study.study.study_date, "state": state(study),
        "remote": { "series": study.there.0, "images": study.there.1 }, "here": { "series": study.here.0, "images": study.here.1 },
        "missing": uids(&study.missing), "quarantined": quarantined, "withdrawn": uids(&study.withdrawn), "more": uids(&study.more),
        "same_bytes": study.same_bytes, "other_bytes": uids(&study.other_bytes), "other_syntax": study.other_syntax, "not_compared": study.unknown,
    })
}

fn in_json(totals: &Totals) -> serde_json::Value {
    json!({
        "studies": totals.studies, "equal": totals.equal, "gone": totals.gone, "series": totals.there.0, "images": totals.there.1,
        "missing": totals.missing, "quarantined": totals.quarantined, "withdrawn": totals.withdrawn, "more": totals.more,
        "same_bytes": totals.same_bytes, "other_bytes": totals.other_bytes, "other_syntax": totals.other_syntax, "not_compared": totals.unknown,
    })
}

fn summary(totals: &Totals) {
    println!(
        "{} studies at the remote with {} series and {} images: {} studies are here in full",
        totals.studies, totals.there.0, totals.there.1, totals.equal
    );
    for (count, what) in [
        (totals.missing, "images are missing here"),
        (totals.quarantined, "images are in quarantine here"),
        (totals.withdrawn, "images were withdrawn, replaced or deleted here"),
        (totals.more, "images are here and not at the remote"),
        (
            totals.gone,
            "studies were found when they were to be brought, and are not at the remote any more",
        ),
        (totals.same_bytes, "images have the same bytes"),
        (totals.other_bytes, "images have other bytes"),
        (
            totals.other_syntax,
            "images were sent in another transfer syntax than they are kept in",
        ),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    for why in &totals.unknown {
        println!("not compared: {why}");
    }
}

/// A share in percent, as 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>().ok();
    number
        .filter(|number| (0.0..=100.0).contains(number))
        .map(|number| number / 100.0)
        .ok_or_else(|| format!("{text:?} is no share: write such as 5%"))
}
