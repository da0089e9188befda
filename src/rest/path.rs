//! The URL grammar (docs/spec/rest.md section 2): methods and models.

use super::verb::Verb;
use crate::metrics::Api;
use crate::registry::VersionChoice;
use std::borrow::Cow;

/// The target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `POST /v1/models/NAME[…]:VERB`
    Call(&'static Verb, String, VersionChoice),
    /// `GET /v1/models/NAME[…]`
    Status(String, VersionChoice),
    /// `GET /v1/models/NAME[…]/metadata`
    Metadata(String, VersionChoice),
    /// `GET /v1/models/NAME[…]/openapi.json`, which TensorFlow Serving does not have
    OpenApi(String, VersionChoice),
    /// Not in the grammar.
    Malformed,
    /// The version's digits exceed 64 bits.
    VersionTooLarge(String),
}

impl Target {
    /// Returns the model's name, if there is one.
    pub(super) fn model(&self) -> &str {
        match self {
            Target::Call(_, name, _)
            | Target::Status(name, _)
            | Target::Metadata(name, _)
            | Target::OpenApi(name, _) => name,
            Target::Malformed | Target::VersionTooLarge(_) => "",
        }
    }
}

/// Returns whether `path` belongs to the API; everything else is a 404.
pub(super) fn is_api(path: &str) -> bool {
    strip(path, "/v1/").is_some()
}

/// Parses the path of a POST, which may end with a query that names outputs of a predict: `?outputs=NAME,NAME`. Returns
/// these names as they are, too. Another query is part of the text.
pub(super) fn parse_call(path: &str) -> (Target, &str) {
    let asked = path.split_once("?outputs=").filter(|(_, names)| !names.contains('&'));
    if let Some((before, outputs)) = asked {
        let target = parse(true, before);
        if matches!(&target, Target::Call(verb, ..) if verb.api == Api::Predict) {
            return (target, outputs);
        }
    }
    (parse(true, path), "")
}

/// Parses a path of the API. `post` distinguishes POST from GET. A query is part of the text, as in TensorFlow Serving.
pub(super) fn parse(post: bool, path: &str) -> Target {
    let parsed = if post { call(path) } else { get(path) };
    parsed.unwrap_or(Target::Malformed)
}

fn call(path: &str) -> Option<Target> {
    let target = strip(path, "/v1/models/")?;
    let (model, verb) = target.split_at_checked(memchr::memrchr(b':', target.as_bytes())?)?;
    let (name, choice) = model_and_choice(model)?;
    if name.is_empty() || !is_name(name) {
        return None;
    }
    // The grammar accepts any case, the dispatch only lower case: other cases are malformed.
    let verb = Verb::named(verb.strip_prefix(':')?)?;
    Some(with_choice(name, choice, |name, choice| Target::Call(verb, name, choice)))
}

fn get(path: &str) -> Option<Target> {
    let rest = strip(path, "/v1/models")?;
    // Greedy: `/v1/models/metadata` is the status of a model of that name, so the name is tried first.
    if let Some(target) = get_model(rest, Target::Status) {
        return Some(target);
    }
    if let Some(model) = rest.strip_suffix("/openapi.json") {
        // As it was malformed before there was this, whatever else is wrong with it.
        return get_model(model, Target::OpenApi).filter(|target| matches!(target, Target::OpenApi(..)));
    }
    let at = rest.len().checked_sub("/metadata".len())?;
    let (model, suffix) = (rest.get(..at)?, rest.get(at..)?);
    match suffix {
        "/metadata" => get_model(model, Target::Metadata),
        _ if suffix.eq_ignore_ascii_case("/metadata") => get_model(model, Target::Status),
        _ => None,
    }
}

fn get_model(rest: &str, target: fn(String, VersionChoice) -> Target) -> Option<Target> {
    if rest.is_empty() {
        return Some(target(String::new(), VersionChoice::Latest));
    }
    // `/versions/7` without a name is a version of no model; it cannot be a name, which has no slash.
    let (name, choice) = match model_and_choice(rest.strip_prefix('/')?) {
        Some((name, choice)) if is_name(name) => (name, choice),
        _ => ("", Some(model_and_choice(rest)?.1?)),
    };
    if name.is_empty() && choice.is_none() {
        return None;
    }
    Some(with_choice(name, choice, target))
}

