//! Which rule a series meets, and what follows.

use filmroom_index::catalogue::SeriesKey;
use filmroom_index::model::{AeTitle, Uid};
use proptest::prelude::*;

use super::*;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-24T00:00:00Z
const NOW: Timestamp = Timestamp(1_795_478_400_000_000);

/// A CT of an adult of 40, of today.
pub(crate) fn subject() -> Subject {
    Subject {
        series: SeriesKey(1),
        study_uid: Uid::parse("2.25.1").unwrap(),
        series_uid: Uid::parse("2.25.1.1").unwrap(),
        modality: "CT".into(),
        sop_classes: vec![Uid::parse(CT).unwrap()],
        study_description: "CT Schädel nativ".into(),
        source: "CT1".into(),
        birth_date: "19861124".into(),
        study_date: "20261124".into(),
        known_since: NOW,
        packed: 1_000_000,
    }
}

fn rule(name: &str, conditions: Vec<Condition>, effects: Effects) -> Rule {
    Rule {
        name: name.into(),
        conditions,
        effects,
    }
}

fn settings(rules: Vec<Rule>) -> Settings {
    let own = crate::archive::Sender {
        source: AeTitle::parse("F").unwrap(),
        default_issuer: None,
        duplicates: filmroom_index::model::DuplicatePolicy::Correct,
    };
    Settings {
        data_dir: "data".into(),
        reserve: 0,
        page_cache: false,
        high_watermark: 1.0,
        low_watermark: 1.0,
        evict_after: 30 * DAY,
        recall_budget: 0,
        senders: crate::archive::Senders {
            own,
            listed: Vec::new(),
            may_reject: Vec::new(),
        },
        cold: None,
        layout: Layout::Pack,
        offload_after: Duration::from_secs(3600),
        mover_interval: Duration::from_secs(1),
        rules: Rules::new(rules),
    }
}

fn modality(name: &str) -> Condition {
    Condition::Modality(vec![name.into()])
}

fn meets(condition: &Condition, subject: &Subject) -> bool {
    condition.is_met(subject, today(NOW))
}

#[test]
fn each_condition_asks_what_it_says() {
    let adult = subject();
    let title = |title: &str| Condition::Source(vec![AeTitle::parse(title).unwrap()]);
    let class = |class: &str| Condition::SopClass(vec![Uid::parse(class).unwrap()]);
    for (condition, expected) in [
        (modality("CT"), true),
        (Condition::Modality(vec!["MR".into(), "CT".into()]), true),
        (modality("MR"), false),
        (class(CT), true),
        (class("1.2.840.10008.5.1.4.1.1.4"), false),
        (Condition::description(&["ct schadel*"]), true),
        (Condition::description(&["*SCHÄDEL*"]), true),
        (Condition::description(&["*abdomen*", "ct sch?del nativ"]), true),
        (Condition::description(&["schadel"]), false),
        (title("CT1"), true),
        (title("CT2"), false),
        (Condition::PatientAge("<18y".parse().unwrap()), false),
        (Condition::PatientAge(">=40y".parse().unwrap()), true),
        (Condition::StudyAge("<1d".parse().unwrap()), true),
        (Condition::StudyAge(">1d".parse().unwrap()), false),
    ] {
        assert_eq!(meets(&condition, &adult), expected, "{condition:?}");
    }
}

#[test]
fn a_patients_age_is_that_at_the_study() {
    let child = Condition::PatientAge("<18y".parse().unwrap());
    let then = Subject {
        study_date: "20041123".into(),
        ..subject()
    };
    assert!(meets(&child, &then), "an adult of today was a child then");
    assert!(!meets(
        &child,
        &Subject {
            study_date: "20041124".into(),
            ..subject()
        }
    ));
}

