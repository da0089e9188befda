//! Random numbers for identifiers and shares: fast, and of no use for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Returns a random number: of a sequence (SplitMix64) that begins elsewhere in every thread of every process.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    }
    let mut sequence = Sequence(STATE.get());
    let number = sequence.next();
    STATE.set(sequence.0);
    number
}

/// The sequence of numbers (SplitMix64) that begins with a seed.
#[derive(Clone, Debug)]
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the next number of (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / STEPS
    }
}

/// Numbers up to this are exact as `f64`.
const STEPS: f64 = (1_u64 << 53) as f64;

/// Returns true with the probability `share`.
pub(crate) fn chosen(share: f64) -> bool {
    share >= 1.0 || (share > 0.0 && ((random() >> 11) as f64) < share * STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_chosen() {
        let count = |share| (0..20_000).filter(|_| chosen(share)).count();
        assert_eq!((count(0.0), count(1.0), count(-1.0), count(f64::NAN)), (0, 20_000, 0, 0));
        // 40 standard deviations.
        assert!((2_000..8_000).contains(&count(0.25)), "{}", count(0.25));
    }
}
