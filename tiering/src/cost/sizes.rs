//! Sizes of objects: how many are too small to be tiered, and what they hold.

use std::f64::consts::SQRT_2;
use std::ops::{Add, AddAssign, Mul};

use super::SMALL;

/// A number of objects and their bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Amount {
    /// Objects
    pub objects: f64,
    /// Their bytes
    pub bytes: f64,
}

impl Add for Amount {
    type Output = Amount;

    fn add(self, other: Amount) -> Amount {
        Amount {
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl Mul<f64> for Amount {
    type Output = Amount;

    fn mul(self, share: f64) -> Amount {
        Amount {
            objects: self.objects * share,
            bytes: self.bytes * share,
        }
    }
}

/// Objects by whether S3 tiers them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sizes {
    /// Below [`SMALL`]
    pub small: Amount,
    /// The others
    pub large: Amount,
}

impl Sizes {
    /// All of them.
    pub fn total(self) -> Amount {
        self.small + self.large
    }
}

impl Add for Sizes {
    type Output = Sizes;

    fn add(self, other: Sizes) -> Sizes {
        Sizes {
            small: self.small + other.small,
            large: self.large + other.large,
        }
    }
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Sizes) {
        *self = *self + other;
    }
}

impl Mul<f64> for Sizes {
    type Output = Sizes;

    fn mul(self, share: f64) -> Sizes {
        Sizes {
            small: self.small * share,
            large: self.large * share,
        }
    }
}

/// Sizes whose logarithms are normally distributed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogNormal {
    /// Mean size in bytes (of the sizes, not of their logarithms)
    pub mean: f64,
    /// Standard deviation of the logarithms; 0: all are of one size
    pub sigma: f64,
}

impl LogNormal {
    /// Mean of the logarithms.
    pub fn mu(self) -> f64 {
        self.mean.max(1.0).ln() - self.sigma * self.sigma / 2.0
    }

    /// The share of objects of less than `limit` bytes.
    pub fn objects_below(self, limit: f64) -> f64 {
        self.below(limit, 0.0)
    }

    /// The share of all bytes that they hold.
    pub fn bytes_below(self, limit: f64) -> f64 {
        self.below(limit, self.sigma)
    }

    /// The distribution of bytes over sizes is the same curve, further up by sigma.
    fn below(self, limit: f64, shift: f64) -> f64 {
        if self.sigma <= 0.0 {
            return if self.mean < limit { 1.0 } else { 0.0 };
        }
        standard_normal((limit.max(1.0).ln() - self.mu()) / self.sigma - shift)
    }

    /// So many objects of these sizes.
    pub fn split(self, objects: f64) -> Sizes {
        let (limit, bytes) = (SMALL as f64, objects * self.mean);
        let small = Amount {
            objects: objects * self.objects_below(limit),
            bytes: bytes * self.bytes_below(limit),
        };
        Sizes {
            small,
            large: Amount {
                objects: objects - small.objects,
                bytes: bytes - small.bytes,
            },
        }
    }
}

/// The standard normal distribution function, to 2e-7: the error function by Abramowitz and Stegun, 7.1.26.
fn standard_normal(z: f64) -> f64 {
    let x = z.abs() / SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let erf = (1.0 - polynomial * (-x * x).exp()).clamp(0.0, 1.0);
    if z >= 0.0 { (1.0 + erf) / 2.0 } else { (1.0 - erf) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_that_of_the_tables() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_7),
            (-1.0, 0.158_655_3),
            (1.96, 0.975_002_1),
            (-3.0, 0.001_349_9),
        ] {
            assert!((standard_normal(z) - expected).abs() < 2e-7, "{z}: {}", standard_normal(z));
        }
    }

    #[test]
    fn a_sample_of_a_log_normal_distribution_has_the_shares_that_are_computed() {
        // Quantiles of the distribution itself: 100,000 sizes at equal steps of probability.
        let sizes = LogNormal {
            mean: 92_437.0,
            sigma: 1.0,
        };
        let quantile = |p: f64| {
            let (mut low, mut high) = (-8.0f64, 8.0f64);
            while high - low > 1e-9 {
                let middle = f64::midpoint(low, high);
                if standard_normal(middle) < p { low = middle } else { high = middle }
            }
            (sizes.mu() + low * sizes.sigma).exp()
        };
        let sample: Vec<f64> = (0..20_000).map(|n| quantile((f64::from(n) + 0.5) / 20_000.0)).collect();
        let (all, small): (f64, Vec<f64>) = (sample.iter().sum(), sample.iter().copied().filter(|s| *s < SMALL as f64).collect());
        assert!((all / 20_000.0 / sizes.mean - 1.0).abs() < 0.005, "{}", all / 20_000.0);
        let split = sizes.split(20_000.0);
        assert!((split.small.objects / small.len() as f64 - 1.0).abs() < 0.001);
        assert!((split.small.bytes / small.iter().sum::<f64>() - 1.0).abs() < 0.001);
        assert!((split.total().bytes / (20_000.0 * sizes.mean) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn sizes_without_deviation_are_all_on_one_side() {
        let one = |mean| LogNormal { mean, sigma: 0.0 }.split(10.0);
        assert_eq!((one(1000.0).small.objects, one(1000.0).large.objects), (10.0, 0.0));
        assert_eq!((one(SMALL as f64).small.objects, one(SMALL as f64).large.objects), (0.0, 10.0));
    }
}
