//! What an operator has set for the traffic of one model.

use std::fmt;
use std::time::Duration;

/// All of it, in millionths: what shares are counted in.
pub const WHOLE: u64 = 1_000_000;

/// A version, as the rules name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This version.
    Version(i64),
    /// The version that has this label.
    Label(Box<str>),
}

impl Target {
    /// Returns the target that `text` names: digits are a version's number, anything else is a label.
    pub fn named(text: &str) -> Target {
        match text.parse() {
            Ok(version) if text.bytes().all(|byte| byte.is_ascii_digit()) => Target::Version(version),
            _ => Target::Label(text.into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Version(version) => version.fmt(f),
            Target::Label(label) => label.fmt(f),
        }
    }
}

/// A part of the traffic for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who gets it.
    pub to: Target,
    /// How much, in millionths.
    pub millionths: u64,
}

/// What has a header of this value goes to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// The name of the header or of the metadata, in lower case.
    pub name: Box<str>,
    /// The value.
    pub value: Box<str>,
    /// Who gets it.
    pub to: Target,
}

/// A target that gets copies of requests, whose answers are compared and not returned.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowRule {
    /// Who gets them.
    pub to: Target,
    /// Of the requests, from 0 to 1.
    pub share: f64,
    /// The accepted difference of numbers, relative to a tensor's largest value.
    pub tolerance: f64,
    /// Longest time of an answer.
    pub timeout: Duration,
}

/// When a target gets no traffic any more. `None` is no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RollBackRule {
    /// Largest part of its requests that may fail.
    pub max_errors: Option<f64>,
    /// The same, by how much it may be above the default's.
    pub max_errors_above: Option<f64>,
    /// Longest p99 of its requests.
    pub max_p99: Option<Duration>,
    /// The same, as a multiple of the default's.
    pub max_p99_ratio: Option<f64>,
    /// With fewer requests in the window, nothing is known of a target; nor of the default, which it is compared with.
    pub min_requests: u64,
    /// The time that is looked back.
    pub window: Duration,
    /// How long a bound has to be exceeded.
    pub lasting: Duration,
    /// Whether errors count that are a client's fault.
    pub client_errors: bool,
}

/// All rules of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Who gets what nobody else gets; `None`: the newest version that the rules do not name.
    pub default_to: Option<Target>,
    /// The parts of the others.
    pub shares: Vec<Share>,
    /// What goes to a target for its headers, whatever the shares. The first that fits counts.
    pub headers: Vec<HeaderRule>,
    /// The header whose value decides which share a request belongs to; without it, chance does.
    pub key: Option<Box<str>>,
    /// Who gets copies.
    pub shadow: Option<ShadowRule>,
    /// When a target gets no traffic any more.
    pub roll_back: Option<RollBackRule>,
}

impl Rules {
    /// Returns the names of the headers that matter.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|rule| &*rule.name).chain(self.key.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_version_and_anything_else_is_a_label() {
        assert_eq!(Target::named("42"), Target::Version(42));
        for text in ["canary", "", "-1", "+1", "1a", "99999999999999999999"] {
            assert_eq!(Target::named(text), Target::Label(text.into()));
            assert_eq!(Target::named(text).to_string(), text);
        }
    }
}
