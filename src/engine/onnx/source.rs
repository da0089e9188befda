//! A model's files, and the sessions that are made of them.

#![allow(unsafe_code)]

use super::failure::Failure;
use super::ffi::OrtSessionOptions;
use super::graph::Description;
use super::runtime::Runtime;
use super::session::Handle;
use crate::engine::forms::Spread;
use crate::error::{Error, Kind, Result};
use crate::host::mapped_files::{self, Mapped};
use crate::host::memory::MappedWeights;
use std::collections::BTreeSet;
use std::ffi::{CString, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The files of a model as they were when it was loaded.
pub(super) struct Source {
    runtime: &'static Runtime,
    /// The model's, then those with more of its weights.
    files: Vec<PathBuf>,
    path: CString,
    were: Vec<Identity>,
    leave_the_graph: bool,
}

/// Changes when a file is replaced or written: device, inode, length, and the time of its content.
type Identity = (u64, u64, u64, (i64, i64));

fn identity(file: &Path) -> io::Result<Identity> {
    let found = std::fs::metadata(file)?;
    Ok((found.dev(), found.ino(), found.len(), (found.mtime(), found.mtime_nsec())))
}

impl Source {
    /// Remembers the files of the model in `file`.
    pub(super) fn new(runtime: &'static Runtime, file: &Path, description: &Description) -> Result<Source> {
        let path = CString::new(file.as_os_str().as_bytes())
            .map_err(|_| Error::invalid(format!("A NUL character is not allowed in {}", file.display())))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let external = description.external.iter().map(|external| folder.join(external));
        let files: Vec<PathBuf> = std::iter::once(file.to_owned()).chain(external).collect();
        let were = files.iter().map(|file| identity(file).map_err(|why| missing(file, &why)));
        let were = were.collect::<Result<_>>()?;
        Ok(Source { runtime, files, path, were, leave_the_graph: description.may_have_idle_loop })
    }

    /// Returns the size of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.were.iter().map(|(_, _, length, _)| length).sum()
    }

    /// Makes the first session.
    pub(super) fn open(&self, spread: Spread) -> Result<Handle> {
        let file = &self.files[0];
        let failed = |why: Failure| {
            let (version, advice) = (&self.runtime.api.version, why.advice());
            // The file is named once.
            let names_it = format!("Load model from {} failed:", file.display());
            let text =
                why.text.strip_prefix(&names_it).unwrap_or(&why.text).trim_start().trim_end_matches('.');
            let text = format!("{}: ONNX Runtime {version} cannot load it: {text}. {advice}", file.display());
            Error::new(why.of_load(), text)
        };
        let (runtime, path, leave_the_graph) = (self.runtime, self.path.clone(), self.leave_the_graph);
        let weights =
            self.files[1..].iter().map(|file| file.canonicalize().map_err(|why| missing(file, &why)));
        let weights: BTreeSet<PathBuf> = weights.collect::<Result<_>>()?;
        let made = runtime.starter.run(move || {
            let _alone = Alone::with(&weights);
            let before = Mapped::now(&weights);
            let session = create(runtime, &path, spread, leave_the_graph)?;
            own(&weights, &before)?;
            Ok(session)
        })?;
        made.map_err(failed)
    }

    /// Makes another session, of the same bytes.
    pub(super) fn open_again(&self, spread: Spread) -> Result<Handle> {
        self.check()?;
        let session = self.open(spread)?;
        // Files that changed meanwhile.
        self.check()?;
        Ok(session)
    }

    /// Checks that the files are those that were loaded.
    fn check(&self) -> Result<()> {
        let is_same = |(file, was): (&PathBuf, &Identity)| identity(file).is_ok_and(|is| is == *was);
        if self.files.iter().zip(&self.were).all(is_same) {
            return Ok(());
        }
        let what = format!("{} or its weights have changed since they were loaded", self.files[0].display());
        Err(Error::new(Kind::FailedPrecondition, what))
    }
}

fn missing(file: &Path, why: &io::Error) -> Error {
    Error::new(Kind::FailedPrecondition, format!("{}: {why}", file.display()))
}

/// The files whose sessions are being made.
static OPENING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static OPENED: Condvar = Condvar::new();

/// The time in which no other session of these files is made, until it is dropped.
struct Alone<'a>(&'a BTreeSet<PathBuf>);

