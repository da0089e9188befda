//! LiteRT, which was TensorFlow Lite, through its C API.
//!
//! The library is opened once per process ([`LiteRt::open`]) and stays open. A file is read and checked here ([`file`])
//! before LiteRT sees it; a version is LiteRT's model of it with the interpreters that run it ([`model`]).

mod call;
mod compiled;
mod dtypes;
mod ffi;
pub mod file;
#[cfg(test)]
mod fixture;
mod flatbuffer;
mod flexbuffer;
mod model;
mod permits;
mod signatures;
mod strings;
mod version;

use super::choice::model_file;
use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::host::mapping::Mapping;
use ffi::{Api, EnvironmentOption};
use permits::Permits;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The open library, with what all models share.
struct Library {
    api: Api,
    environment: *mut ffi::Environment,
    /// The cores that runs may use together.
    cores: Permits,
}

// SAFETY: the environment is made once, then only read, and never destroyed.
#[allow(unsafe_code)]
unsafe impl Send for Library {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Library {}

/// The open library.
#[derive(Clone, Copy)]
pub struct LiteRt {
    library: &'static Library,
}

/// The path of the open library, and the library itself.
static OPEN: Mutex<Option<(PathBuf, LiteRt)>> = Mutex::new(None);

impl LiteRt {
    /// Opens `library` (`libLiteRt.so`), or returns it if it is already open.
    pub fn open(library: &Path) -> Result<LiteRt> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some((path, litert)) if path == library => return Ok(*litert),
            Some((path, _)) => {
                return Err(Error::new(
                    Kind::FailedPrecondition,
                    format!("LiteRT is already open from {}: a process can hold one", path.display()),
                ));
            }
            None => {}
        }
        version::check(library)?;
        let api = ffi::open(library)?;
        let environment = environment(&api)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let opened = Library { api, environment, cores: Permits::new(threads) };
        let litert = LiteRt { library: Box::leak(Box::new(opened)) };
        *open = Some((library.to_owned(), litert));
        Ok(litert)
    }
}

/// Makes LiteRT's environment: the processor is its only accelerator, and its log is silent: errors are
/// returned.
#[allow(unsafe_code)]
fn environment(api: &Api) -> Result<*mut ffi::Environment> {
    /// `kLiteRtEnvOptionTagAutoRegisterAccelerators`, `kLiteRtEnvOptionTagMinLoggerSeverity`, that of no message.
    const ACCELERATORS: i32 = 24;
    const SEVERITY: i32 = 25;
    const SILENT: i64 = 4;
    let options =
        [EnvironmentOption::new(ACCELERATORS, i64::from(ffi::CPU)), EnvironmentOption::new(SEVERITY, SILENT)];
    let mut environment = std::ptr::null_mut();
    // SAFETY: as many options as are stated are read during the call; the result is written to a place of our own.
    let status = unsafe { (api.create_environment)(2, options.as_ptr(), &raw mut environment) };
    compiled::checked(status, "start")?;
    Ok(environment)
}

impl Engine for LiteRt {
    /// An interpreter has threads of its own, which would inherit the low priority of a load.
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        false
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        let file = model_file(path, "model.tflite");
        let bytes = read(&file)?;
        let in_file = |why: Error| Error::new(why.kind, format!("{}: {}", file.display(), why.message));
        Ok(Box::new(model::Loaded::new(self.library, bytes).map_err(in_file)?))
    }
}

/// Reads a file into memory that is aligned as LiteRT needs it, and that goes back with the model.
fn read(file: &Path) -> Result<Mapping> {
    let bytes = || {
        let mut opened = files::open(file)?;
        let length = usize::try_from(opened.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = Mapping::zeroed(length, compiled::SPARE)?;
        opened.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    bytes().map_err(|why| unreadable(file, &why))
}

#[allow(clippy::wildcard_enum_match_arm)] // The standard library's list of kinds grows.
fn unreadable(file: &Path, why: &io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("There is no file {}", file.display())),
        io::ErrorKind::PermissionDenied => Error::new(
            Kind::PermissionDenied,
            format!("{} may not be read by this user: give it read permission", file.display()),
        ),
        _ => Error::new(Kind::FailedPrecondition, format!("{} cannot be read: {why}", file.display())),
    }
}

#[cfg(test)]
mod tests;