enum Choice<'a> {
    Digits(&'a str),
    Label(&'a str),
}

/// Splits `NAME[/versions/DIGITS | /labels/LABEL]`. The name may be empty.
fn model_and_choice(text: &str) -> Option<(&str, Option<Choice<'_>>)> {
    let Some(end) = memchr::memchr(b'/', text.as_bytes()) else {
        return Some((text, None));
    };
    let (name, rest) = (&text[..end], &text[end + 1..]);
    let choice = if let Some(digits) = strip(rest, "versions/") {
        let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Choice::Digits(decimal.then_some(digits)?)
    } else {
        let label = strip(rest, "labels/")?;
        Choice::Label(is_name(label).then_some(label)?)
    };
    Some((name, Some(choice)))
}

fn with_choice(
    name: &str,
    choice: Option<Choice<'_>>,
    target: impl FnOnce(String, VersionChoice) -> Target,
) -> Target {
    let choice = match choice {
        None => VersionChoice::Latest,
        Some(Choice::Label(label)) => VersionChoice::Label(decoded(label)),
        Some(Choice::Digits(digits)) => match digits.parse::<i64>() {
            Ok(version) => VersionChoice::Version(version),
            Err(_) => return Target::VersionTooLarge(digits.to_owned()),
        },
    };
    target(decoded(name), choice)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.bytes().any(|byte| matches!(byte, b'/' | b':'))
}

/// Returns `text` without `prefix`, which matches in any case.
#[inline]
fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix).or_else(|| {
        let (head, tail) = text.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(tail)
    })
}

/// Decodes percent-encoding; a `%` without two hex digits stays, `+` is literal, bytes that are not UTF-8 are replaced.
fn decoded(text: &str) -> String {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return text.to_owned();
    }
    match percent_encoding::percent_decode_str(text).decode_utf8_lossy() {
        Cow::Borrowed(same) => same.to_owned(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_beside_what_tensorflow_serving_has() {
        let document = |name: &str, choice| Target::OpenApi(name.to_owned(), choice);
        for (path, target) in [
            ("m/openapi.json", document("m", VersionChoice::Latest)),
            ("a%2Fb/openapi.json", document("a/b", VersionChoice::Latest)),
            ("m/versions/7/openapi.json", document("m", VersionChoice::Version(7))),
            ("m/labels/x%3A/openapi.json", document("m", VersionChoice::Label("x:".to_owned()))),
            ("openapi.json/openapi.json", document("openapi.json", VersionChoice::Latest)),
            ("versions/7/openapi.json", document("", VersionChoice::Version(7))),
            ("openapi.json", Target::Status("openapi.json".to_owned(), VersionChoice::Latest)),
            ("openapi.json/metadata", Target::Metadata("openapi.json".to_owned(), VersionChoice::Latest)),
            ("m/versions/99999999999999999999/openapi.json", Target::Malformed),
            ("m/OpenAPI.json", Target::Malformed),
            ("m/openapi.json/", Target::Malformed),
            ("m/openapi.json?x", Target::Malformed),
            ("/openapi.json", Target::Malformed),
            ("m/metadata/openapi.json", Target::Malformed),
        ] {
            assert_eq!(parse(false, &format!("/v1/models/{path}")), target, "{path}");
        }
        assert_eq!(parse(false, "/v1/modelsopenapi.json"), Target::Malformed);
        assert_eq!(parse(true, "/v1/models/m/openapi.json"), Target::Malformed);
    }

    #[test]
    fn a_query_names_outputs_of_a_predict() {
        let outputs = |query: &str| match parse_call(&format!("/v1/models/a:predict{query}")) {
            (Target::Call(..), outputs) => Some(outputs.to_owned()),
            _ => None,
        };
        for (query, names) in [("", ""), ("?outputs=", ""), ("?outputs=a%2Cb,c:0", "a%2Cb,c:0")] {
            assert_eq!(outputs(query).as_deref(), Some(names), "{query}");
        }
        for other in
            ["?", "?x=1", "?outputs", "?outputs=a&x=1", "?outputs=a&outputs=b", "?Outputs=a", "?&outputs=a"]
        {
            assert_eq!(outputs(other), None, "{other}");
        }
        for path in ["/v1/models/a:classify", "/v1/models/a", "/v1/models/a:Predict"] {
            assert_eq!(parse_call(&format!("{path}?outputs=a")), (Target::Malformed, ""), "{path}");
        }
        let odd = Target::Call(Verb::named("predict").unwrap(), "a?x=1".to_owned(), VersionChoice::Latest);
        assert_eq!(parse_call("/v1/models/a?x=1:predict"), (odd, ""), "as in TensorFlow Serving");
    }
}