impl Alone<'_> {
    fn with(files: &BTreeSet<PathBuf>) -> Alone<'_> {
        let is_taken = |opening: &mut BTreeSet<PathBuf>| !opening.is_disjoint(files);
        let waited = OPENED.wait_while(opening(), is_taken);
        waited.unwrap_or_else(PoisonError::into_inner).extend(files.iter().cloned());
        Alone(files)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        opening().retain(|file| !self.0.contains(file));
        OPENED.notify_all();
    }
}

fn opening() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts memory in the place of `weights`, which ONNX Runtime has mapped for a session that was just made: a file that is
/// cut or written while the model runs would end the process, or change the model.
fn own(weights: &BTreeSet<PathBuf>, before: &Mapped) -> std::result::Result<(), Failure> {
    // SAFETY: only a session of these files maps them, this one is not released meanwhile, and no other one is being
    // made. ONNX Runtime only reads weights.
    let owned = unsafe { mapped_files::replace(weights, before) };
    owned.map(drop).map_err(|why| {
        // In the words of ONNX Runtime's, by which advice is chosen.
        let text = if why.kind() == io::ErrorKind::OutOfMemory {
            format!("Failed to allocate memory for its weights: {why}")
        } else {
            format!("its weights can not be read in full: {why}")
        };
        Failure::new(1, &text)
    })
}

/// Makes a session, with threads of its own if it is for all cores.
fn create(
    runtime: &'static Runtime,
    path: &CString,
    spread: Spread,
    leave_the_graph: bool,
) -> std::result::Result<Handle, Failure> {
    let api = &runtime.api;
    let options = Options::new(runtime, spread)?;
    if leave_the_graph {
        options.leave_the_graph()?;
    }
    let mut session = null_mut();
    let _mapped = MappedWeights::begin();
    // SAFETY: the path is a C string, environment and options are live; the session is ours.
    api.check(unsafe { (api.create_session)(runtime.env, path.as_ptr(), options.1, &raw mut session) })?;
    // SAFETY: made above, and nothing else has it.
    Ok(unsafe { Handle::from_raw(runtime, session) })
}

/// `OrtSessionOptions`, released when dropped.
struct Options(&'static Runtime, *mut OrtSessionOptions);

impl Options {
    fn new(runtime: &'static Runtime, spread: Spread) -> std::result::Result<Options, Failure> {
        let api = &runtime.api;
        let threads = match spread {
            Spread::AllCores => c_int::try_from(runtime.gauge.cores).unwrap_or(c_int::MAX),
            Spread::CoreEach => 1,
        };
        let mut raw = null_mut();
        // SAFETY: the result is ours, and live for the calls that follow; texts are C strings.
        unsafe {
            api.check((api.create_session_options)(&raw mut raw))?;
            let options = Options(runtime, raw);
            // The calling thread is one of them.
            api.check((api.set_intra_op_threads)(raw, threads))?;
            // During a run threads wait for the next operator by turning; without, a MobileNetV2 takes a fifth longer.
            // After it they would take cores from the other engines and from the server.
            let entry = api.add_session_config_entry;
            api.check(entry(raw, c"session.force_spinning_stop".as_ptr(), c"1".as_ptr()))?;
            // Without its arena, which keeps what the largest run took, and without its memory patterns, of which it
            // keeps one for each shape that ever came: the C library's allocator keeps as much for the next run, and
            // gives it back (`host/memory.rs`). Measured with MobileNetV2 at batches 1 to 32, three rounds: 407 MB
            // resident, and 51 MB when trimmed; with both 638 and 543 MB; the same time, no faults in either.
            api.check((api.disable_cpu_mem_arena)(raw))?;
            api.check((api.disable_mem_pattern)(raw))?;
            Ok(options)
        }
    }

    /// Turns optimisations of the graph off.
    fn leave_the_graph(&self) -> std::result::Result<(), Failure> {
        /// `ORT_DISABLE_ALL`.
        const NONE: c_int = 0;
        let api = &self.0.api;
        // SAFETY: the options are live.
        api.check(unsafe { (api.set_graph_optimization_level)(self.1, NONE) })
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `new`, released once.
        unsafe { (self.0.api.release_session_options)(self.1) };
    }
}
