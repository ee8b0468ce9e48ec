//! `filmroom cost`: what the archive in the catalogue costs, will cost, and would cost in other ways.

use filmroom_index::catalogue::{Counts, PackState, RestoreGroup, SizeSample};
use filmroom_index::model::RestoreTier;
use filmroom_tiering::cold::{ArchiveDays, ColdStore};
use filmroom_tiering::cost::{Amount, Bill, Layout, Plan, Policy, Prices, Quote, StudySize, plans, quote};
use serde_json::{Value, json};

use super::counted::Counted;
use super::figures::{self, grouped};
use crate::cli::{report, serve};
use crate::config::Config;

/// Months of the forecast.
const MONTHS: u32 = 12;

/// With what an archive is compared that has no archive tiers: the earliest that S3 takes.
const ASSUMED: ArchiveDays = ArchiveDays {
    access: Some(90),
    deep: Some(180),
};

/// When the store archives, and who says so.
struct Days {
    days: ArchiveDays,
    from: &'static str,
}

/// All that is said of an archive.
struct Costs {
    days: Days,
    counts: Counts,
    counted: Counted,
    sample: SizeSample,
    restores: Vec<RestoreGroup>,
    now: Quote,
    forecast: Vec<(Amount, Bill)>,
    others: Vec<Quote>,
}

/// Prints it.
pub(super) async fn report(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (catalogue, node) = report::open(config).await?;
    let at = serve::clock().now();
    let (sample, restores) = (catalogue.instance_sizes().await?, catalogue.accepted_restores(at).await?);
    let counted = Counted::new(&catalogue.packs_by_age(at).await?, &sample, &restores);
    let counts = catalogue.counts(node).await?;
    let days = archive_days(config).await;
    let costs = reckon(&config.prices, days, counts, counted, sample, restores);
    if as_json {
        println!("{}", document(&config.prices, &costs));
    } else {
        print(&config.prices, &costs);
    }
    Ok(())
}

/// As the bucket is configured, or as the configuration says where it does not answer.
async fn archive_days(config: &Config) -> Days {
    let days = |days: Option<ArchiveDays>, from| Days {
        days: days.unwrap_or_default(),
        from,
    };
    let Some(settings) = &config.archive.cold else {
        return days(None, "there is no cold store");
    };
    let asked = match ColdStore::open(settings).await {
        Ok(store) => store.archive_rule().await.map(|rule| rule.allowed),
        Err(error) => Err(error),
    };
    match asked {
        Ok(found) => days(found, "the cold store's own configuration"),
        Err(error) => {
            tracing::debug!(%error, "the cold store does not say when it archives");
            days(settings.archive, "[cold.archive]: the cold store did not answer")
        }
    }
}

fn reckon(prices: &Prices, days: Days, counts: Counts, counted: Counted, sample: SizeSample, restores: Vec<RestoreGroup>) -> Costs {
    let present = Policy::Archive(days.days);
    let now = ask(
        Plan {
            layout: Layout::Packs,
            policy: present,
        },
        &counted,
        counts.studies,
        prices,
    );
    let archives = days.days != ArchiveDays::default();
    let others = plans(if archives { days.days } else { ASSUMED })
        .into_iter()
        .map(|plan| ask(plan, &counted, counts.studies, prices))
        .collect();
    let mut population = counted.packs.clone();
    let forecast = (0..MONTHS).map(|_| {
        let arriving = counted.arriving + counted.arriving_kept;
        let flow = population.flow(present, arriving, counted.read, counted.expedited);
        population.advance(counted.arriving, counted.arriving_kept, counted.read);
        let holding = population.holding(present);
        (holding.total(), Bill::of(&holding, &flow, prices))
    });
    Costs {
        forecast: forecast.collect(),
        days,
        counts,
        sample,
        restores,
        now,
        others,
        counted,
    }
}

/// The last month of a plan.
fn ask(plan: Plan, counted: &Counted, studies: u64, prices: &Prices) -> Quote {
    let (population, mut flow) = match plan.layout {
        Layout::Packs => (&counted.packs, counted.flow_of_packs()),
        Layout::Instances => (&counted.instances, counted.flow_of_instances()),
    };
    if !matches!(plan.policy, Policy::Archive(_)) {
        (flow.restored, flow.expedited) = (Amount::default(), Amount::default());
    }
    let all = population
        .cohorts
        .iter()
        .fold(filmroom_tiering::cost::Sizes::default(), |sum, cohort| sum + cohort.sizes);
    quote(plan, population, flow, StudySize::of(all, studies as f64), prices)
}

/// What restores of a kind cost.
fn spent(group: &RestoreGroup, prices: &Prices) -> f64 {
    match group.tier {
        RestoreTier::Expedited => prices.expedited_restore(Amount {
            objects: group.restores as f64,
            bytes: group.bytes as f64,
        }),
        RestoreTier::Standard | RestoreTier::Bulk => 0.0,
    }
}

