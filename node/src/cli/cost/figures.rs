//! Quotes as tables and as JSON, and how numbers are written.

use filmroom_tiering::cost::{Amount, Bill, Holding, Prices, Quote, Tier};
use serde_json::{Map, Value, json};

/// What no figure contains.
pub(super) const NOT_RECKONED: &str = "Not reckoned: transfer out of the region, GETs and HEADs, keys of KMS, journal, taxes.";

/// A row of the tables: what it is called, and its figure of a quote.
type Row = (&'static str, fn(&Quote) -> String);

const ROWS: &[Row] = &[
    ("objects", |quote| grouped(quote.holding.total().objects, 0)),
    ("  too small to be tiered", |quote| {
        grouped(quote.holding.get(Tier::Small).objects, 0)
    }),
    ("GB", |quote| gigabytes(quote.holding.total())),
    ("  STANDARD", |quote| gigabytes(quote.holding.get(Tier::Standard))),
    ("  too small to be tiered", |quote| gigabytes(quote.holding.get(Tier::Small))),
    ("  Frequent Access", |quote| gigabytes(quote.holding.get(Tier::Frequent))),
    ("  Infrequent Access", |quote| gigabytes(quote.holding.get(Tier::Infrequent))),
    ("  Archive Instant Access", |quote| {
        gigabytes(quote.holding.get(Tier::ArchiveInstant))
    }),
    ("  Archive Access", |quote| gigabytes(quote.holding.get(Tier::Archive))),
    ("  Deep Archive Access", |quote| gigabytes(quote.holding.get(Tier::DeepArchive))),
    ("manifests, GB", |quote| gigabytes(quote.holding.manifests)),
    ("A MONTH", |_| String::new()),
    ("  STANDARD", |quote| grouped(quote.bill.storage_of(Tier::Standard), 2)),
    ("  too small to be tiered", |quote| grouped(quote.bill.storage_of(Tier::Small), 2)),
    ("  Frequent Access", |quote| grouped(quote.bill.storage_of(Tier::Frequent), 2)),
    ("  Infrequent Access", |quote| grouped(quote.bill.storage_of(Tier::Infrequent), 2)),
    ("  Archive Instant Access", |quote| {
        grouped(quote.bill.storage_of(Tier::ArchiveInstant), 2)
    }),
    ("  Archive Access", |quote| grouped(quote.bill.storage_of(Tier::Archive), 2)),
    ("  Deep Archive Access", |quote| {
        grouped(quote.bill.storage_of(Tier::DeepArchive), 2)
    }),
    ("  monitoring", |quote| grouped(quote.bill.monitoring, 2)),
    ("  metadata of what is archived", |quote| grouped(quote.bill.metadata, 2)),
    ("  manifests", |quote| grouped(quote.bill.manifests, 2)),
    ("  PUTs of what arrives", |quote| grouped(quote.bill.puts, 2)),
    ("  Expedited restores", |quote| grouped(quote.bill.restores, 2)),
    ("  total", |quote| grouped(quote.bill.total(), 2)),
    ("a study restored Expedited", |quote| {
        quote.study_expedited.map_or_else(|| "-".to_owned(), |cost| grouped(cost, 4))
    }),
    ("waits for a restore, GB", |quote| {
        gigabytes(quote.holding.get(Tier::Archive) + quote.holding.get(Tier::DeepArchive))
    }),
];

/// Columns of figures under the names of the plans, and more rows after those of every quote.
pub(super) fn table(quotes: &[&Quote], more: &[(&str, Vec<String>)]) {
    let line = |name: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>15}")).collect();
        println!("{}", format!("{name:<30}{cells}").trim_end());
    };
    let column = |text: fn(&Quote) -> String| quotes.iter().map(|quote| text(quote)).collect::<Vec<_>>();
    line(
        "",
        &column(|quote| quote.plan.layout.as_str().split(' ').next_back().unwrap_or_default().to_uppercase()),
    );
    line(
        "",
        &column(|quote| {
            let name = quote.plan.name();
            name.rsplit(", ").next().unwrap_or(name).to_owned()
        }),
    );
    for (name, text) in ROWS {
        line(name, &column(*text));
    }
    for (name, cells) in more {
        line(name, cells);
    }
    println!();
    for quote in quotes {
        println!(
            "{}, {}: waiting {}",
            quote.plan.layout.as_str(),
            quote.plan.name(),
            quote.plan.policy.waiting()
        );
    }
}

/// The prices, as they were reckoned with.
pub(super) fn prices(prices: &Prices) -> Value {
    json!({
        "currency": prices.currency, "source": prices.source, "standard": prices.standard.0, "frequent": prices.frequent.0,
        "infrequent": prices.infrequent, "archive_instant": prices.archive_instant, "archive_access": prices.archive,
        "deep_archive_access": prices.deep_archive, "monitoring": prices.monitoring, "put": prices.put,
        "expedited_requests": prices.expedited_requests, "expedited": prices.expedited,
    })
}

/// A plan and a month of it.
pub(super) fn quote(quote: &Quote) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("layout".to_owned(), json!(quote.plan.layout.as_str()));
    object.insert("keeping".to_owned(), json!(quote.plan.name()));
    object.insert("waiting".to_owned(), json!(quote.plan.policy.waiting()));
    object.insert("tiers".to_owned(), tiers(&quote.holding, &quote.bill));
    object.insert("manifests".to_owned(), amount(quote.holding.manifests));
    object.insert("monthly".to_owned(), bill(&quote.bill));
    object.insert("puts".to_owned(), json!(quote.flow.puts.round()));
    object.insert("restored".to_owned(), amount(quote.flow.restored));
    object.insert("study_expedited".to_owned(), json!(quote.study_expedited));
    object
}

/// What lies in each tier and costs there.
fn tiers(holding: &Holding, bill: &Bill) -> Value {
    let tier = |tier: Tier| {
        let amount = holding.get(tier);
        let figures = json!({ "objects": amount.objects.round(), "bytes": amount.bytes.round(), "monthly": bill.storage_of(tier) });
        (tier.as_str().to_owned(), figures)
    };
    Value::Object(Tier::ALL.into_iter().map(tier).collect())
}

/// A bill by its parts.
pub(super) fn bill(bill: &Bill) -> Value {
    json!({
        "storage": bill.storage.values().sum::<f64>(), "monitoring": bill.monitoring, "metadata": bill.metadata, "manifests": bill.manifests,
        "puts": bill.puts, "restores": bill.restores, "total": bill.total(),
    })
}

/// Objects and bytes.
pub(super) fn amount(amount: Amount) -> Value {
    json!({ "objects": amount.objects.round(), "bytes": amount.bytes.round() })
}

/// GB as S3 bills them.
fn gigabytes(amount: Amount) -> String {
    grouped(amount.bytes / f64::from(1u32 << 30), 1)
}

/// A number with its thousands apart.
pub(super) fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (whole, part) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if number < 0.0 { "-" } else { "" };
    part.map_or_else(|| format!("{sign}{grouped}"), |part| format!("{sign}{grouped}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, decimals, text) in [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (476_000_000.0, 0, "476,000,000"),
            (-1234.5, 2, "-1,234.50"),
            (999.999, 2, "1,000.00"),
        ] {
            assert_eq!(grouped(number, decimals), text);
        }
    }
}
