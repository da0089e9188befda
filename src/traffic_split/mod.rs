//! The traffic of a model that is spread over its versions: who gets which request is decided here, without knowing what a
//! version is.
//!
//! [`rules`] are what an operator has set; [`choice`] draws by weight, [`keys`] is what a request's headers say, [`rollback`]
//! judges a target: all pure. A [`Split`] is the rules in force, with what has become of them, and [`watching`] looks at those
//! whose targets may be rolled back.

mod arm;
mod choice;
mod keys;
mod observed;
mod rollback;
pub mod rules;
mod watching;

pub use arm::{RolledBack, Versions};
pub use keys::{Keys, Wanted};
pub use rollback::Window;
pub use watching::Watching;

use crate::error::Error;
use crate::metrics::{ShadowCounts, SplitCounts, SplitReason};
use arm::Arm;
use choice::Weight;
use rollback::{Told, excess, is_hurry, told};
use rules::{RollBackRule, Rules, ShadowRule, Target};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The rules in force for a model.
#[derive(Debug)]
pub struct Split {
    model: Box<str>,
    rules: Rules,
    /// The default, then each other target of a share or a header.
    arms: Vec<Arm>,
    weights: Vec<Weight>,
    /// Whose a share is, and where a header leads: places among the arms.
    of_share: Vec<usize>,
    of_header: Vec<usize>,
    /// Where the hashes of keys begin: the same key is not in the same place for all models.
    seed: u64,
    shadow: Option<Arc<ShadowCounts>>,
    /// When the next look is due.
    next_look: Mutex<Instant>,
    has_ended: AtomicBool,
}

/// Whom a request went to.
#[derive(Clone, Debug)]
pub struct Decision {
    split: Arc<Split>,
    place: usize,
    version: i64,
    /// If it matters how requests end.
    begun: Option<Arc<Begun>>,
}

/// A request of which is taken down how it ends.
#[derive(Debug)]
struct Begun {
    /// When it was decided whom it goes to.
    at: Instant,
    /// Whether its run has begun.
    runs: AtomicBool,
}

impl Split {
    /// Puts `rules` in force for `model`. What becomes of its requests is counted in `counts`.
    pub fn new(model: &str, rules: Rules, counts: &SplitCounts) -> Split {
        let named =
            rules.shares.iter().map(|share| &share.to).chain(rules.headers.iter().map(|rule| &rule.to));
        let mut targets: Vec<Option<&Target>> = vec![rules.default_to.as_ref()];
        for target in named {
            if !targets.contains(&Some(target)) {
                targets.push(Some(target));
            }
        }
        let watched = rules.roll_back.is_some();
        let arm = |(place, target): (usize, &Option<&Target>)| {
            let name =
                if place == 0 { DEFAULT.to_owned() } else { target.map_or(String::new(), Target::to_string) };
            Arm::new(target.cloned(), counts.target(model, &name), watched)
        };
        let arms = targets.iter().enumerate().map(arm).collect();
        let place = |to: &Target| targets.iter().position(|target| *target == Some(to)).unwrap_or(0);
        let weight = |share: &rules::Share| Weight {
            millionths: share.millionths,
            salt: choice::hash(choice::START, share.to.to_string().as_bytes()),
        };
        let shadow = rules.shadow.as_ref().map(|shadow| counts.shadow(model, &shadow.to.to_string()));
        Split {
            model: model.into(),
            arms,
            weights: rules.shares.iter().map(weight).collect(),
            of_share: rules.shares.iter().map(|share| place(&share.to)).collect(),
            of_header: rules.headers.iter().map(|rule| place(&rule.to)).collect(),
            seed: choice::hash(choice::START, model.as_bytes()),
            shadow,
            next_look: Mutex::new(Instant::now()),
            has_ended: AtomicBool::new(false),
            rules,
        }
    }

    /// Returns the model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns the rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the rule for copies of requests, and what these are counted in.
    pub fn shadow(&self) -> Option<(&ShadowRule, &Arc<ShadowCounts>)> {
        self.rules.shadow.as_ref().zip(self.shadow.as_ref())
    }

