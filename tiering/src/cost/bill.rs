//! One month's bill.

use std::collections::BTreeMap;

use super::prices::GB;
use super::{Amount, METADATA_ARCHIVE, METADATA_STANDARD, Prices, Tier};

/// What lies in the store at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Holding {
    tiers: BTreeMap<Tier, Amount>,
    /// Manifests, in STANDARD
    pub manifests: Amount,
}

impl Holding {
    /// More in a tier.
    pub fn add(&mut self, tier: Tier, amount: Amount) {
        *self.tiers.entry(tier).or_default() += amount;
    }

    /// What lies in a tier, manifests not counted.
    pub fn get(&self, tier: Tier) -> Amount {
        self.tiers.get(&tier).copied().unwrap_or_default()
    }

    /// Everything, manifests not counted.
    pub fn total(&self) -> Amount {
        self.tiers.values().fold(Amount::default(), |sum, amount| sum + *amount)
    }
}

/// What is asked of the store in a month.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// PUT requests
    pub puts: f64,
    /// Restored, at whatever speed
    pub restored: Amount,
    /// Restored Expedited
    pub expedited: Amount,
}

/// What a month costs, in the currency of the prices.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Bill {
    /// Storage by tier
    pub storage: BTreeMap<Tier, f64>,
    /// Monitoring and automation of what can be tiered
    pub monitoring: f64,
    /// The metadata that S3 adds to what is archived
    pub metadata: f64,
    /// Storage of the manifests
    pub manifests: f64,
    /// PUT requests of what arrives
    pub puts: f64,
    /// Expedited restores
    pub restores: f64,
}

impl Bill {
    /// One month of a holding and of what is asked of it.
    pub fn of(holding: &Holding, flow: &Flow, prices: &Prices) -> Bill {
        // Steps are of the volume of a rate, so those that share a rate share its steps.
        let (archive, deep) = (holding.get(Tier::Archive).objects, holding.get(Tier::DeepArchive).objects);
        let metadata_standard = (archive + deep) * METADATA_STANDARD as f64;
        let standard = holding.get(Tier::Standard).bytes;
        let all_standard = standard + holding.manifests.bytes + metadata_standard;
        let at_standard = rate(prices.standard.cost(all_standard), all_standard);
        let (small, frequent) = (holding.get(Tier::Small).bytes, holding.get(Tier::Frequent).bytes);
        let at_frequent = rate(prices.frequent.cost(small + frequent), small + frequent);
        let monthly = |tier: Tier| {
            let bytes = holding.get(tier).bytes;
            match tier {
                Tier::Standard => at_standard * bytes,
                Tier::Small | Tier::Frequent => at_frequent * bytes,
                Tier::Infrequent => prices.infrequent * bytes / GB,
                Tier::ArchiveInstant => prices.archive_instant * bytes / GB,
                Tier::Archive => prices.archive * bytes / GB,
                Tier::DeepArchive => prices.deep_archive * bytes / GB,
            }
        };
        let monitored: f64 = Tier::ALL
            .into_iter()
            .filter(|tier| tier.is_monitored())
            .map(|tier| holding.get(tier).objects)
            .sum();
        let index = (archive * prices.archive + deep * prices.deep_archive) * METADATA_ARCHIVE as f64 / GB;
        Bill {
            storage: Tier::ALL.into_iter().map(|tier| (tier, monthly(tier))).collect(),
            monitoring: prices.monitoring * monitored / 1000.0,
            metadata: at_standard * metadata_standard + index,
            manifests: at_standard * holding.manifests.bytes,
            puts: prices.puts(flow.puts),
            restores: prices.expedited_restore(flow.expedited),
        }
    }

    /// Storage of one tier.
    pub fn storage_of(&self, tier: Tier) -> f64 {
        self.storage.get(&tier).copied().unwrap_or_default()
    }

    /// What is paid for keeping, whether anything is asked or not.
    pub fn keeping(&self) -> f64 {
        self.storage.values().sum::<f64>() + self.monitoring + self.metadata + self.manifests
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.keeping() + self.puts + self.restores
    }
}

/// What a byte costs where so many cost that.
fn rate(cost: f64, bytes: f64) -> f64 {
    if bytes > 0.0 { cost / bytes } else { 0.0 }
}
