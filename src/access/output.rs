//! Where the lines go: a stream of the process, or a file that may be renamed at any time.

use super::{Ended, line};
use crate::host::stderr;
use crate::log_file::is_at;
use crate::log_format::LogFormat;
use crate::log_queue::Sink;
use crate::throttled::Throttled;
use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error, where the log goes.
    Stderr,
    /// The end of this file.
    File(PathBuf),
}

impl Display for Output {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Output::Stdout => formatter.write_str("standard output"),
            Output::Stderr => formatter.write_str("standard error"),
            Output::File(path) => path.display().fmt(formatter),
        }
    }
}

/// Interval, in seconds, at which it is told that lines cannot be written.
const QUIET_SECONDS: u64 = 60;
/// Lines are written in pieces of about this many bytes.
const AT_ONCE: usize = 256 << 10;

static NOT_WRITTEN: Throttled = Throttled::new(QUIET_SECONDS);

/// What the log and its thread tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set to have the file opened again.
    pub(super) reopen: AtomicBool,
    /// The lines that were taken and could not be written.
    pub(super) failed: AtomicU64,
}

/// Writes lines.
pub(super) struct Lines {
    output: Output,
    to: Target,
    format: LogFormat,
    shared: Arc<Shared>,
    /// Lines that could not be written and have not been told of.
    missing: u64,
    /// True if the last line was written in part.
    is_torn: bool,
}

enum Target {
    Stdout,
    Stderr,
    File { path: PathBuf, open: Option<File> },
}

impl Lines {
    /// Opens the output. A file is created, and has to be writable now; later it may be away for a while.
    pub(super) fn open(output: &Output, format: LogFormat, shared: Arc<Shared>) -> io::Result<Lines> {
        let to = match output {
            Output::Stdout => Target::Stdout,
            Output::Stderr => Target::Stderr,
            Output::File(path) => Target::File { path: path.clone(), open: Some(open(path)?) },
        };
        Ok(Lines { output: output.clone(), to, format, shared, missing: 0, is_torn: false })
    }

    /// Writes whole lines; those that are not written, or in part, are missing. Returns whether all are.
    fn put(&mut self, text: &str) -> bool {
        let (written, failure) = self.to.write(text.as_bytes(), self.is_torn);
        if let Some(last) = text.as_bytes()[..written].last() {
            self.is_torn = *last != b'\n';
        }
        let Some(why) = failure else { return true };
        let is_end = |byte: &&u8| **byte == b'\n';
        let missing = text.as_bytes()[written..].iter().filter(is_end).count() as u64;
        self.missing += missing;
        self.shared.failed.fetch_add(missing, Relaxed);
        if NOT_WRITTEN.pass().is_some() {
            tracing::warn!("lines of the access log are lost: {}: {why}", self.output);
        }
        false
    }
}

impl Sink<Ended> for Lines {
    fn write(&mut self, items: Vec<Ended>, dropped: u64) {
        self.to.follow(self.shared.reopen.swap(false, Relaxed));
        let missing = std::mem::take(&mut self.missing) + dropped;
        let mut text = String::new();
        if missing > 0 {
            line::write_dropped(&mut text, self.format, missing);
            // If this cannot be written either, they are still to be told of.
            if !self.put(&text) {
                self.missing = missing;
                self.shared.failed.fetch_sub(1, Relaxed);
            }
            text.clear();
        }
        for item in items {
            line::write(&mut text, self.format, &item);
            if text.len() >= AT_ONCE {
                self.put(&text);
                text.clear();
            }
        }
        if !text.is_empty() {
            self.put(&text);
        }
    }
}

impl Target {
    /// Writes `text`, on a new line if the last one `is_torn`. Returns how many bytes of it are written, and what has
    /// prevented the rest.
    fn write(&mut self, text: &[u8], is_torn: bool) -> (usize, Option<io::Error>) {
        let mut out: Box<dyn Write + '_> = match self {
            Target::Stdout => Box::new(stderr::stdout()),
            Target::Stderr => Box::new(stderr::writer()),
            Target::File { open: Some(file), .. } => Box::new(file),
            Target::File { path, open: none } => match open(path) {
                Ok(file) => Box::new(none.insert(file)),
                Err(why) => return (0, Some(why)),
            },
        };
        if is_torn && let Err(why) = out.write_all(b"\n") {
            return (0, Some(why));
        }
        let mut written = 0;
        while written < text.len() {
            match out.write(&text[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return (written, Some(why)),
            }
        }
        (written, None)
    }