fn document(prices: &Prices, costs: &Costs) -> Value {
    let observed = costs
        .counted
        .observed
        .iter()
        .map(|(state, amount)| (observed_name(*state).to_owned(), figures::amount(*amount)));
    let restores = costs.restores.iter().map(|group| {
        json!({
            "months_ago": group.months, "tier": group.tier.as_str(), "archived_in": group.archived_in.as_str(), "restores": group.restores,
            "bytes": group.bytes, "cost": spent(group, prices),
        })
    });
    let sizes = costs.sample.groups.iter();
    let sizes = sizes.map(|group| json!({ "from": group.from, "packed": group.packed, "instances": group.objects, "bytes": group.bytes }));
    let forecast = costs.forecast.iter().zip(1u32..).map(
        |((total, bill), month)| json!({ "month": month, "objects": total.objects.round(), "bytes": total.bytes.round(), "monthly": figures::bill(bill) }),
    );
    let counted = &costs.counted;
    let arriving = (counted.arriving + counted.arriving_kept).total();
    json!({
        "prices": figures::prices(prices),
        "archive": { "access_days": costs.days.days.access, "deep_days": costs.days.days.deep, "from": costs.days.from },
        "studies": costs.counts.studies,
        "hot": { "objects": costs.counts.of_node.hot_objects, "bytes": costs.counts.of_node.hot_bytes },
        "observed": observed.collect::<serde_json::Map<_, _>>(),
        "now": figures::quote(&costs.now),
        "restores": restores.collect::<Vec<_>>(),
        "restored_for": costs.restores.iter().map(|group| spent(group, prices)).sum::<f64>(),
        "sizes": { "complete": costs.sample.complete, "looked_at": costs.sample.looked_at, "groups": sizes.collect::<Vec<_>>() },
        "goes_on": {
            "packs_a_month": arriving.objects, "bytes_a_month": arriving.bytes, "mean_of_months": counted.months, "restored_share": counted.read,
            "expedited_share": counted.expedited,
        },
        "forecast": forecast.collect::<Vec<_>>(),
        "compared": costs.others.iter().map(figures::quote).collect::<Vec<_>>(),
        "archive_tiers_assumed": costs.days.days == ArchiveDays::default(),
    })
}

/// What a pack's state says of reading it.
fn observed_name(state: PackState) -> &'static str {
    if state == PackState::Verified { "readable" } else { state.as_str() }
}

fn print(prices: &Prices, costs: &Costs) {
    let gb = |bytes: f64| grouped(bytes / f64::from(1u32 << 30), 3);
    println!("In {}; a GB is 2^30 bytes. Prices: {}", prices.currency, prices.source);
    let tier = |days: Option<u32>| days.map_or_else(|| "never".to_owned(), |days| format!("after {days} days"));
    let ArchiveDays { access, deep } = costs.days.days;
    println!(
        "Archive Access {}, Deep Archive Access {} ({})\n",
        tier(access),
        tier(deep),
        costs.days.from
    );
    println!(
        "hot here: {} objects, {} GB",
        grouped(costs.counts.of_node.hot_objects as f64, 0),
        gb(costs.counts.of_node.hot_bytes as f64)
    );
    println!("\nLAST SEEN OF PACKS");
    for (state, amount) in &costs.counted.observed {
        println!(
            "{:<30} {:>15} {:>15} GB",
            observed_name(*state),
            grouped(amount.objects, 0),
            gb(amount.bytes)
        );
    }
    println!("\nSIZES OF INSTANCES{}", if costs.sample.complete { "" } else { " (of a sample)" });
    let mut sizes = std::collections::BTreeMap::<u64, (u64, u64)>::new();
    for group in &costs.sample.groups {
        let size = sizes.entry(group.from).or_default();
        *size = (size.0 + group.objects, size.1 + group.bytes);
    }
    for (from, (objects, bytes)) in sizes {
        let name = format!("from {} KB", grouped(from as f64 / 1024.0, 0));
        println!("{name:<30} {:>15} {:>15} GB", grouped(objects as f64, 0), gb(bytes as f64));
    }
    println!("\nRESTORES OF TWELVE MONTHS");
    let mut kinds = std::collections::BTreeMap::<(&str, &str), (u64, u64, f64)>::new();
    for group in &costs.restores {
        let kind = kinds.entry((group.archived_in.as_str(), group.tier.as_str())).or_default();
        *kind = (kind.0 + group.restores, kind.1 + group.bytes, kind.2 + spent(group, prices));
    }
    for ((archived_in, tier), (restores, bytes, cost)) in kinds {
        let name = format!("{archived_in}, {tier}");
        println!(
            "{name:<30} {:>15} {:>15} GB {:>12}",
            grouped(restores as f64, 0),
            gb(bytes as f64),
            grouped(cost, 2)
        );
    }
    println!("\nTHE NEXT TWELVE MONTHS, as the last {} went on", costs.counted.months);
    for ((total, bill), month) in costs.forecast.iter().zip(1u32..) {
        println!(
            "{month:<30} {:>15} {:>15} GB {:>12}",
            grouped(total.objects, 0),
            gb(total.bytes),
            grouped(bill.total(), 2)
        );
    }
    println!("\nTHE LAST MONTH, predicted tiers; and the same archive kept in other ways");
    if costs.days.days == ArchiveDays::default() {
        println!("(this one has no archive tiers: they are shown after 90 and 180 days)");
    }
    println!();
    let quotes: Vec<&Quote> = costs.others.iter().collect();
    figures::table(&quotes, &[]);
    println!(
        "\nthis archive as it is: {} a month. {}",
        grouped(costs.now.bill.total(), 2),
        figures::NOT_RECKONED
    );
}
