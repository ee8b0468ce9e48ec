//! An archive that is only described: so many studies, images and bytes that came over so many years.
//!
//! Images and packs have log-normal sizes. What is not published of a hospital has to be assumed, and every assumption is a field.

use super::{Cohort, Layout, LogNormal, Plan, Policy, Population, Prices, Quote, Sizes, StudySize, plans, quote};
use crate::cold::ArchiveDays;

/// Bytes that the ZIP structure adds for each member: local and central header, with a UID of 55 characters and `.dcm` in both.
const ZIP_MEMBER: f64 = 30.0 + 46.0 + 2.0 * 59.0;
/// Bytes that it adds once: the end record and its comment.
const ZIP_END: f64 = 22.0 + 64.0;

/// Bytes of a manifest that hold whatever is in the pack: the compressed base header and the pack's own members.
const MANIFEST_BASE: f64 = 1500.0;
/// Bytes of a manifest for each instance: of its identifiers and digests little can be compressed.
const MANIFEST_MEMBER: f64 = 150.0;

/// Bytes of the manifest beside a pack of so many instances.
pub fn manifest_bytes(members: f64) -> f64 {
    MANIFEST_BASE + MANIFEST_MEMBER * members
}

/// A described archive.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// Studies at the end
    pub studies: f64,
    /// Instances at the end
    pub instances: f64,
    /// Their bytes
    pub bytes: f64,
    /// Standard deviation of the logarithm of an instance's size
    pub size_sigma: f64,
    /// Packs of a study: series that are images, and the further packs of large ones
    pub packs_per_study: f64,
    /// Standard deviation of the logarithm of a pack's size
    pub pack_sigma: f64,
    /// Years over which it came
    pub years: f64,
    /// How much more comes a year than in the one before: 0.05 is 5 % more
    pub growth: f64,
    /// The share of all packs that is read from the store in a month
    pub read: f64,
    /// The share of restores out of Archive Access that is wanted Expedited
    pub expedited: f64,
    /// When the archive tiers take what nobody reads
    pub days: ArchiveDays,
}

impl Profile {
    /// The hospital whose archive was published: 1 million studies, 476 million files, 44 TB, log-normal sizes with a mean of 92 KB. The other fields are
    /// assumed; `docs/cost.md` says why.
    pub fn published() -> Profile {
        Profile {
            studies: 1e6,
            instances: 476e6,
            bytes: 44e12,
            size_sigma: 1.0,
            packs_per_study: 4.0,
            pack_sigma: 1.5,
            years: 10.0,
            growth: 0.0,
            read: 0.005,
            expedited: 0.0,
            days: ArchiveDays {
                access: Some(90),
                deep: Some(180),
            },
        }
    }

    /// Sizes of instances.
    pub fn instance_sizes(&self) -> LogNormal {
        LogNormal {
            mean: self.bytes / self.instances,
            sigma: self.size_sigma,
        }
    }

    /// Instances in an average pack.
    pub fn pack_members(&self) -> f64 {
        self.instances / self.packs()
    }

    /// Packs at the end.
    pub fn packs(&self) -> f64 {
        self.studies * self.packs_per_study
    }

    /// Sizes of packs.
    pub fn pack_sizes(&self) -> LogNormal {
        LogNormal {
            mean: self.bytes / self.packs() + ZIP_MEMBER * self.pack_members() + ZIP_END,
            sigma: self.pack_sigma,
        }
    }

    /// All objects of a layout, at the end.
    pub fn objects(&self, layout: Layout) -> Sizes {
        match layout {
            Layout::Packs => self.pack_sizes().split(self.packs()),
            Layout::Instances => self.instance_sizes().split(self.instances),
        }
    }

    /// Bytes of the manifest beside an average object of a layout.
    pub fn manifest(&self, layout: Layout) -> Option<f64> {
        match layout {
            Layout::Packs => Some(manifest_bytes(self.pack_members())),
            Layout::Instances => None,
        }
    }

    /// The share of everything that comes in each month.
    pub fn months(&self) -> Vec<f64> {
        let count = (self.years * 12.0).round().clamp(1.0, 1200.0) as u32;
        let weights: Vec<f64> = (0..count).map(|month| (1.0 + self.growth).powf(f64::from(month) / 12.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The archive month by month, kept in every way that is compared.
    pub fn simulate(&self, prices: &Prices) -> Vec<Simulation> {
        plans(self.days).into_iter().map(|plan| self.simulate_plan(plan, prices)).collect()
    }

    /// The archive month by month, kept in one way.
    pub fn simulate_plan(&self, plan: Plan, prices: &Prices) -> Simulation {
        let objects = self.objects(plan.layout);
        let study = StudySize::of(objects, self.studies);
        let mut population = Population {
            cohorts: Vec::<Cohort>::new(),
            manifest: self.manifest(plan.layout),
        };
        let mut months = Vec::new();
        let mut last = quote(
            plan,
            &population,
            population.flow(plan.policy, Sizes::default(), 0.0, 0.0),
            study,
            prices,
        );
        for share in self.months() {
            let arrived = objects * share;
            let flow = population.flow(plan.policy, arrived, self.read, self.expedited);
            population.advance(arrived, Sizes::default(), self.read);
            last = quote(plan, &population, flow, study, prices);
            months.push(Month {
                bytes: last.holding.total().bytes,
                keeping: last.bill.keeping(),
                total: last.bill.total(),
            });
        }
        Simulation {
            spent: months.iter().map(|month| month.total).sum(),
            months,
            last,
        }
    }
}

/// A month of a simulation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Month {
    /// Bytes at its end
    pub bytes: f64,
    /// What is paid for keeping them
    pub keeping: f64,
    /// The whole bill
    pub total: f64,
}

/// A described archive kept in one way.
#[derive(Clone, PartialEq, Debug)]
pub struct Simulation {
    /// Every month
    pub months: Vec<Month>,
    /// All bills together
    pub spent: f64,
    /// The last month
    pub last: Quote,
}

impl Simulation {
    /// The policy that it was kept by.
    pub fn policy(&self) -> Policy {
        self.last.plan.policy
    }
}
