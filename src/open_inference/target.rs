//! Which model, version and signature a request asks.
//!
//! A model's default signature is the model. Another one is named by the parameter `signature_name`, or with the model:
//! `NAME:SIGNATURE`. A version is a number, or a label by the parameter `version_label`.

use super::refusal;
use crate::error::Result;
use crate::methods::ModelSpec;
use crate::registry::{Registry, VersionChoice};

/// The names in a request. Empty ones are not said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// The model, or `NAME:SIGNATURE`.
    pub model: &'a str,
    /// The version, as text.
    pub version: &'a str,
    /// The version's label.
    pub label: &'a str,
    /// The signature.
    pub signature: &'a str,
}

/// Returns what `names` are for.
pub fn spec(registry: &Registry, names: &Names<'_>) -> Result<ModelSpec> {
    let (name, signature) = split(registry, names.model);
    let signature = one("signature", signature, names.signature)?;
    let choice = match (names.version, names.label) {
        ("", "") => VersionChoice::Latest,
        (version, "") => VersionChoice::Version(number(version)?),
        ("", label) => VersionChoice::Label(label.to_owned()),
        (version, label) => return Err(refusal::two_names("version", version, label)),
    };
    Ok(ModelSpec { name: name.to_owned(), choice, signature_name: signature.to_owned() })
}

/// Returns what is before the first colon of `text` and what is after it. A model whose name has a colon is not split.
fn split<'a>(registry: &Registry, text: &'a str) -> (&'a str, &'a str) {
    match text.split_once(':') {
        Some((name, signature)) if registry.is_available(text, None).is_none() => (name, signature),
        _ => (text, ""),
    }
}

fn one<'a>(what: &str, one: &'a str, other: &'a str) -> Result<&'a str> {
    match (one, other) {
        ("", only) | (only, "") => Ok(only),
        (one, other) if one == other => Ok(one),
        (one, other) => Err(refusal::two_names(what, one, other)),
    }
}

fn number(text: &str) -> Result<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| refusal::version(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::State;

    #[test]
    fn names_are_put_together() {
        let registry = Registry::default();
        registry.set_state("a:b", 1, State::Loading, None);
        let of = |model, version, label, signature| {
            let spec = spec(&registry, &Names { model, version, label, signature }).ok()?;
            Some((spec.name, spec.choice, spec.signature_name))
        };
        let latest =
            |name: &str, signature: &str| Some((name.into(), VersionChoice::Latest, signature.into()));
        assert_eq!(of("m", "", "", ""), latest("m", ""));
        assert_eq!(of("m:s", "", "", ""), latest("m", "s"));
        assert_eq!(of("m:s:t", "", "", "s:t"), latest("m", "s:t"));
        assert_eq!(of("m", "", "", "s"), latest("m", "s"));
        assert_eq!(of("a:b", "", "", "s"), latest("a:b", "s"), "a model is called so");
        assert_eq!(of("m", "7", "", "").unwrap().1, VersionChoice::Version(7));
        assert_eq!(of("m", "", "new", "").unwrap().1, VersionChoice::Label("new".into()));
        for (model, version, label, signature) in [
            ("m:s", "", "", "t"),
            ("m", "1", "new", ""),
            ("m", "-1", "", ""),
            ("m", "+1", "", ""),
            ("m", "1 ", "", ""),
            ("m", "99999999999999999999", "", ""),
        ] {
            assert_eq!(of(model, version, label, signature), None, "{model} {version}");
        }
    }
}
