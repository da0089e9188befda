//! Counts per version folder, which only TensorFlow Serving has: loads and warm-ups.

use super::code_name;
use super::histogram::{Histogram, LATENCY, Merged};
use crate::error::Kind;
use std::collections::BTreeMap;

/// Maximum number of folders remembered; those seen first are forgotten first.
const MAX_FOLDERS: usize = 1000;

/// Ordered by when each folder was first seen.
#[derive(Debug, Default)]
pub(super) struct Loads(pub(super) Vec<Folder>);

/// The counts of one folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) loads: u64,
    pub(super) failed_loads: u64,
    /// Microseconds of all loads that succeeded.
    pub(super) load_micros: u64,
    /// By the status code of the outcome.
    pub(super) warmups: BTreeMap<&'static str, Warmups>,
}

/// The warm-ups of a folder with the same outcome.
#[derive(Debug, Default)]
pub(super) struct Warmups {
    latency: Histogram<33>,
    pub(super) records: u64,
}

impl Warmups {
    pub(super) fn latency(&self) -> Merged {
        Merged::of(&self.latency)
    }
}

impl Loads {
    pub(super) fn loaded(&mut self, path: &str, micros: u64, succeeded: bool) {
        let folder = self.folder(path);
        if succeeded {
            folder.loads += 1;
            folder.load_micros += micros;
        } else {
            folder.failed_loads += 1;
        }
    }

    pub(super) fn warmed(&mut self, path: &str, micros: u64, records: u64, outcome: Result<(), Kind>) {
        let warmups = self.folder(path).warmups.entry(code_name(outcome)).or_default();
        warmups.latency.add(&LATENCY, micros);
        warmups.records += records;
    }

    fn folder(&mut self, path: &str) -> &mut Folder {
        let known = self.0.iter().position(|folder| folder.path == path);
        let index = known.unwrap_or_else(|| {
            if self.0.len() == MAX_FOLDERS {
                self.0.remove(0);
            }
            self.0.push(Folder { path: path.to_owned(), ..Folder::default() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}
