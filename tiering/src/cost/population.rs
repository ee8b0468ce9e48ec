//! The objects of an archive by how long nobody has read them, and what becomes of them in a month.

use super::{Amount, Flow, Holding, Policy, Sizes, Tier};

/// Days of a month: a twelfth of a year.
pub const MONTH_DAYS: f64 = 365.25 / 12.0;

/// What the store last said of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seen {
    /// Nothing, or that it is readable
    Readable,
    /// Archived in Archive Access
    Archive,
    /// Archived in Deep Archive Access
    DeepArchive,
    /// That it is readable; and a rule's tag keeps it from being archived
    Kept,
}

/// Objects of which the last access is equally long ago.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cohort {
    /// Days since then
    pub days: f64,
    /// What the store said of them
    pub seen: Seen,
    /// How many of which sizes
    pub sizes: Sizes,
}

impl Cohort {
    /// Where those lie that are large enough. What the store said counts where it archives at all: a prediction that runs behind does not undo it.
    pub fn tier(&self, policy: Policy) -> Tier {
        let predicted = policy.tier(self.days);
        match (policy, self.seen) {
            (Policy::Archive(_), Seen::Kept) => Policy::NoWaiting.tier(self.days),
            (Policy::Archive(_), Seen::DeepArchive) => Tier::DeepArchive,
            (Policy::Archive(_), Seen::Archive) => predicted.max(Tier::Archive),
            _ => predicted,
        }
    }
}

/// An archive's objects.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Population {
    /// The objects, by age
    pub cohorts: Vec<Cohort>,
    /// Bytes of the manifest in STANDARD beside each; none: they have no manifests
    pub manifest: Option<f64>,
}

impl Population {
    /// All objects, manifests not counted.
    pub fn total(&self) -> Amount {
        self.cohorts
            .iter()
            .fold(Amount::default(), |sum, cohort| sum + cohort.sizes.total())
    }

    /// What lies in which tier.
    pub fn holding(&self, policy: Policy) -> Holding {
        let mut holding = Holding::default();
        for cohort in &self.cohorts {
            holding.add(policy.small_tier(), cohort.sizes.small);
            holding.add(cohort.tier(policy), cohort.sizes.large);
        }
        let objects = self.total().objects;
        holding.manifests = self.manifest.map_or(Amount::default(), |each| Amount {
            objects,
            bytes: objects * each,
        });
        holding
    }

    /// What happens in a month in which this arrives, and a share of everything is read from the store: of what has to be restored for that, a share is wanted
    /// Expedited, as far as its tier offers that.
    pub fn flow(&self, policy: Policy, arrived: Sizes, read: f64, expedited: f64) -> Flow {
        let holding = self.holding(policy);
        let objects = arrived.total().objects;
        Flow {
            puts: if self.manifest.is_some() { 2.0 * objects } else { objects },
            restored: (holding.get(Tier::Archive) + holding.get(Tier::DeepArchive)) * read,
            expedited: holding.get(Tier::Archive) * (read * expedited),
        }
    }

    /// A month later: everything is older, a share of it was read and is as young as what arrived, of which `kept` is never archived.
    pub fn advance(&mut self, arrived: Sizes, kept: Sizes, read: f64) {
        let mut young = [(Seen::Readable, arrived), (Seen::Kept, kept)];
        for cohort in &mut self.cohorts {
            let [readable, kept] = &mut young;
            let (_, again) = if cohort.seen == Seen::Kept { kept } else { readable };
            *again += cohort.sizes * read;
            cohort.sizes = cohort.sizes * (1.0 - read);
            cohort.days += MONTH_DAYS;
        }
        let young = young.into_iter().filter(|(_, sizes)| *sizes != Sizes::default());
        self.cohorts.extend(young.map(|(seen, sizes)| Cohort {
            days: MONTH_DAYS / 2.0,
            seen,
            sizes,
        }));
    }
}
