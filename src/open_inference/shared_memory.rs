//! Shared memory for clients on the same machine: they register parts of files in `/dev/shm` as regions, and name a region
//! in place of an input's data, or for an output's.
//!
//! A region is read and written: its file belongs to the client, who may shorten and change it at any time. What is read goes
//! straight into the tensor's own memory, so that it is the only copy; a client that changes it meanwhile changes nothing
//! that was checked. A server may be started to have models read some inputs where they are ([`in_place`]).
//!
//! Names are confined: a file directly in the folder, regular, no link, and with the prefix that the server was started
//! with. Where requests show tokens, a region is known to the holder of the one that registered it alone, and as long as it
//! is there, nobody else may register its file. It goes with its token.

use super::inputs::Expected;
use super::outputs::Chosen;
use super::parameters::InRegion;
use super::{refusal, strings};
use crate::error::{Error, Kind, Result};
use crate::host::file;
use crate::host::shared_mapping::SharedMapping;
use crate::memory::Reservation;
use crate::tensor::{Aligned, Tensor};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

mod in_place;
mod key;

pub use in_place::ReadInPlace;

/// The name of the extension.
pub const EXTENSION: &str = "system_shared_memory";

/// Most regions at once: each holds a descriptor.
const MOST: usize = 128;
/// Most of them that one token has.
const MOST_EACH: usize = 32;
/// Longest name of a region, in bytes.
const LONGEST_NAME: usize = 255;
/// Most bytes that are read in the thread that answers (some 100 µs of work).
pub const SMALL: usize = 1 << 20;

/// Where POSIX has shared memory on Linux.
const FOLDER: &str = "/dev/shm";

/// The regions that clients have registered.
#[derive(Debug)]
pub struct SharedMemory {
    /// With which the names of files begin.
    prefix: Box<str>,
    /// Whether models read inputs where clients have them.
    in_place: bool,
    /// Replaced whole, so that requests never wait.
    regions: ArcSwap<All>,
    /// Held while they are.
    changes: Mutex<()>,
}

/// The regions of each owner, the name of the token that was shown, by name. Who has none is not in it.
type All = BTreeMap<Option<Arc<str>>, BTreeMap<String, Arc<Region>>>;

/// A part of a file.
#[derive(Debug)]
struct Region {
    name: String,
    key: String,
    offset: u64,
    bytes: u64,
    file: File,
    /// Device and number of the file, which may be registered more than once.
    identity: (u64, u64),
    is_writable: bool,
    /// If models read it where it is.
    mapping: Option<Arc<SharedMapping>>,
}

/// What is told of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// Its name.
    pub name: String,
    /// The name of its file.
    pub key: String,
    /// Where it begins in its file.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

/// What a client registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRegion<'a> {
    /// The name of the region.
    pub name: &'a str,
    /// The name of the file, `/NAME`.
    pub key: &'a str,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

/// The regions that one client may use.
#[derive(Clone, Copy, Debug)]
pub struct Regions<'a> {
    memory: &'a SharedMemory,
    owner: Option<&'a Arc<str>>,
    /// Who has to know what is read where it is; without it, everything is copied.
    in_place: Option<&'a ReadInPlace>,
}

impl SharedMemory {
    /// Starts without regions. The names of their files have to begin with `prefix`.
    pub fn new(prefix: &str) -> SharedMemory {
        let (regions, changes) = Default::default();
        SharedMemory { prefix: prefix.trim_start_matches('/').into(), in_place: false, regions, changes }
    }

    /// The same, with inputs that models read where clients have them if `in_place`.
    pub fn read_in_place(self, in_place: bool) -> SharedMemory {
        SharedMemory { in_place, ..self }
    }

    /// Returns whether models may read inputs where clients have them.
    pub fn reads_in_place(&self) -> bool {
        self.in_place
    }

    /// Returns the regions of who shows the token `owner`, or none.
    pub fn of<'a>(&'a self, owner: Option<&'a Arc<str>>) -> Regions<'a> {
        Regions { memory: self, owner, in_place: None }
    }

