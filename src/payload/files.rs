//! The files of one place: a new one once the last is large or old enough, could not be written to, or was renamed.

use super::{AsJson, Counts, Form, Place, Record};
use crate::log_file::is_at;
use crate::log_queue::Sink;
use crate::tfrecord::framed;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// When a file ends and another begins.
#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// Bytes from which on it is full; 0 for no limit.
    pub bytes: u64,
    /// Its age; `None` for no limit.
    pub age: Option<Duration>,
}

/// Records are written in pieces of about this many bytes.
const AT_ONCE: usize = 1 << 20;

/// Numbers the files of this process, so that no two have the same name.
static FILES: AtomicU64 = AtomicU64::new(1);

/// Writes records.
pub(super) struct Files {
    place: Place,
    limits: FileLimits,
    as_json: AsJson,
    counts: Arc<Counts>,
    /// How often new files were asked for, in all, and when the open one began.
    reopened: (Arc<AtomicU64>, u64),
    open: Option<OpenFile>,
    /// True from the first record that could not be written to the next one that was: both are logged.
    is_failing: bool,
}

/// Records as they are in a file.
#[derive(Default)]
struct Framed {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
}

impl Framed {
    /// Returns how many are whole in the first `length` bytes.
    fn fit(&self, length: u64) -> usize {
        self.ends.partition_point(|&end| end as u64 <= length)
    }
}

struct OpenFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    since: Instant,
}

impl Files {
    pub(super) fn new(
        place: Place,
        limits: FileLimits,
        as_json: AsJson,
        (counts, reopened): (Arc<Counts>, Arc<AtomicU64>),
    ) -> Files {
        let reopened = (reopened, 0);
        Files { place, limits, as_json, counts, reopened, open: None, is_failing: false }
    }

    /// Writes some records at once, and counts those that could not be written as lost.
    fn put(&mut self, records: &Framed) {
        let (written, end) = self.append(records);
        self.counts.written.fetch_add(written as u64, Relaxed);
        match end {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the payload log {} is written again", self.place.prefix.display());
                }
            }
            Err(why) => {
                self.counts.lost.fetch_add((records.ends.len() - written) as u64, Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        "the payload log {} cannot be written, and records are lost until it can: {why}",
                        self.place.prefix.display()
                    );
                }
            }
        }
    }

    /// Writes these records, or as many from the first on as can be written; returns their number.
    fn append(&mut self, records: &Framed) -> (usize, io::Result<()>) {
        let mut open = match self.open.take().map_or_else(|| self.create(), Ok) {
            Ok(open) => open,
            Err(why) => return (0, Err(why)),
        };
        if let Err(why) = open.file.write_all(&records.bytes) {
            // A file ends with a whole record, or does not exist; the next records get a file of their own.
            let reached = open.file.stream_position().unwrap_or(open.bytes);
            let whole = records.fit(reached.saturating_sub(open.bytes));
            let end = open.bytes + whole.checked_sub(1).map_or(0, |last| records.ends[last]) as u64;
            let is_cut = open.file.set_len(end).is_ok();
            if end == 0 {
                let _gone = std::fs::remove_file(&open.path);
            }
            return (if is_cut { whole } else { 0 }, Err(why));
        }
        open.bytes += records.bytes.len() as u64;
        let is_full = self.limits.bytes > 0 && open.bytes >= self.limits.bytes;
        self.open = Some(open).filter(|_| !is_full);
        (records.ends.len(), Ok(()))
    }

    /// Creates a file that was not there, readable by its owner and group: what clients send may be private.
    fn create(&self) -> io::Result<OpenFile> {
        loop {
            let (now, number) = (chrono::Local::now().format("%Y%m%d-%H%M%S"), FILES.fetch_add(1, Relaxed));
            let mut path = self.place.prefix.clone().into_os_string();
            path.push(format!("-{now}-{}-{number}.{}", std::process::id(), self.place.form.ending()));
            let path = PathBuf::from(path);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            match OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path) {
                Ok(file) => return Ok(OpenFile { file, path, bytes: 0, since: Instant::now() }),
                // Of an earlier process with the same number.
                Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Lets go of a file that is old enough, or whose name no longer means it, as when it was renamed to be taken away.
    fn end_old(&mut self) {
        let (asked, seen) = (self.reopened.0.load(Relaxed), self.reopened.1);
        self.reopened.1 = asked;
        let is_old = self.next_call().is_some_and(|end| end <= Instant::now());
        let is_away = |open: &OpenFile| !is_at(&open.path, &open.file);
        if is_old || asked != seen || self.open.as_ref().is_some_and(is_away) {
            self.open = None;
        }
    }
}

impl Sink<Record> for Files {
    fn write(&mut self, items: Vec<Record>, dropped: u64) {
        self.end_old();
        if dropped > 0 {
            tracing::warn!(
                "the payload log {} lacks {dropped} records that came faster than they were written",
                self.place.prefix.display()
            );
        }
        let mut records = Framed::default();
        for item in items {
            match self.place.form {
                Form::TfRecord => records.bytes.extend(framed(&item.bytes)),
                Form::Json => {
                    records.bytes.extend((self.as_json)(&item.bytes));
                    records.bytes.push(b'\n');
                }
            }
            let length = records.bytes.len();
            records.ends.push(length);
            let written = self.open.as_ref().map_or(0, |open| open.bytes);
            let fills = self.limits.bytes > 0 && written + length as u64 >= self.limits.bytes;
            if length >= AT_ONCE || fills {
                self.put(&records);
                records.bytes.clear();
                records.ends.clear();
            }
        }
        if !records.ends.is_empty() {
            self.put(&records);
        }
    }

    fn next_call(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        self.limits.age.and_then(|age| open.since.checked_add(age))
    }
}
