//! Which share a request belongs to, by a number that is drawn or made of a key: pure.
//!
//! Every share asks in turn whether a request is its own, by a number of its own. So a key stays with a share that grows, and
//! with one that nothing changes about but what comes after it. What a share gains, it takes from the default and from shares
//! after it, which make up for that in the same way.

use super::rules::WHOLE;

/// A share as it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// How much of the traffic, in millionths.
    pub(super) millionths: u64,
    /// What makes its numbers its own.
    pub(super) salt: u64,
}

/// Returns the hash of `bytes` (FNV-1a from `seed` on): the same in every process, so that several servers, and one that is
/// started again, agree about a key.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Where hashes of names begin.
pub(super) const START: u64 = 0xcbf2_9ce4_8422_2325;

/// Returns the place among `weights`, which are at most the whole together, of a request with this number; `None` if it
/// belongs to none.
pub(super) fn place(weights: &[Weight], number: u64) -> Option<usize> {
    let mut left = WHOLE;
    weights.iter().position(|weight| {
        let drawn = (u128::from(mixed(number ^ weight.salt)) * u128::from(left)) >> 64;
        let is_its_own = drawn < u128::from(weight.millionths);
        left = left.saturating_sub(weight.millionths);
        is_its_own
    })
}

/// Spreads `number` over all 64 bits (the end of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(millionths: &[u64]) -> Vec<Weight> {
        let of = |(at, millionths): (usize, &u64)| Weight {
            millionths: *millionths,
            salt: hash(START, at.to_string().as_bytes()),
        };
        millionths.iter().enumerate().map(of).collect()
    }

    /// Returns how many of `requests` keys belong to each share, and to none.
    fn spread(weights: &[Weight], requests: u64) -> Vec<u64> {
        let mut counts = vec![0; weights.len() + 1];
        for request in 0..requests {
            let place = place(weights, hash(START, &request.to_le_bytes()));
            counts[place.unwrap_or(weights.len())] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_as_large_as_they_are_set() {
        let requests = 200_000;
        for shares in [vec![50_000], vec![1_000_000], vec![250_000, 500_000, 250_000], vec![10_000, 900_000]]
        {
            let none = WHOLE - shares.iter().sum::<u64>();
            let expected = shares.iter().copied().chain([none]);
            for (share, count) in expected.zip(spread(&weights(&shares), requests)) {
                let (mean, part) = (share * requests / WHOLE, share as f64 / WHOLE as f64);
                let deviation = (requests as f64 * part * (1.0 - part)).sqrt();
                assert!(
                    count.abs_diff(mean) as f64 <= 5.0 * deviation + 1.0,
                    "{shares:?}: {count} of {mean}"
                );
            }
        }
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        // FNV-1a of "a", as published.
        assert_eq!(hash(START, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
    }

    fn shares() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0u64..=WHOLE, 1..6).prop_map(|mut shares| {
            let mut left = WHOLE;
            for share in &mut shares {
                *share = (*share).min(left);
                left -= *share;
            }
            shares
        })
    }

    proptest! {
        #[test]
        fn a_key_keeps_the_share_that_grows(shares in shares(), at in any::<prop::sample::Index>(), more in 0u64..=WHOLE, number: u64) {
            let at = at.index(shares.len());
            let mut grown = shares.clone();
            grown[at] += more.min(WHOLE - shares.iter().sum::<u64>());
            let (before, after) = (place(&weights(&shares), number), place(&weights(&grown), number));
            if before == Some(at) {
                prop_assert_eq!(after, Some(at));
            }
            // What moves, moves to the share that grows, or to one after it, from one that is later still.
            if before != after {
                let comes_later = before.is_none() || before > after;
                prop_assert!(after >= Some(at) && comes_later, "{:?} {:?}", before, after);
            }
        }

        #[test]
        fn a_single_share_takes_from_the_default_alone(share in 0u64..=WHOLE, other in 0u64..=WHOLE, number: u64) {
            let (small, large) = (share.min(other), share.max(other));
            if place(&weights(&[small]), number).is_some() {
                prop_assert_eq!(place(&weights(&[large]), number), Some(0));
            }
        }

        #[test]
        fn nothing_and_everything_are_exact(number: u64) {
            prop_assert_eq!(place(&weights(&[0]), number), None);
            prop_assert_eq!(place(&weights(&[0, WHOLE]), number), Some(1));
            prop_assert_eq!(place(&weights(&[WHOLE, 0]), number), Some(0));
            prop_assert!(place(&weights(&[400_000, 600_000]), number).is_some());
            prop_assert_eq!(place(&[], number), None);
        }
    }
}
