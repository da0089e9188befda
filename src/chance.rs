//! Random numbers for identifiers and shares: fast, and of no use for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Returns a random number: of a sequence (SplitMix64) that begins elsewhere in every thread of every process.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns true with the probability `share`.
pub(crate) fn chosen(share: f64) -> bool {
    /// Numbers below this are exact as `f64`.
    const STEPS: f64 = (1_u64 << 53) as f64;
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
