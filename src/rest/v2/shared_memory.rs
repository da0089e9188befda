//! Shared memory over REST: `/v2/systemsharedmemory/…`.

use super::control::members;
use super::path::{Memory, Target};
use super::tell::{begin, elements, key, member};
use crate::auth::Pass;
use crate::error::{Error, Result};
use crate::json::cursor::{Cursor, Type};
use crate::json::number::Number;
use crate::json::writer::Writer;
use crate::open_inference::OpenInference;
use crate::open_inference::shared_memory::NewRegion;

/// Tells of region `name`, or of all if that is empty.
pub(super) fn status(view: &OpenInference, pass: Option<&Pass>, name: &str) -> Result<Vec<u8>> {
    let all = view.regions_of(pass)?.status(name)?;
    let mut out = Writer::with_room(64 + 256 * all.len());
    out.compact = true;
    elements(&mut out, all, |out, region| {
        let object = begin("name", &region.name).finish();
        out.raw(&object);
        member(out, "key", &region.key);
        key(out, "offset");
        out.integer(region.offset);
        key(out, "byte_size");
        out.integer(region.bytes);
        out.raw(b"}");
    });
    Ok(out.finish())
}

/// Registers or forgets what `target` names; `body` says of what a new region consists.
pub(super) fn change(view: &OpenInference, pass: Option<&Pass>, target: &Target, body: &[u8]) -> Result<()> {
    let regions = view.regions_of(pass)?;
    let Target::Memory(asked, name) = target else { return Ok(()) };
    if *asked != Memory::Register {
        regions.unregister(name);
        return Ok(());
    }
    let [file, offset, bytes] = members(body, ["key", "offset", "byte_size"])?;
    let file = file.map(text).transpose()?.unwrap_or_default();
    let number = |value: Option<Cursor<'_>>, name| value.map(|value| number(value, name)).transpose();
    let (offset, bytes) = (number(offset, "offset")?.unwrap_or(0), number(bytes, "byte_size")?.unwrap_or(0));
    regions.register(&NewRegion { name, key: &file, offset, bytes })
}

fn text(mut value: Cursor<'_>) -> Result<String> {
    if value.value_type() != Type::String {
        return Err(Error::invalid("Unable to parse 'key': expected a string"));
    }
    Ok(value.string()?.lossy())
}

fn number(mut value: Cursor<'_>, name: &str) -> Result<u64> {
    let wrong = || Error::invalid(format!("Unable to parse '{name}': expected a whole number of at least 0"));
    if value.value_type() != Type::Number {
        return Err(wrong());
    }
    match value.number()? {
        Number::Int(number) => u64::try_from(number).map_err(|_| wrong()),
        Number::Big(number) => Ok(number),
        Number::Double(_) => Err(wrong()),
    }
}
