use proptest::prelude::*;

use super::*;

fn days() -> ArchiveDays {
    ArchiveDays {
        access: Some(90),
        deep: Some(180),
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-6)
}

fn flat() -> Prices {
    Prices {
        standard: Stepped::flat(0.023),
        frequent: Stepped::flat(0.023),
        ..Prices::default()
    }
}

#[test]
fn objects_go_down_the_tiers_on_the_days_that_s3_states() {
    let archive = Policy::Archive(days());
    for (age, expected) in [
        (0.0, Tier::Frequent),
        (29.9, Tier::Frequent),
        (30.0, Tier::Infrequent),
        (89.9, Tier::Infrequent),
        (90.0, Tier::Archive),
        (180.0, Tier::DeepArchive),
    ] {
        assert_eq!(archive.tier(age), expected, "{age}");
    }
    let late = Policy::Archive(ArchiveDays {
        access: None,
        deep: Some(365),
    });
    assert_eq!((late.tier(100.0), late.tier(365.0)), (Tier::ArchiveInstant, Tier::DeepArchive));
    assert_eq!(Policy::NoWaiting.tier(10_000.0), Tier::ArchiveInstant);
    assert_eq!(Policy::Standard.tier(10_000.0), Tier::Standard);
}

#[test]
fn a_month_is_billed_as_the_price_list_says() {
    // 1 GB in each tier, 1000 objects in each: every term by hand.
    let gb = f64::from(1 << 30);
    let mut holding = Holding::default();
    for tier in Tier::ALL {
        holding.add(
            tier,
            Amount {
                objects: 1000.0,
                bytes: gb,
            },
        );
    }
    holding.manifests = Amount {
        objects: 5000.0,
        bytes: gb,
    };
    let restored = Amount {
        objects: 100.0,
        bytes: 2.0 * gb,
    };
    let flow = Flow {
        puts: 3000.0,
        restored,
        expedited: restored,
    };
    let bill = Bill::of(&holding, &flow, &Prices::default());
    let of = |tier| bill.storage_of(tier);
    assert!(near(of(Tier::Standard), 0.023) && near(of(Tier::Small), 0.023) && near(of(Tier::Frequent), 0.023));
    assert!(near(of(Tier::Infrequent), 0.0125) && near(of(Tier::ArchiveInstant), 0.004));
    assert!(near(of(Tier::Archive), 0.0036) && near(of(Tier::DeepArchive), 0.00099));
    assert!(near(bill.monitoring, 5.0 * 0.0025), "all but STANDARD and small");
    let metadata = 2000.0 * 8192.0 / gb * 0.023 + 1000.0 * 32_768.0 / gb * (0.0036 + 0.00099);
    assert!(near(bill.metadata, metadata));
    assert!(near(bill.manifests, 0.023) && near(bill.puts, 0.015) && near(bill.restores, 1.0 + 0.06));
    assert!(near(bill.total(), bill.keeping() + 0.015 + 1.06));
}

#[test]
fn what_the_store_said_is_believed_before_the_prediction() {
    let seen = |seen, age| {
        let cohort = Cohort {
            days: age,
            seen,
            sizes: Sizes::default(),
        };
        cohort.tier(Policy::Archive(days()))
    };
    assert_eq!(seen(Seen::Archive, 10.0), Tier::Archive);
    assert_eq!(seen(Seen::Archive, 200.0), Tier::DeepArchive);
    assert_eq!(seen(Seen::DeepArchive, 100.0), Tier::DeepArchive);
    assert_eq!(seen(Seen::Readable, 100.0), Tier::Archive);
    assert_eq!(seen(Seen::Kept, 10.0), Tier::Frequent);
    assert_eq!(seen(Seen::Kept, 1000.0), Tier::ArchiveInstant);
    let cohort = Cohort {
        days: 10.0,
        seen: Seen::Archive,
        sizes: Sizes::default(),
    };
    assert_eq!(cohort.tier(Policy::NoWaiting), Tier::Frequent);
}