    /// Forgets the regions of tokens that `lists` does not know. Requests that use one end as if it were there.
    pub fn keep_owners(&self, lists: impl Fn(&str) -> bool) {
        let stays = |owner: &Option<Arc<str>>| owner.as_deref().is_none_or(&lists);
        if self.regions.load().keys().all(stays) {
            return;
        }
        let forget = |all: &mut All| {
            all.retain(|owner, _| stays(owner));
            Ok(())
        };
        // It does not fail.
        let _changed = self.change(forget);
    }

    /// Replaces the regions by what `change` makes of them.
    fn change<T>(&self, change: impl FnOnce(&mut All) -> Result<T>) -> Result<T> {
        let _alone = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut regions = All::clone(&self.regions.load());
        let changed = change(&mut regions)?;
        self.regions.store(Arc::new(regions));
        Ok(changed)
    }
}

impl<'a> Regions<'a> {
    /// Returns the same, of which `known` gets to know what is read where it is.
    pub fn known_to(self, known: &'a ReadInPlace) -> Regions<'a> {
        Regions { in_place: Some(known), ..self }
    }

    /// Registers a region.
    pub fn register(&self, new: &NewRegion<'_>) -> Result<()> {
        if new.name.is_empty() || new.name.len() > LONGEST_NAME {
            return Err(Error::invalid(format!(
                "a shared memory region needs a name of 1 to {LONGEST_NAME} bytes, got {}",
                new.name.len()
            )));
        }
        let file = key::file_name(new.key, &self.memory.prefix)?;
        let region = Arc::new(self.open(new, file)?);
        let owner = self.owner.cloned();
        self.memory.change(|all| {
            let (count, own) = (all.values().map(BTreeMap::len).sum::<usize>(), all.get(&owner));
            if own.is_some_and(|own| own.contains_key(new.name)) {
                return Err(Error::new(
                    Kind::AlreadyExists,
                    format!("shared memory region '{}' already in manager", refusal::shown(new.name)),
                ));
            }
            let others = all.iter().filter(|(of, _)| **of != owner).flat_map(|(_, regions)| regions.values());
            if others.into_iter().any(|other| other.identity == region.identity) {
                return Err(Error::new(
                    Kind::PermissionDenied,
                    format!(
                        "shared memory '{}' is registered by the holder of another token",
                        refusal::shown(new.key)
                    ),
                ));
            }
            if count >= MOST {
                return Err(Error::new(
                    Kind::ResourceExhausted,
                    format!("There are {MOST} shared memory regions, the most at once: unregister one first"),
                ));
            }
            if owner.is_some() && own.map_or(0, BTreeMap::len) >= MOST_EACH {
                return Err(Error::new(
                    Kind::ResourceExhausted,
                    format!(
                        "There are {MOST_EACH} shared memory regions of this token, the most at once: unregister one first"
                    ),
                ));
            }
            all.entry(owner).or_default().insert(new.name.to_owned(), region);
            Ok(())
        })
    }

    /// Opens the file of a region, and checks that it has it.
    fn open(&self, new: &NewRegion<'_>, name: &str) -> Result<Region> {
        let key = refusal::shown(new.key);
        let failed = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("Unable to open shared memory region: '{key}': {why}"))
        };
        let (file, is_writable) = open(name).map_err(|why| failed(&why))?;
        let found = file.metadata().map_err(|why| failed(&why))?;
        if !found.is_file() {
            return Err(failed(&"it is no regular file"));
        }
        let fits = new.offset.checked_add(new.bytes).is_some_and(|end| end <= found.len());
        if new.bytes == 0 || !fits {
            return Err(Error::invalid(format!(
                "failed to register shared memory region '{}', invalid args: offset {} and byte_size {} are not within \
                 the {} bytes of '{key}'",
                refusal::shown(new.name),
                new.offset,
                new.bytes,
                found.len()
            )));
        }
        let region = Region {
            name: new.name.to_owned(),
            key: new.key.to_owned(),
            offset: new.offset,
            bytes: new.bytes,
            file,
            identity: (found.dev(), found.ino()),
            is_writable,
            mapping: None,
        };
        Ok(if self.memory.in_place { region.mapped() } else { region })
    }

    /// Forgets region `name`, or all if that is empty. One that is not known is forgotten already. Requests that use it end
    /// as if it were there.
    pub fn unregister(&self, name: &str) {
        let owner = self.owner.cloned();
        let forget = |all: &mut All| {
            if let Some(own) = all.get_mut(&owner) {
                own.retain(|known, _| !name.is_empty() && known != name);
                all.retain(|_, regions| !regions.is_empty());
            }
            Ok(())
        };
        // It does not fail.
        let _changed = self.memory.change(forget);
    }

    /// Tells of region `name`, or of all if that is empty.
    pub fn status(&self, name: &str) -> Result<Vec<RegionStatus>> {
        let all = self.memory.regions.load();
        let own = all.get(&self.owner.cloned()).into_iter().flat_map(BTreeMap::values);
        let told = |region: &Arc<Region>| RegionStatus {
            name: region.name.clone(),
            key: region.key.clone(),
            offset: region.offset,
            bytes: region.bytes,
        };
        let all: Vec<_> = own.filter(|region| name.is_empty() || region.name == name).map(told).collect();
        if all.is_empty() && !name.is_empty() {
            let name = refusal::shown(name);
            return Err(Error::not_found(format!("Unable to find system shared memory region: '{name}'")));
        }
        Ok(all)
    }

    /// Makes the tensor of an input whose data are at `place`. Counts its memory in `memory` before it is there.
    pub fn read(&self, place: &InRegion, expected: Expected<'_>, memory: &Reservation) -> Result<Tensor> {
        let placed = self.place(place)?;
        if let Some(bytes) = expected.bytes()
            && bytes != placed.bytes
        {
            return Err(refusal::wrong_size(&expected.spec.alias, bytes, placed.bytes));
        }
        if let Some(known) = self.in_place
            && let Some(bytes) = known.take(&placed, expected.spec.dtype)?
        {
            return expected.read(bytes, memory);
        }
        memory.grow(placed.bytes)?;
        let mut bytes: Aligned<u8> = Aligned::new(64);
        file::append(&placed.region.file, placed.offset, placed.bytes, &mut bytes)
            .map_err(|why| placed.failed("read", &why))?;
        expected.read(Bytes::from_owner(Read(bytes)), memory)
    }

    /// Finds the places of those outputs that are wanted in a region. No two may share any of it.
    pub fn put(&self, outputs: &mut Chosen) -> Result<()> {
        let mut places = Vec::with_capacity(outputs.positions.len());
        for index in 0..outputs.positions.len() {
            let said = outputs.said(index);
            let placed = said.shared.as_deref().map(|place| self.place(place)).transpose()?;
            if let Some(placed) = placed.as_ref().filter(|placed| !placed.region.is_writable) {
                let name = refusal::shown(&placed.region.name);
                return Err(Error::new(
                    Kind::PermissionDenied,
                    format!("shared memory region '{name}' may not be written by this server"),
                ));
            }
            places.push(placed);
        }
        if let Some(name) = overlapping(&places) {
            return Err(Error::invalid(format!(
                "two outputs overlap in shared memory region '{}': give each a part of its own",
                refusal::shown(name)
            )));
        }
        outputs.places = places;
        Ok(())
    }

    /// Finds the part of a region that `place` names.
    fn place(&self, place: &InRegion) -> Result<Placed> {
        let name =
            place.region.as_deref().ok_or_else(|| refusal::parameter(REGION, "the name of a region"))?;
        let bytes =
            place.bytes.ok_or_else(|| refusal::parameter(BYTES, "the number of bytes in the region"))?;
        let all = self.memory.regions.load();
        let region = all.get(&self.owner.cloned()).and_then(|own| own.get(name));
        let region = region.ok_or_else(|| {
            Error::not_found(format!("Unable to find shared memory region: '{}'", refusal::shown(name)))
        })?;
        let outside = |what: &str| {
            let name = refusal::shown(name);
            Error::invalid(format!("Invalid {what} for shared memory region: '{name}'"))
        };
        let within = |end: Option<usize>| end.is_some_and(|end| end as u64 <= region.bytes);
        if !within(Some(place.offset)) {
            return Err(outside("offset"));
        }
        if !within(place.offset.checked_add(bytes)) {
            return Err(outside("offset + byte size"));
        }
        let (offset, of_request) = (region.offset + place.offset as u64, place.offset);
        Ok(Placed { region: region.clone(), offset, of_request, bytes })
    }
}