#[test]
fn what_nobody_knows_is_no_age_and_a_study_without_a_date_is_of_the_day_it_came() {
    let child = Condition::PatientAge("<18y".parse().unwrap());
    for birth_date in ["", "unknown", "20270101"] {
        assert!(!meets(
            &child,
            &Subject {
                birth_date: birth_date.into(),
                ..subject()
            }
        ));
    }
    let undated = Subject {
        birth_date: "20200101".into(),
        study_date: String::new(),
        ..subject()
    };
    assert!(meets(&child, &undated));
    let unknown = Subject {
        known_since: Timestamp(7),
        ..undated
    };
    assert!(!meets(&child, &unknown));
    assert!(!meets(&Condition::StudyAge(">1y".parse().unwrap()), &unknown));
}

#[test]
fn the_first_rule_that_is_met_applies_as_a_whole() {
    let never = Effects {
        evict_after: Some(Keep::Always),
        ..Effects::default()
    };
    let at_once = Effects {
        offload_after: Some(Duration::ZERO),
        archive: Some(false),
        ..Effects::default()
    };
    let settings = settings(vec![
        rule("mr", vec![modality("MR")], never),
        rule("ct", vec![modality("CT")], at_once),
        rule("all", vec![], never),
    ]);
    let ct = settings.treatment(&subject(), NOW);
    let expected = Treatment {
        rule: Some("ct"),
        // Not of the rule that it would have met next: it says nothing of eviction.
        keep: Keep::For(30 * DAY),
        longer: false,
        archive: false,
        layout: Layout::Pack,
        offload_after: Duration::ZERO,
    };
    assert_eq!(ct, expected);
    assert_eq!(ct.tag(), ArchiveTag::No);
    let us = Subject {
        modality: "US".into(),
        ..subject()
    };
    let us = settings.treatment(&us, NOW);
    assert_eq!((us.rule, us.keep, us.archive, us.longer), (Some("all"), Keep::Always, true, true));
    assert_eq!(settings.quiet_times(), [Duration::ZERO, Duration::from_secs(3600)]);
    assert_eq!(settings.shortest_stay(), 30 * DAY);
}

#[test]
fn reports_and_small_series_stay_hot_unless_a_rule_says_otherwise() {
    let kept = |subject: &Subject, rules: Vec<Rule>| settings(rules).treatment(subject, NOW).keep == Keep::Always;
    assert!(!kept(&subject(), vec![]));
    let mut all = Vec::new();
    for modality in KEPT_MODALITIES {
        all.push(Subject {
            modality: modality.into(),
            ..subject()
        });
    }
    for class in KEPT_CLASSES {
        all.push(Subject {
            sop_classes: vec![Uid::parse(&format!("{class}1")).unwrap()],
            ..subject()
        });
    }
    all.push(Subject {
        packed: SMALL_SERIES - 1,
        ..subject()
    });
    let says_nothing = Effects {
        archive: Some(false),
        ..Effects::default()
    };
    let says = Effects {
        evict_after: Some(Keep::For(DAY)),
        ..Effects::default()
    };
    for subject in &all {
        assert!(kept(subject, vec![]), "{subject:?}");
        assert!(kept(subject, vec![rule("x", vec![], says_nothing)]), "{subject:?}");
        assert!(!kept(subject, vec![rule("x", vec![], says)]), "{subject:?}");
    }
    let mixed = Subject {
        sop_classes: vec![Uid::parse(CT).unwrap(), Uid::parse("1.2.840.10008.5.1.4.1.1.88.33").unwrap()],
        ..subject()
    };
    assert!(!kept(&mixed, vec![]));
}

#[test]
fn a_rule_that_no_series_can_meet_is_known_where_that_is_certain() {
    let age = |text: &str| Condition::PatientAge(text.parse().unwrap());
    let rules = |first: Vec<Condition>, second: Vec<Condition>| {
        let rules = Rules::new(vec![rule("a", first, Effects::default()), rule("b", second, Effects::default())]);
        let shadowed: Vec<_> = rules.shadowed().map(|(rule, by)| (rule.name.clone(), by.name.clone())).collect();
        shadowed == [("b".to_owned(), "a".to_owned())]
    };
    assert!(rules(vec![], vec![modality("CT")]));
    assert!(rules(vec![modality("CT")], vec![modality("CT"), age("<18y")]));
    assert!(rules(vec![age("<18y")], vec![modality("CT"), age("<2y")]));
    assert!(rules(vec![Condition::description(&["*"])], vec![modality("CT")]));
    assert!(rules(
        vec![Condition::description(&["ct*"])],
        vec![Condition::description(&["CT Thorax*", "CT Abdomen"])]
    ));
    assert!(!rules(vec![modality("CT"), age("<18y")], vec![modality("CT")]));
    assert!(!rules(
        vec![modality("CT")],
        vec![Condition::Modality(vec!["CT".into(), "MR".into()])]
    ));
    assert!(!rules(
        vec![Condition::description(&["ct a*"])],
        vec![Condition::description(&["ct*"])]
    ));
}