    /// Returns the version that answers a request whose headers say `keys`, and whose decision that is; `None` if no version is
    /// available. `number` is any, for a request without a key.
    pub fn decide<'v, V: Versions>(
        self: &Arc<Self>,
        versions: &'v V,
        keys: Option<&Keys>,
        number: u64,
    ) -> Option<(&'v V::Handle, Decision)> {
        let (place, reason) = self.choose(keys, number);
        let arm = &self.arms[place];
        if place > 0 {
            match arm.find(versions) {
                Ok((version, found)) => {
                    arm.count(reason);
                    return Some((found, self.decision(place, version)));
                }
                // It is the default's now.
                Err(why) => arm.count(why),
            }
        }
        let default = &self.arms[0];
        let (version, found, stands_in) = self.default_of(versions)?;
        default.is_now(version);
        if place == 0 {
            default.count(if stands_in { SplitReason::Unavailable } else { reason });
        }
        Some((found, self.decision(0, version)))
    }

    /// Returns the version for what is no such request: the default's.
    pub fn default<'v, V: Versions>(&self, versions: &'v V) -> Option<&'v V::Handle> {
        self.default_of(versions).map(|(_, found, _)| found)
    }

    /// Returns the default's version, and whether it only stands in for the one that is named.
    fn default_of<'v, V: Versions>(&self, versions: &'v V) -> Option<(i64, &'v V::Handle, bool)> {
        let named = self.arms[0].target();
        if let Some((version, found)) = named.and_then(|target| arm::available(target, versions)) {
            return Some((version, found, false));
        }
        let others = || {
            self.arms[1..].iter().filter_map(Arm::target).chain(self.rules.shadow.as_ref().map(|one| &one.to))
        };
        let is = |to: &Target, version: i64| arm::version(to, versions) == Some(version);
        let is_another = |version: i64| others().any(|to| is(to, version));
        let is_shadow =
            |version: i64| self.rules.shadow.as_ref().is_some_and(|shadow| is(&shadow.to, version));
        // One whose answers nobody is to get is the last.
        let may_answer = |version: i64| {
            !is_shadow(version) && !self.arms[1..].iter().any(|arm| arm.is_rolled_back(version))
        };
        let newest = (versions.newest().find(|(version, _)| !is_another(*version)))
            .or_else(|| versions.newest().find(|(version, _)| may_answer(*version)))
            .or_else(|| versions.newest().next());
        newest.map(|(version, found)| (version, found, named.is_some()))
    }

    fn choose(&self, keys: Option<&Keys>, number: u64) -> (usize, SplitReason) {
        if let Some(keys) = keys {
            let fits = |rule: &rules::HeaderRule| keys.get(&rule.name) == Some(rule.value.as_bytes());
            if let Some(at) = self.rules.headers.iter().position(fits) {
                return (self.of_header[at], SplitReason::Header);
            }
        }
        if self.weights.is_empty() {
            return (0, SplitReason::Default);
        }
        let key = self.rules.key.as_deref().and_then(|name| keys?.get(name));
        let (number, reason) = match key {
            Some(value) => (choice::hash(self.seed, value), SplitReason::Key),
            None => (number, SplitReason::Weight),
        };
        (choice::place(&self.weights, number).map_or(0, |share| self.of_share[share]), reason)
    }

    fn decision(self: &Arc<Self>, place: usize, version: i64) -> Decision {
        let begun = || Arc::new(Begun { at: Instant::now(), runs: AtomicBool::new(false) });
        let begun = self.rules.roll_back.is_some().then(begun);
        Decision { split: self.clone(), place, version, begun }
    }

    /// Looks whether a target is to be rolled back `now`, if it is time for that.
    fn look(&self, now: Instant) {
        let Some(rule) = &self.rules.roll_back else { return };
        let mut next_look = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *next_look {
            return;
        }
        *next_look = now + observed::History::pause(rule.window);
        drop(next_look);
        let default = self.arms[0].look(now, rule.window);
        for arm in &self.arms[1..] {
            let window = arm.look(now, rule.window);
            let exceeded = excess(rule, &window, &default);
            if arm.lasts(exceeded.is_some(), now, rule.lasting)
                && let Some(excess) = exceeded
            {
                self.roll_back(arm, rule, &excess, &window);
            }
        }
    }

    fn roll_back(&self, arm: &Arm, rule: &RollBackRule, excess: &rollback::Excess, window: &Window) {
        let seconds = rule.window.as_secs_f64();
        let why = format!("{excess}, of {} requests in {seconds} s", excess.requests(window));
        let Some(version) = arm.roll_back(&why, excess.is_of_errors()) else { return };
        tracing::warn!(
            "traffic of model {}: {} (version {version}) is rolled back, and its share goes to the default: {why}. \
             servable traffic resume {} gives it back",
            self.model,
            arm.name(),
            self.model
        );
    }

    /// Notes the `versions` that there are by now, and what their labels are: another one behind a label is not rolled back.
    pub fn follow<V: Versions>(&self, versions: &V) {
        self.arms[1..].iter().for_each(|arm| arm.follow(versions));
    }

    /// Gives each target that is rolled back its share again; what is known of the others stays.
    pub fn resume(&self, now: Instant) {
        self.arms.iter().for_each(|arm| arm.resume(now));
    }

    /// Takes down that other rules, or none, are in force from now on.
    pub fn ends(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Returns whether other rules, or none, are in force.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    /// Returns what is known of each target, the default first.
    pub fn told<V: Versions>(&self, versions: &V) -> Vec<ArmTold> {
        let default = self.default_of(versions).map(|(version, ..)| version);
        let one = |(place, arm): (usize, &Arm)| {
            let named = arm.target().filter(|_| place > 0);
            let version = if place == 0 { default } else { named.and_then(|to| arm::version(to, versions)) };
            ArmTold {
                to: arm.name().to_owned(),
                version,
                available: if place == 0 {
                    default.is_some()
                } else {
                    named.is_some_and(|to| arm::available(to, versions).is_some())
                },
                counts: arm.counts().counts().collect(),
                rolled_back: version.and_then(|version| arm.rolled_back(version)),
                window: arm.window(),
            }
        };
        self.arms.iter().enumerate().map(one).collect()
    }
}