/// The names of the parameters.
pub const REGION: &str = "shared_memory_region";
/// See [`REGION`].
pub const BYTES: &str = "shared_memory_byte_size";
/// See [`REGION`].
pub const OFFSET: &str = "shared_memory_offset";

/// A part of a region, which stays as long as this.
#[derive(Clone, Debug)]
pub struct Placed {
    region: Arc<Region>,
    /// In the file.
    offset: u64,
    /// In the region, as the client has it.
    of_request: usize,
    bytes: usize,
}

impl Placed {
    /// Returns the name of the region.
    pub fn name(&self) -> &str {
        &self.region.name
    }

    /// Returns where it begins in the region.
    pub fn offset(&self) -> usize {
        self.of_request
    }

    /// Writes `tensor`, which is output `name`; returns the bytes that it takes. What it needs for that is counted in `memory`
    /// meanwhile.
    pub fn write(&self, name: &str, tensor: &Tensor, memory: &Reservation) -> Result<usize> {
        let Some(strings) = tensor.as_strings() else { return self.write_bytes(name, tensor.bytes()) };
        let (size, before) = (strings::size(strings), memory.bytes());
        self.check(name, size)?;
        memory.grow(size)?;
        let written = self.write_bytes(name, &strings::encoded(strings));
        memory.resize(before)?;
        written
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<usize> {
        self.check(name, bytes.len())?;
        // What is written beyond the end of a file makes it longer.
        let end = self.offset + bytes.len() as u64;
        let file = &self.region.file;
        let written = file.metadata().and_then(|found| match found.len() {
            length if length < end => Err(ErrorKind::UnexpectedEof.into()),
            _ => file.write_all_at(bytes, self.offset),
        });
        written.map(|()| bytes.len()).map_err(|why| self.failed("written", &why))
    }

    fn check(&self, name: &str, needed: usize) -> Result<()> {
        if needed <= self.bytes {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "shared memory size specified with the request for output '{}' ({} bytes) should be at least {needed} bytes \
             to hold the results",
            refusal::shown(name),
            self.bytes
        )))
    }

    fn failed(&self, what: &str, why: &io::Error) -> Error {
        let why = if why.kind() == ErrorKind::UnexpectedEof {
            "its file has become shorter since it was registered".to_owned()
        } else {
            why.to_string()
        };
        let name = refusal::shown(&self.region.name);
        Error::invalid(format!("shared memory region '{name}' cannot be {what}: {why}"))
    }
}

