//! Chance that is the same every time: a number is a function of the seed, of what it is for, and of which one it is.

/// Draws of one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Everything that is drawn of one seed.
    pub(crate) fn of(seed: u64) -> Chance {
        Chance(mix(seed))
    }

    /// What is drawn for one thing: it does not depend on what else was drawn, or in which order.
    pub(crate) fn about(self, what: &str, number: u64) -> Chance {
        let mut state = self.0;
        for byte in what.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        Chance(mix(state ^ mix(number)))
    }

    /// A number below `end`.
    pub(crate) fn below(self, end: u64) -> u64 {
        // The high bits of a product, not a remainder: even where `end` is no power of two.
        u64::try_from((u128::from(mix(self.0)) * u128::from(end.max(1))) >> 64).unwrap_or(0)
    }

    /// One of a list, each as likely as the next.
    pub(crate) fn one<T>(self, list: &[T]) -> &T {
        &list[index(self.below(list.len() as u64))]
    }

    /// One of a list, the first the likeliest: as names are.
    pub(crate) fn early<T>(self, list: &[T]) -> &T {
        let length = list.len() as u64;
        let reach = self.about("reach", 0).below(length) + 1;
        &list[index(self.below(reach))]
    }

    /// One of a list by weights.
    pub(crate) fn weighted<T>(self, list: &[(u64, T)]) -> &T {
        let mut left = self.below(list.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in list {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return value,
            }
        }
        &list[list.len() - 1].1
    }

    /// So many bytes.
    pub(crate) fn bytes(self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut state = self.0;
        while bytes.len() < length {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            bytes.extend_from_slice(&mix(state).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_nothing_but_seed_and_subject() {
        let chance = Chance::of(1);
        assert_eq!(chance.about("x", 7).below(1000), Chance::of(1).about("x", 7).below(1000));
        assert_ne!(chance.about("x", 7).0, chance.about("x", 8).0);
        assert_ne!(chance.about("x", 7).0, chance.about("y", 7).0);
    }

    #[test]
    fn weights_are_kept() {
        let list = [(9, 'a'), (1, 'b')];
        let often = (0..10_000).filter(|i| *Chance::of(3).about("w", *i).weighted(&list) == 'a').count();
        assert!((8_800..9_200).contains(&often), "{often}");
    }
}