/// The same in the most direct way: every condition on its own, every rule in its order.
fn reference(rules: &[Rule], subject: &Subject) -> Option<usize> {
    'rules: for (index, rule) in rules.iter().enumerate() {
        for condition in &rule.conditions {
            let met = match condition {
                Condition::Modality(all) => all.contains(&subject.modality),
                Condition::SopClass(all) => all.iter().any(|one| subject.sop_classes.contains(one)),
                Condition::Source(all) => all.iter().any(|one| one.as_str() == subject.source),
                Condition::StudyDescription(all) => all.iter().any(|one| one.matches(&subject.study_description.to_lowercase())),
                Condition::PatientAge(range) => {
                    age::day(&subject.birth_date).is_some_and(|born| range.contains(born, age::day(&subject.study_date).unwrap()))
                }
                Condition::StudyAge(range) => range.contains(age::day(&subject.study_date).unwrap(), today(NOW)),
            };
            if !met {
                continue 'rules;
            }
        }
        return Some(index);
    }
    None
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let ages = || proptest::sample::select(&["<18y", "<2y", ">=65y", "6m..2y", ">=1d"][..]).prop_map(|text: &str| text.parse().unwrap());
    let words = |list: &'static [&'static str]| proptest::collection::vec(proptest::sample::select(list), 1..3);
    prop_oneof![
        words(&["CT", "MR", "US"]).prop_map(|all| Condition::Modality(all.into_iter().map(str::to_owned).collect())),
        words(&["1.2", "1.3", "1.4"]).prop_map(|all| Condition::SopClass(all.iter().map(|one| Uid::parse(one).unwrap()).collect())),
        words(&["*", "head*", "*knee*", "head ?"]).prop_map(|all| Condition::description(&all)),
        words(&["A", "B"]).prop_map(|all| Condition::Source(all.iter().map(|one| AeTitle::parse(one).unwrap()).collect())),
        ages().prop_map(Condition::PatientAge),
        ages().prop_map(Condition::StudyAge),
    ]
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let one = proptest::sample::select;
    (
        one(&["CT", "MR", "US"][..]),
        one(&["1.2", "1.3", "1.4"][..]),
        one(&["Head 1", "left KNEE", "", "HEAD"][..]),
        one(&["A", "B", ""][..]),
        one(&["20250101", "20100101", "19400101", "", "x"][..]),
        one(&["20261124", "20260101", "20100102"][..]),
    )
        .prop_map(|(modality, class, description, source, birth_date, study_date)| Subject {
            modality: modality.into(),
            sop_classes: vec![Uid::parse(class).unwrap()],
            study_description: description.into(),
            source: source.into(),
            birth_date: birth_date.into(),
            study_date: study_date.into(),
            ..subject()
        })
}

proptest! {
    #[test]
    fn the_first_rule_wins_as_the_reference_says(
        all in proptest::collection::vec(proptest::collection::vec(any_condition(), 0..3), 0..5), subject in any_subject(),
    ) {
        let rules: Vec<Rule> = all.into_iter().enumerate().map(|(n, conditions)| rule(&n.to_string(), conditions, Effects::default())).collect();
        let expected = reference(&rules, &subject).map(|index| index.to_string());
        let rules = Rules::new(rules);
        let found = rules.of(&subject, today(NOW)).map(|rule| rule.name.clone());
        prop_assert_eq!(&found, &expected);
        // What is said to be never met is not.
        prop_assert!(rules.shadowed().all(|(rule, _)| Some(&rule.name) != found.as_ref()));
    }
}