/// Returns the region in which two of `places` overlap, if there is one.
fn overlapping(places: &[Option<Placed>]) -> Option<&str> {
    let mut all: Vec<_> = places.iter().flatten().filter(|placed| placed.bytes > 0).collect();
    all.sort_by_key(|placed| (placed.region.identity, placed.offset));
    let share = |pair: &[&Placed]| {
        pair[0].region.identity == pair[1].region.identity
            && pair[0].offset + pair[0].bytes as u64 > pair[1].offset
    };
    all.windows(2).find(|pair| share(pair)).map(|pair| pair[1].region.name.as_str())
}

/// Opens the file `name` of the folder; also returns whether it may be written.
fn open(name: &str) -> io::Result<(File, bool)> {
    let path = Path::new(FOLDER).join(name);
    let open = |write| {
        let mut options = OpenOptions::new();
        // A pipe would be waited for.
        options.read(true).write(write).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)
    };
    match open(true) {
        Err(why) if why.kind() == ErrorKind::PermissionDenied => open(false).map(|file| (file, false)),
        opened => opened.map(|file| (file, true)),
    }
}

/// Returns the bytes in regions that a request in JSON mentions, at most: by that it is decided where it is decoded. Any
/// number where there is an escape, by which names can be written otherwise.
pub fn mentioned(json: &[u8]) -> usize {
    if memchr::memchr(b'\\', json).is_some() {
        return usize::MAX;
    }
    let after = |at: usize| &json[at + BYTES.len()..];
    let number = |rest: &[u8]| {
        let digits =
            rest.iter().skip_while(|byte| matches!(**byte, b'"' | b':') || byte.is_ascii_whitespace());
        digits
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0usize, |number, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
    };
    memchr::memmem::find_iter(json, BYTES).fold(0, |sum, at| sum.saturating_add(number(after(at))))
}

/// Lets `Bytes` own what was read.
struct Read(Aligned<u8>);

impl AsRef<[u8]> for Read {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
