//! `filmroom cost --profile`: a described hospital, after its years, kept in every way.

use filmroom_tiering::cost::{Prices, Profile, Quote, Simulation};
use serde_json::{Value, json};

use super::figures;

/// Prints it.
pub(super) fn report(prices: &Prices, profile: &Profile, as_json: bool) -> anyhow::Result<()> {
    let simulations = profile.simulate(prices);
    if as_json {
        println!("{}", document(prices, profile, &simulations));
        return Ok(());
    }
    println!(
        "{} studies, {} instances, {} GB, mean {} bytes, over {} years; {} packs of {:.0} instances",
        figures::grouped(profile.studies, 0),
        figures::grouped(profile.instances, 0),
        figures::grouped(profile.bytes / f64::from(1u32 << 30), 1),
        figures::grouped(profile.instance_sizes().mean, 0),
        profile.years,
        figures::grouped(profile.packs(), 0),
        profile.pack_members(),
    );
    println!(
        "The last month, in {}; a GB is 2^30 bytes. Prices: {}\n",
        prices.currency, prices.source
    );
    let quotes: Vec<&Quote> = simulations.iter().map(|simulation| &simulation.last).collect();
    let column = |text: fn(&Simulation) -> f64| simulations.iter().map(|s| figures::grouped(text(s), 2)).collect::<Vec<_>>();
    let puts = simulations.iter().map(|s| figures::grouped(all_puts(s, prices), 2)).collect();
    figures::table(
        &quotes,
        &[
            ("all PUTs of all years", puts),
            ("all bills of all years", column(|simulation| simulation.spent)),
        ],
    );
    println!("\n{}", figures::NOT_RECKONED);
    Ok(())
}

/// What all that arrived cost to put.
fn all_puts(simulation: &Simulation, prices: &Prices) -> f64 {
    let objects = simulation.last.holding.total().objects + simulation.last.holding.manifests.objects;
    prices.puts(objects)
}

fn document(prices: &Prices, profile: &Profile, simulations: &[Simulation]) -> Value {
    let plans = simulations.iter().map(|simulation| {
        let mut plan = figures::quote(&simulation.last);
        plan.insert("all_puts".to_owned(), json!(all_puts(simulation, prices)));
        plan.insert("spent".to_owned(), json!(simulation.spent));
        let months = simulation.months.iter();
        let months = months.map(|month| json!({ "bytes": month.bytes.round(), "keeping": month.keeping, "total": month.total }));
        plan.insert("months".to_owned(), months.collect());
        Value::Object(plan)
    });
    json!({
        "profile": {
            "studies": profile.studies, "instances": profile.instances, "bytes": profile.bytes, "size_sigma": profile.size_sigma,
            "packs_per_study": profile.packs_per_study, "pack_sigma": profile.pack_sigma, "years": profile.years, "growth": profile.growth,
            "read_per_month": profile.read, "expedited": profile.expedited,
            "archive": { "access_days": profile.days.access, "deep_days": profile.days.deep },
        },
        "prices": figures::prices(prices),
        "plans": plans.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_documentation_are_those_of_the_model() {
        let documentation = include_str!("../../../../docs/cost.md");
        let prices = Prices::default();
        for simulation in Profile::published().simulate(&prices) {
            let bill = &simulation.last.bill;
            let storage = bill.storage.values().sum::<f64>();
            for figure in [
                bill.total(),
                storage,
                bill.monitoring,
                bill.metadata,
                bill.manifests,
                bill.puts,
                simulation.spent,
                all_puts(&simulation, &prices),
            ] {
                let text = figures::grouped(figure, 2);
                assert!(
                    figure == 0.0 || documentation.contains(&format!(" {text} |")) || documentation.contains(&format!("**{text}**")),
                    "{text}"
                );
            }
        }
        for price in [
            prices.infrequent,
            prices.archive_instant,
            prices.archive,
            prices.deep_archive,
            prices.monitoring,
            prices.put,
            prices.expedited,
        ] {
            assert!(documentation.contains(&format!("| {price} |")), "{price}");
        }
    }
}