/// The name of the default among targets.
pub const DEFAULT: &str = "default";

/// What is known of a target.
#[derive(Debug)]
pub struct ArmTold {
    /// Its name: as the rules name it, or [`DEFAULT`].
    pub to: String,
    /// The version that it stands for.
    pub version: Option<i64>,
    /// Whether that is available.
    pub available: bool,
    /// The requests decided for it, by reason.
    pub counts: Vec<(&'static str, u64)>,
    /// Why it is rolled back, if it is.
    pub rolled_back: Option<RolledBack>,
    /// What was seen at the last look, if it is looked at.
    pub window: Option<Window>,
}

impl Decision {
    /// Returns the rules that decided.
    pub fn split(&self) -> &Arc<Split> {
        &self.split
    }

    /// Takes down that the version's run has begun.
    pub fn runs(&self) {
        if let Some(begun) = &self.begun {
            begun.runs.store(true, Relaxed);
        }
    }

    /// Takes down how the request ended, of which the `client` set the deadline, or the server did. One that ended before its
    /// run says nothing of the version, unless clients' errors count.
    pub fn ended(&self, outcome: Result<(), &Error>, client: bool) {
        let (Some(begun), Some(rule)) = (&self.begun, &self.split.rules.roll_back) else { return };
        let took: Duration = begun.at.elapsed();
        let (arm, version) = (&self.split.arms[self.place], self.version);
        match told(outcome, begun.runs.load(Relaxed), client && is_hurry(took, rule), rule) {
            Told::Nothing => {}
            Told::Answered => arm.ended(version, false, Some(took)),
            Told::Slow => arm.ended(version, false, Some(took)),
            Told::Failed { timed } => arm.ended(version, true, timed.then_some(took)),
        }
    }
}

#[cfg(test)]
mod tests;