#[test]
fn the_published_hospital_pays_less_for_packs_in_every_way_of_keeping() {
    let all = Profile::published().simulate(&Prices::default());
    for (packs, instances) in all.iter().take(3).zip(all.iter().skip(3)) {
        assert_eq!(packs.policy(), instances.policy());
        assert!(
            packs.spent < instances.spent,
            "{:?}: {} {}",
            packs.policy(),
            packs.spent,
            instances.spent
        );
    }
    // 476 million PUTs against 8 million.
    let puts = |simulation: &Simulation| simulation.last.flow.puts * 120.0;
    assert!(near(puts(&all[0]), 8e6) && near(puts(&all[3]), 476e6));
    // The images below 128 KB are four of five, and hold nearly half of the bytes: they never leave the dearest tier.
    let small = all[3].last.holding.get(Tier::Small);
    assert!((0.78..0.82).contains(&(small.objects / 476e6)), "{small:?}");
    assert!((0.42..0.46).contains(&(small.bytes / 44e12)), "{small:?}");
}

fn profiles() -> impl Strategy<Value = Profile> {
    let sizes = (1u32..2_000_000, 1u32..2000, 1_000u32..5_000_000, 0.0f64..2.5, 1u32..20, 0.0f64..2.5);
    let time = (1u32..6, -0.2f64..0.5, 0.0f64..0.5, 0.0f64..1.0);
    let tiers = (proptest::option::of(90u32..365), proptest::option::of(366u32..730));
    (sizes, time, tiers).prop_map(|(sizes, time, (access, deep))| {
        let (studies, images, bytes, size_sigma, packs, pack_sigma) = sizes;
        let (years, growth, read, expedited) = time;
        let (studies, packs) = (f64::from(studies), f64::from(packs.min(images)));
        Profile {
            studies,
            instances: studies * f64::from(images),
            bytes: studies * f64::from(images) * f64::from(bytes),
            size_sigma,
            packs_per_study: packs,
            pack_sigma,
            years: f64::from(years),
            growth,
            read,
            expedited,
            days: ArchiveDays { access, deep },
        }
    })
}

fn cohorts() -> impl Strategy<Value = Vec<Cohort>> {
    let seen = prop_oneof![Just(Seen::Readable), Just(Seen::Archive), Just(Seen::DeepArchive), Just(Seen::Kept)];
    let amount = |least: f64, most: f64| {
        (0u32..1_000_000, least..most).prop_map(|(objects, size)| Amount {
            objects: f64::from(objects),
            bytes: f64::from(objects) * size,
        })
    };
    let cohort = (0.0f64..4000.0, seen, amount(1.0, 131_071.0), amount(131_072.0, 2e8));
    let cohort = cohort.prop_map(|(days, seen, small, large)| Cohort {
        days,
        seen,
        sizes: Sizes { small, large },
    });
    proptest::collection::vec(cohort, 0..20)
}

