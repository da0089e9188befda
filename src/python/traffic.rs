//! How the traffic of a model is spread, from Python, and what has become of it, for Python.

use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::traffic_split::ArmTold;
use crate::traffic_split::rules::{self, Rules, Target, WHOLE};
use pyo3::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

/// `_core.Traffic`.
#[derive(FromPyObject)]
pub(super) struct Traffic {
    default_to: String,
    shares: Vec<TrafficShare>,
    headers: Vec<TrafficHeader>,
    key_header: String,
    shadow: Option<TrafficShadow>,
    roll_back: Option<TrafficRollBack>,
}

/// `_core.TrafficShare`.
#[derive(FromPyObject)]
struct TrafficShare {
    to: String,
    percent: f64,
}

/// `_core.TrafficHeader`.
#[derive(FromPyObject)]
struct TrafficHeader {
    name: String,
    value: String,
    to: String,
}

/// `_core.TrafficShadow`.
#[derive(FromPyObject)]
struct TrafficShadow {
    to: String,
    percent: f64,
    tolerance: f64,
    timeout_seconds: f64,
}

/// `_core.TrafficRollBack`.
#[derive(FromPyObject)]
struct TrafficRollBack {
    max_error_percent: Option<f64>,
    max_error_percent_above_default: Option<f64>,
    max_p99_milliseconds: Option<f64>,
    max_p99_ratio_to_default: Option<f64>,
    min_requests: u64,
    window_seconds: f64,
    for_seconds: f64,
    count_client_errors: bool,
}

impl Traffic {
    /// Returns the rules, which Python has checked.
    pub(super) fn rules(self) -> Result<Rules> {
        let target = |text: &String| Target::named(text);
        let shares = self.shares.iter().map(TrafficShare::share).collect::<Result<Vec<_>>>()?;
        if shares.iter().map(|share| share.millionths).sum::<u64>() > WHOLE {
            return Err(Error::invalid("The shares of the traffic are more than 100 % together"));
        }
        let header = |one: TrafficHeader| rules::HeaderRule {
            name: one.name.to_ascii_lowercase().into(),
            value: one.value.into(),
            to: Target::named(&one.to),
        };
        Ok(Rules {
            default_to: Some(&self.default_to).filter(|text| !text.is_empty()).map(target),
            shares,
            headers: self.headers.into_iter().map(header).collect(),
            key: Some(self.key_header.to_ascii_lowercase()).filter(|name| !name.is_empty()).map(Into::into),
            shadow: self.shadow.map(TrafficShadow::rule).transpose()?,
            roll_back: self.roll_back.map(TrafficRollBack::rule).transpose()?,
        })
    }
}

impl TrafficShare {
    fn share(&self) -> Result<rules::Share> {
        if !(0.0..=100.0).contains(&self.percent) {
            return Err(Error::invalid(format!("A share is 0 to 100 %, got {}", self.percent)));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Up to a million.
        let millionths = (self.percent * 1e4).round() as u64;
        Ok(rules::Share { to: Target::named(&self.to), millionths })
    }
}

impl TrafficShadow {
    fn rule(self) -> Result<rules::ShadowRule> {
        Ok(rules::ShadowRule {
            to: Target::named(&self.to),
            share: self.percent / 100.0,
            tolerance: self.tolerance,
            timeout: seconds(self.timeout_seconds)?,
        })
    }
}

impl TrafficRollBack {
    fn rule(self) -> Result<rules::RollBackRule> {
        let part = |percent: f64| percent / 100.0;
        Ok(rules::RollBackRule {
            max_errors: self.max_error_percent.map(part),
            max_errors_above: self.max_error_percent_above_default.map(part),
            max_p99: self.max_p99_milliseconds.map(|millis| seconds(millis / 1e3)).transpose()?,
            max_p99_ratio: self.max_p99_ratio_to_default,
            min_requests: self.min_requests,
            window: seconds(self.window_seconds)?,
            lasting: seconds(self.for_seconds)?,
            client_errors: self.count_client_errors,
        })
    }
}

fn seconds(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|why| Error::invalid(format!("{seconds} seconds are no time: {why}")))
}

/// Requests that ended, those that failed, and the seconds of the p99, of the last window.
type Window = (u64, u64, Option<f64>);
/// A target: its name, the version that it stands for and whether that is available; the requests decided for it, by reason;
/// the version that was rolled back, why, and when (seconds of Unix time); and the last window.
type TargetTold =
    (String, Option<i64>, bool, Vec<(&'static str, u64)>, Option<(i64, String, f64)>, Option<Window>);
/// Copies by what became of them; the p50 and p99 of answers returned and of the shadow's, in seconds; and the last error and
/// the last difference.
type ShadowTold = (Vec<(&'static str, u64)>, Vec<(&'static str, f64, f64)>, Option<String>, Option<String>);
/// What has become of the traffic of a model.
pub(super) type TrafficTold = (Vec<TargetTold>, Option<ShadowTold>);

pub(super) fn told(registry: &Registry, name: &str) -> Option<TrafficTold> {
    let (split, arms) = registry.split(name)?;
    let shadow = split.shadow().map(|(_, counts)| {
        let [error, difference] = counts.texts().map(|text| text.map(String::from));
        (counts.counts().collect(), counts.quantiles(), error, difference)
    });
    Some((arms.into_iter().map(target).collect(), shadow))
}

fn target(arm: ArmTold) -> TargetTold {
    let rolled_back = arm.rolled_back.map(|one| {
        let at = one.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        (one.version, one.why, at)
    });
    let window = arm.window.map(|one| (one.requests, one.errors, one.p99.map(|p99| p99.as_secs_f64())));
    (arm.to, arm.version, arm.available, arm.counts, rolled_back, window)
}
