//! The same archive kept in other ways, side by side.

use super::{Amount, Bill, Flow, Holding, Policy, Population, Prices, Sizes};
use crate::cold::ArchiveDays;

/// What one object holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Instances of one series, with a manifest beside them
    Packs,
    /// One instance, without a manifest
    Instances,
}

impl Layout {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Layout::Packs => "packs",
            Layout::Instances => "one object per instance",
        }
    }
}

/// One way to keep an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What one object holds
    pub layout: Layout,
    /// How the objects are kept
    pub policy: Policy,
}

impl Plan {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self.policy {
            Policy::Standard => "STANDARD",
            Policy::NoWaiting => "Intelligent-Tiering, no archive tiers",
            Policy::Archive(_) => "Intelligent-Tiering, archive tiers",
        }
    }
}

/// All ways that are compared; the archive tiers after these days.
pub fn plans(days: ArchiveDays) -> [Plan; 6] {
    let plan = |layout, policy| Plan { layout, policy };
    [
        plan(Layout::Packs, Policy::Archive(days)),
        plan(Layout::Packs, Policy::NoWaiting),
        plan(Layout::Packs, Policy::Standard),
        plan(Layout::Instances, Policy::Archive(days)),
        plan(Layout::Instances, Policy::NoWaiting),
        plan(Layout::Instances, Policy::Standard),
    ]
}

/// An average study, as the objects that it is kept in.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StudySize {
    /// Those that can be archived
    pub archivable: Amount,
}

impl StudySize {
    /// One of so many studies.
    pub fn of(all: Sizes, studies: f64) -> StudySize {
        let share = if studies > 0.0 { 1.0 / studies } else { 0.0 };
        StudySize {
            archivable: all.large * share,
        }
    }
}

/// What a plan costs.
#[derive(Clone, PartialEq, Debug)]
pub struct Quote {
    /// The plan
    pub plan: Plan,
    /// What lies where
    pub holding: Holding,
    /// What is asked in a month
    pub flow: Flow,
    /// A month
    pub bill: Bill,
    /// An Expedited restore of an average study out of Archive Access; none where nothing is archived there
    pub study_expedited: Option<f64>,
}

/// A month of a plan.
pub fn quote(plan: Plan, population: &Population, flow: Flow, study: StudySize, prices: &Prices) -> Quote {
    let holding = population.holding(plan.policy);
    let waits = matches!(plan.policy, Policy::Archive(ArchiveDays { access: Some(_), .. }));
    Quote {
        plan,
        bill: Bill::of(&holding, &flow, prices),
        holding,
        flow,
        study_expedited: waits.then(|| prices.expedited_restore(study.archivable)),
    }
}
