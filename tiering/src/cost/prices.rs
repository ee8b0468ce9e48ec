//! What S3 charges: the part of its price list that an archive meets.

/// A GB as S3 bills it, in bytes.
pub(super) const GB: f64 = (1u64 << 30) as f64;

/// A price for each GB and month that falls with the volume: the first 50 TB, the next 450 TB, and what is above.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stepped(pub [f64; 3]);

impl Stepped {
    /// The same for every volume.
    pub fn flat(price: f64) -> Stepped {
        Stepped([price; 3])
    }

    /// What so many bytes cost a month.
    pub fn cost(self, bytes: f64) -> f64 {
        let gb = bytes.max(0.0) / GB;
        let [first, next, above] = self.0;
        let (fifty, five_hundred) = (50.0 * 1024.0, 500.0 * 1024.0);
        first * gb.min(fifty) + next * (gb.min(five_hundred) - fifty).max(0.0) + above * (gb - five_hundred).max(0.0)
    }
}

/// A price list. Everything is in one currency.
#[derive(Clone, PartialEq, Debug)]
pub struct Prices {
    /// The currency, as reports name it
    pub currency: String,
    /// Where the prices are from, and of when
    pub source: String,
    /// STANDARD, a GB and month
    pub standard: Stepped,
    /// Intelligent-Tiering, Frequent Access, a GB and month
    pub frequent: Stepped,
    /// Infrequent Access, a GB and month
    pub infrequent: f64,
    /// Archive Instant Access, a GB and month
    pub archive_instant: f64,
    /// Archive Access, a GB and month
    pub archive: f64,
    /// Deep Archive Access, a GB and month
    pub deep_archive: f64,
    /// Monitoring and automation, a month for 1,000 objects that can be tiered
    pub monitoring: f64,
    /// 1,000 PUT requests
    pub put: f64,
    /// 1,000 Expedited restores
    pub expedited_requests: f64,
    /// A GB of an Expedited restore
    pub expedited: f64,
}

impl Default for Prices {
    /// US East (N. Virginia), as `docs/cost.md` cites them.
    fn default() -> Prices {
        Prices {
            currency: "USD".to_owned(),
            source: "Amazon S3, us-east-1, https://aws.amazon.com/s3/pricing/ as of 2025-10-28".to_owned(),
            standard: Stepped([0.023, 0.022, 0.021]),
            frequent: Stepped([0.023, 0.022, 0.021]),
            infrequent: 0.0125,
            archive_instant: 0.004,
            archive: 0.0036,
            deep_archive: 0.00099,
            monitoring: 0.0025,
            put: 0.005,
            expedited_requests: 10.0,
            expedited: 0.03,
        }
    }
}

impl Prices {
    /// What objects that were restored Expedited cost, once.
    pub fn expedited_restore(&self, restored: super::Amount) -> f64 {
        self.expedited_requests * restored.objects / 1000.0 + self.expedited * restored.bytes / GB
    }

    /// What so many PUTs cost, once.
    pub fn puts(&self, requests: f64) -> f64 {
        self.put * requests / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_billed_step_by_step() {
        let price = Stepped([3.0, 2.0, 1.0]);
        let tb = 1024.0 * GB;
        assert_eq!(price.cost(0.0), 0.0);
        assert_eq!(price.cost(GB), 3.0);
        assert_eq!(price.cost(50.0 * tb), 3.0 * 51_200.0);
        assert_eq!(price.cost(51.0 * tb), 3.0 * 51_200.0 + 2.0 * 1024.0);
        assert_eq!(price.cost(501.0 * tb), 3.0 * 51_200.0 + 2.0 * 460_800.0 + 1024.0);
        assert_eq!(Stepped::flat(2.0).cost(501.0 * tb), 2.0 * 501.0 * 1024.0);
    }
}