proptest! {
    #[test]
    fn tiers_add_up_to_the_population_and_parts_to_the_bill(cohorts in cohorts(), manifest in proptest::option::of(0.0f64..1e6)) {
        let population = Population { cohorts, manifest };
        for plan in plans(days()) {
            let holding = population.holding(plan.policy);
            prop_assert!(near(holding.total().objects, population.total().objects));
            prop_assert!(near(holding.total().bytes, population.total().bytes));
            let flow = population.flow(plan.policy, Sizes::default(), 0.1, 0.5);
            let bill = Bill::of(&holding, &flow, &Prices::default());
            let sum = bill.storage.values().sum::<f64>() + bill.monitoring + bill.metadata + bill.manifests + bill.puts + bill.restores;
            prop_assert!(near(bill.total(), sum));
            prop_assert!(bill.total() >= 0.0);
        }
    }

    #[test]
    fn two_archives_cost_what_both_cost_together_or_less_for_their_volume(one in cohorts(), other in cohorts()) {
        let all = [one.clone(), other.clone()].concat();
        for plan in plans(days()) {
            let cost = |cohorts: &[Cohort], prices: &Prices| {
                let population = Population { cohorts: cohorts.to_vec(), manifest: Some(1000.0) };
                Bill::of(&population.holding(plan.policy), &Flow::default(), prices).total()
            };
            prop_assert!(near(cost(&all, &flat()), cost(&one, &flat()) + cost(&other, &flat())));
            let stepped = Prices::default();
            prop_assert!(cost(&all, &stepped) <= (cost(&one, &stepped) + cost(&other, &stepped)) * (1.0 + 1e-9));
            // More never costs less.
            prop_assert!(cost(&all, &stepped) >= cost(&one, &stepped) * (1.0 - 1e-9));
        }
    }

    #[test]
    fn a_higher_price_never_makes_a_lower_bill(cohorts in cohorts(), factor in 1.0f64..3.0, which in 0usize..9) {
        let mut dearer = Prices::default();
        let price = match which {
            0 => &mut dearer.infrequent,
            1 => &mut dearer.archive_instant,
            2 => &mut dearer.archive,
            3 => &mut dearer.deep_archive,
            4 => &mut dearer.monitoring,
            5 => &mut dearer.put,
            6 => &mut dearer.expedited,
            7 => &mut dearer.expedited_requests,
            _ => &mut dearer.standard.0[0],
        };
        *price *= factor;
        let population = Population { cohorts, manifest: Some(500.0) };
        for plan in plans(days()) {
            let flow = population.flow(plan.policy, population.cohorts.first().map_or(Sizes::default(), |c| c.sizes), 0.1, 0.5);
            let holding = population.holding(plan.policy);
            prop_assert!(Bill::of(&holding, &flow, &dearer).total() >= Bill::of(&holding, &flow, &Prices::default()).total());
        }
    }

    #[test]
    fn packs_of_one_without_manifests_are_one_object_per_instance(profile in profiles()) {
        let instances = profile.objects(Layout::Instances);
        let ones = LogNormal { mean: profile.bytes / profile.instances, sigma: profile.size_sigma }.split(profile.instances);
        prop_assert!(near(ones.large.bytes, instances.large.bytes) && near(ones.small.objects, instances.small.objects));
        for policy in plans(profile.days).map(|plan| plan.policy) {
            let run = |objects: Sizes| {
                let mut population = Population::default();
                profile.months().into_iter().map(|share| {
                    let flow = population.flow(policy, objects * share, profile.read, profile.expedited);
                    population.advance(objects * share, Sizes::default(), profile.read);
                    Bill::of(&population.holding(policy), &flow, &Prices::default()).total()
                }).sum::<f64>()
            };
            let plan = Plan { layout: Layout::Instances, policy };
            prop_assert!(near(run(ones), profile.simulate_plan(plan, &Prices::default()).spent));
        }
    }

    #[test]
    fn a_month_later_nothing_is_lost_and_only_what_was_read_is_younger(cohorts in cohorts(), read in 0.0f64..1.0) {
        let mut population = Population { cohorts, manifest: None };
        let before = population.total();
        let arrived = LogNormal { mean: 1e6, sigma: 1.0 }.split(1000.0);
        let kept = |population: &Population| -> f64 {
            population.cohorts.iter().filter(|c| c.seen == Seen::Kept).map(|c| c.sizes.total().objects).sum()
        };
        let kept_before = kept(&population);
        population.advance(arrived * 0.75, arrived * 0.25, read);
        prop_assert!(near(population.total().objects, before.objects + 1000.0));
        prop_assert!(near(kept(&population), kept_before + 250.0));
        let young: f64 = population.cohorts.iter().filter(|c| c.days < MONTH_DAYS).map(|c| c.sizes.total().objects).sum();
        prop_assert!(near(young, 1000.0 + before.objects * read));
    }

    #[test]
    fn a_simulation_ends_with_what_was_described(profile in profiles()) {
        for simulation in profile.simulate(&Prices::default()) {
            let expected = profile.objects(simulation.last.plan.layout).total();
            let total = simulation.last.holding.total();
            prop_assert!((total.objects / expected.objects - 1.0).abs() < 1e-6);
            prop_assert!((total.bytes / expected.bytes - 1.0).abs() < 1e-6);
            prop_assert!(near(simulation.spent, simulation.months.iter().map(|month| month.total).sum()));
        }
    }

    #[test]
    fn waiting_is_never_bought_for_nothing_by_large_objects(cohorts in cohorts()) {
        // Where objects are of a megabyte at least, what has to be restored is cheaper to keep than what is readable at once.
        let large = |cohort: Cohort| Cohort { seen: Seen::Readable, sizes: Sizes {
            small: Amount::default(),
            large: Amount { objects: cohort.sizes.large.objects, bytes: cohort.sizes.large.objects * 1_048_576.0 },
        }, ..cohort };
        let population = Population { cohorts: cohorts.into_iter().map(large).collect(), manifest: None };
        let keeping = |policy| Bill::of(&population.holding(policy), &Flow::default(), &flat()).keeping();
        prop_assert!(keeping(Policy::Archive(days())) <= keeping(Policy::NoWaiting) * (1.0 + 1e-9));
    }
}
