//! Requests to the repository that have a body: its index, loading and unloading.

use super::parameters;
use crate::error::{Error, Result};
use crate::json::cursor::{self, Cursor, Type};
use crate::open_inference::repository::Change;
use crate::open_inference::{OpenInference, refusal};

/// Returns whether the index is asked for ready models alone; `body` is empty, or JSON.
pub(super) fn ready_only(body: &[u8]) -> Result<bool> {
    let [ready] = members(body, ["ready"])?;
    match ready.map(|value| value.value_type()) {
        None | Some(Type::False | Type::Null) => Ok(false),
        Some(Type::True) => Ok(true),
        Some(Type::Object | Type::Array | Type::String | Type::Number) => {
            Err(refusal::parameter("ready", "true or false"))
        }
    }
}

/// Loads or unloads `model`, as far as clients may.
pub(super) async fn change(view: &OpenInference, change: Change, model: String, body: &[u8]) -> Result<()> {
    check(body)?;
    view.change(change, model).await
}

/// Refuses parameters that would change what a model is made of.
fn check(body: &[u8]) -> Result<()> {
    let [parameters] = members(body, ["parameters"])?;
    let Some(mut parameters) = parameters else { return Ok(()) };
    parameters::read(&mut parameters, |name, _| {
        if name == "config" || name.starts_with("file:") {
            return Err(refusal::no_override(name));
        }
        Ok(())
    })
}

/// Finds `names` in the object that `body` is; none in an empty body.
pub(super) fn members<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<Cursor<'a>>; N]> {
    if body.trim_ascii().is_empty() {
        return Ok([None; N]);
    }
    cursor::members(cursor::root(body)?, names)?
        .ok_or_else(|| Error::invalid("The request is not a JSON object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_small_objects_or_nothing() {
        for (body, ready) in [("", false), (" ", false), ("{}", false), (r#"{"ready":true}"#, true)] {
            assert_eq!(ready_only(body.as_bytes()), Ok(ready), "{body}");
        }
        for bad in ["[]", "{", r#"{"ready":1}"#, "x"] {
            assert!(ready_only(bad.as_bytes()).is_err(), "{bad}");
        }
        for good in ["", "{}", r#"{"parameters":{"unload_dependents":true}}"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [r#"{"parameters":{"config":"{}"}}"#, r#"{"parameters":{"file:1/model":"x"}}"#, "[1]"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