    /// Lets go of a file that its name no longer means, as when it was renamed to make place for a new one.
    fn follow(&mut self, reopen: bool) {
        if let Target::File { path, open: file } = self
            && (reopen || file.as_ref().is_some_and(|file| !is_at(path, file)))
        {
            *file = None;
        }
    }
}

/// Opens a file to append to; readable by its owner and group, as it tells who asked for what. A pipe that nobody reads
/// is an error, and one that is full loses lines.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::super::{AccessLog, AccessOptions, End, Entry, Head, Which};
    use super::*;
    use crate::exchange::{Asked, Exchange, Observers};
    use crate::peer::Sender;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(60);

    fn options(path: &Path) -> AccessOptions {
        let output = Output::File(path.to_owned());
        AccessOptions { which: Which::All, share: 1.0, output, format: LogFormat::Text }
    }

    fn begin(access: &Arc<AccessLog>, id: &'static str) -> Exchange {
        let (protocol, sender, method) = ("grpc", Sender::default(), "Predict");
        let asked = Asked { protocol, sender, certified: None, method, path: None, scheme: None };
        let observers = Observers { log: Some(access), ..Observers::default() };
        Exchange::begin(&observers, asked, |name| {
            (name == "x-request-id").then_some(id.as_bytes()).into_iter()
        })
    }

    fn log(access: &Arc<AccessLog>, id: &'static str, status: u16) {
        begin(access, id).end(status, None, 0);
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.split_once("request_id=").unwrap().1.to_owned()).collect()
    }

    fn until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_that_is_renamed_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let access = Arc::new(AccessLog::open(&options(&path)).unwrap());
        log(&access, "a", 200);
        until(|| ids(&path) == ["a"]);
        std::fs::rename(&path, &old).unwrap();
        log(&access, "b", 200);
        until(|| ids(&path) == ["b"]);
        access.reopen();
        log(&access, "c", 200);
        assert!(access.finish(SOON));
        assert_eq!((ids(&old), ids(&path)), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn lines_that_cannot_be_written_are_told_of_once_they_can() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("access.log");
        let shared = Arc::new(Shared::default());
        let mut lines = Lines::open(&Output::File(path.clone()), LogFormat::Text, shared.clone()).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        let line = || {
            let (sender, id) = (Sender::default(), (&b"x"[..]).into());
            let head = Head { protocol: "rest", sender, certified: None, id, trace: None, scheme: None };
            let end = End { status: Some(200), code: None, bytes: 0, took: SOON };
            Ended { entry: Arc::new(Entry::begin(head, "GET", Some("/"), None, None)), end }
        };
        lines.write(vec![line(), line()], 3);
        // Those that were dropped count where that was done.
        assert_eq!(shared.failed.load(Relaxed), 2);
        std::fs::create_dir(&inner).unwrap();
        lines.write(vec![line()], 0);
        let text = std::fs::read_to_string(&path).unwrap();
        let told: Vec<_> = text.lines().map(|line| line.split_once("access: ").unwrap().1).collect();
        assert_eq!((told.len(), told[0]), (2, "dropped=5"));
    }

    #[test]
    fn errors_alone_are_logged_where_no_more_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let errors = AccessOptions { which: Which::Errors, ..options(&path) };
        let access = Arc::new(AccessLog::open(&errors).unwrap());
        log(&access, "good", 200);
        log(&access, "bad", 404);
        drop(begin(&access, "left"));
        begin(&access, "fine").end(0, Some("OK"), 0);
        assert!(access.finish(SOON));
        assert_eq!(ids(&path), ["bad", "left"]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("code=CANCELLED"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_at_the_start() {
        assert!(AccessLog::open(&options(Path::new("/no/such/folder/access.log"))).is_err());
    }
}
