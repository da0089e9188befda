//! Tries every decoder with some thousands of changed examples: a short search, by stable Rust, for what
//! `cargo +nightly fuzz run TARGET` searches longer and better.
//!
//! `FUZZ_RUNS` is the number of tries for each target; `FUZZ_SEED` repeats those of a failure, which names its own.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use targets::{TARGETS, Target};

const RUNS: u64 = 3000;
/// Longest input, in bytes.
const LONGEST: usize = 8 << 10;
/// Bytes that mean something to one of the decoders.
const MEANING: &[u8] = b"[]{}\",:\\.-+eE0919aINt \n\t\x00\x01\x02\x08\x0a\x12\x1a\x22\x7f\x80\xff<>/=;&";

/// A sequence of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Returns an example with some changes.
fn changed(examples: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = examples[random.below(examples.len())].to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below((bytes.len() - at).min(32) + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = MEANING[random.below(MEANING.len())],
            2 => bytes.insert(at, MEANING[random.below(MEANING.len())]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].repeat(1 + random.below(20));
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = examples[random.below(examples.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ if at < bytes.len() => bytes[at] = random.next() as u8,
            _ => bytes.push(random.next() as u8),
        }
        bytes.truncate(LONGEST.max(examples.iter().map(|example| example.len()).max().unwrap_or(0)));
    }
    bytes
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn check(target: &Target) {
    let seed = number("FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(target.name));
    let mut random = Random(seed);
    target.examples.iter().for_each(|example| (target.run)(example));
    for _ in 0..number("FUZZ_RUNS").unwrap_or(RUNS) {
        let input = changed(target.examples, &mut random);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            panic!("{} fails for \"{}\"; FUZZ_SEED={seed} repeats it", target.name, input.escape_ascii());
        }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    std::thread::scope(|scope| {
        let threads: Vec<_> = TARGETS.iter().map(|target| scope.spawn(|| check(target))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn every_target_can_be_run_by_libfuzzer_too() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(std::path::Path::new(&format!("{folder}/fuzz_targets/{name}.rs")).exists(), "{name}");
    }
    let files = std::fs::read_dir(format!("{folder}/fuzz_targets")).unwrap().count();
    assert_eq!(files, TARGETS.len());
}
