//! Whether a target is to get no traffic any more, by what was seen of it and of the default: pure.

use super::rules::RollBackRule;
use crate::error::{Error, Kind};
use std::fmt;
use std::time::{Duration, Instant};

/// What was seen of a target lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those whose time says something.
    pub timed: u64,
    /// The time that 99 of 100 of these did not exceed; `None` if there are none.
    pub p99: Option<Duration>,
}

impl Window {
    #[allow(clippy::cast_precision_loss)] // Far below where doubles skip integers.
    fn error_ratio(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }
}

/// A bound that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Excess {
    /// Too many errors: their part of the requests, and the largest accepted.
    Errors(f64, f64),
    /// The same, with the default's part before the largest accepted difference.
    ErrorsAbove(f64, f64, f64),
    /// A p99 that is too long, and the longest accepted.
    Slow(Duration, Duration),
    /// The same, with the default's p99 before the largest accepted multiple.
    SlowBeside(Duration, Duration, f64),
}

impl Excess {
    /// Returns whether it is about errors, not times.
    pub(super) fn is_of_errors(&self) -> bool {
        matches!(self, Excess::Errors(..) | Excess::ErrorsAbove(..))
    }

    /// Returns the number of requests in `window` that it is about.
    pub(super) fn requests(&self, window: &Window) -> u64 {
        if self.is_of_errors() { window.requests } else { window.timed }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent =
            |part: f64| format!("{:.4}", part * 100.0).trim_end_matches('0').trim_end_matches('.').to_owned();
        let millis = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        match self {
            Excess::Errors(part, most) => {
                write!(f, "{} % of its requests failed, more than {} %", percent(*part), percent(*most))
            }
            Excess::ErrorsAbove(part, default, most) => write!(
                f,
                "{} % of its requests failed, and {} % of the default's: more than {} % above",
                percent(*part),
                percent(*default),
                percent(*most)
            ),
            Excess::Slow(p99, most) => write!(f, "its p99 was {}, more than {}", millis(p99), millis(most)),
            Excess::SlowBeside(p99, default, most) => {
                write!(
                    f,
                    "its p99 was {}, and the default's {}: more than {most} times",
                    millis(p99),
                    millis(default)
                )
            }
        }
    }
}

/// Returns the first bound of `rule` that `target` exceeds, beside the `default`.
pub(super) fn excess(rule: &RollBackRule, target: &Window, default: &Window) -> Option<Excess> {
    let least = rule.min_requests.max(1);
    let known = |window: &Window| window.requests >= least;
    // Not all are timed: a few of them say nothing of the others.
    let p99_of = |window: &Window| window.p99.filter(|_| window.timed >= least);
    if !known(target) {
        return None;
    }
    let (errors, p99) = (target.error_ratio(), p99_of(target));
    if let Some(most) = rule.max_errors.filter(|most| errors > *most) {
        return Some(Excess::Errors(errors, most));
    }
    if let (Some(most), Some(p99)) = (rule.max_p99, p99)
        && p99 > most
    {
        return Some(Excess::Slow(p99, most));
    }
    if !known(default) {
        return None;
    }
    let others = default.error_ratio();
    if let Some(most) = rule.max_errors_above.filter(|most| errors - others > *most) {
        return Some(Excess::ErrorsAbove(errors, others, most));
    }
    let (most, p99, others) = (rule.max_p99_ratio?, p99?, p99_of(default)?);
    (p99.as_secs_f64() > others.as_secs_f64() * most).then_some(Excess::SlowBeside(p99, others, most))
}

/// Since when a target exceeds a bound, look after look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lasting {
    since: Option<Instant>,
}

impl Lasting {
    /// Takes down whether a bound is exceeded `now`; returns whether one has been all the time for `long`.
    pub(super) fn look(&mut self, exceeds: bool, now: Instant, long: Duration) -> bool {
        if !exceeds {
            self.since = None;
            return false;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now)) >= long
    }
}

/// What the end of a request says of who answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: the client left, or was not let in.
    Nothing,
    /// It was answered.
    Answered,
    /// It was not, in a time that counts, and that is not the version's fault.
    Slow,
    /// It failed. `timed`: after a time that counts.
    Failed {
        /// Whether its time says something, too.
        timed: bool,
    },
}

/// A client's deadline that passes sooner says that it is in a hurry, unless the rule has a bound of its own.
const HURRY: Duration = Duration::from_secs(1);

/// Returns whether a client's deadline that passed after so long says nothing of the version.
pub(super) fn is_hurry(took: Duration, rule: &RollBackRule) -> bool {
    took < rule.max_p99.unwrap_or(HURRY)
}

/// Returns what the outcome of a request says, whose run had begun if it `ran`, and whose client gave it too little time if it
/// was in a `hurry`. Clients' errors count if the rule says so: those of a model about its input look alike.
pub(super) fn told(outcome: Result<(), &Error>, ran: bool, hurry: bool, rule: &RollBackRule) -> Told {
    let Err(error) = outcome else { return Told::Answered };
    let of_client = || if rule.client_errors { Told::Failed { timed: false } } else { Told::Nothing };
    match error.kind {
        Kind::Cancelled | Kind::PermissionDenied | Kind::Unauthenticated => Told::Nothing,
        Kind::InvalidArgument
        | Kind::NotFound
        | Kind::AlreadyExists
        | Kind::FailedPrecondition
        | Kind::OutOfRange => of_client(),
        // What is too large, or does not fit into the memory for requests.
        _ if !ran || error.http_status() == 413 => of_client(),
        Kind::DeadlineExceeded if hurry => Told::Slow,
        Kind::DeadlineExceeded => Told::Failed { timed: true },
        Kind::Unknown
        | Kind::ResourceExhausted
        | Kind::Aborted
        | Kind::Unimplemented
        | Kind::Internal
        | Kind::Unavailable
        | Kind::DataLoss => Told::Failed { timed: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(requests: u64, errors: u64, p99: u64) -> Window {
        Window { requests, errors, timed: requests, p99: Some(Duration::from_millis(p99)) }
    }

    fn rule() -> RollBackRule {
        RollBackRule { min_requests: 100, ..RollBackRule::default() }
    }

    #[test]
    fn each_bound_is_exceeded_by_more_than_itself() {
        let errors = RollBackRule { max_errors: Some(0.05), ..rule() };
        assert_eq!(excess(&errors, &window(100, 5, 1), &window(0, 0, 0)), None);
        let found = excess(&errors, &window(100, 6, 1), &window(0, 0, 0)).unwrap();
        assert_eq!(found, Excess::Errors(0.06, 0.05));
        assert_eq!(found.to_string(), "6 % of its requests failed, more than 5 %");
        let slow = RollBackRule { max_p99: Some(Duration::from_millis(50)), ..rule() };
        assert_eq!(excess(&slow, &window(100, 100, 50), &window(0, 0, 0)), None);
        let found = excess(&slow, &window(100, 0, 51), &window(0, 0, 0)).unwrap();
        assert_eq!(found.to_string(), "its p99 was 51.0 ms, more than 50.0 ms");
    }

    #[test]
    fn a_p99_needs_enough_requests_that_are_timed() {
        let timed = |timed| Window { timed, ..window(251, 250, 900) };
        let slow = RollBackRule { max_p99: Some(Duration::from_millis(50)), ..rule() };
        assert_eq!(excess(&slow, &timed(99), &window(0, 0, 0)), None);
        let found = excess(&slow, &timed(100), &window(0, 0, 0)).unwrap();
        assert_eq!((found.requests(&timed(100)), found.is_of_errors()), (100, false));
        let beside = RollBackRule { max_p99_ratio: Some(2.0), ..rule() };
        let default = |timed| Window { timed, ..window(200, 0, 10) };
        assert_eq!(excess(&beside, &timed(99), &default(100)), None);
        assert_eq!(excess(&beside, &timed(100), &default(99)), None);
        assert!(excess(&beside, &timed(100), &default(100)).is_some());
        let errors = RollBackRule { max_errors: Some(0.1), ..rule() };
        let found = excess(&errors, &timed(0), &window(0, 0, 0)).unwrap();
        assert_eq!(found.requests(&timed(0)), 251);
    }

    #[test]
    fn what_is_compared_needs_enough_of_both() {
        let above = RollBackRule { max_errors_above: Some(0.1), ..rule() };
        assert_eq!(excess(&above, &window(100, 100, 1), &window(99, 0, 1)), None);
        assert_eq!(excess(&above, &window(100, 15, 1), &window(100, 5, 1)), None);
        let found = excess(&above, &window(100, 25, 1), &window(100, 5, 1)).unwrap();
        assert_eq!(
            found.to_string(),
            "25 % of its requests failed, and 5 % of the default's: more than 10 % above"
        );
        let ratio = RollBackRule { max_p99_ratio: Some(1.5), ..rule() };
        assert_eq!(excess(&ratio, &window(100, 0, 15), &window(100, 0, 10)), None);
        let found = excess(&ratio, &window(100, 0, 16), &window(100, 0, 10)).unwrap();
        assert_eq!(found.to_string(), "its p99 was 16.0 ms, and the default's 10.0 ms: more than 1.5 times");
        assert_eq!(excess(&ratio, &window(100, 0, 16), &window(99, 0, 10)), None);
        assert!(!found.is_of_errors());
    }

    #[test]
    fn a_client_cannot_have_a_version_rolled_back_by_its_own_faults() {
        let (lenient, strict) = (rule(), RollBackRule { client_errors: true, ..rule() });
        let of = |kind, ran, rule: &RollBackRule| told(Err(&Error::new(kind, "")), ran, false, rule);
        let failed = Told::Failed { timed: false };
        for (kind, ran) in
            [(Kind::InvalidArgument, true), (Kind::ResourceExhausted, false), (Kind::Unavailable, false)]
        {
            assert_eq!(
                (of(kind, ran, &lenient), of(kind, ran, &strict)),
                (Told::Nothing, failed),
                "{kind:?}"
            );
        }
        let large = Error::new(Kind::ResourceExhausted, "").with_status(413);
        assert_eq!(told(Err(&large), true, false, &lenient), Told::Nothing);
        assert_eq!(of(Kind::ResourceExhausted, true, &lenient), failed);
        for kind in [Kind::Cancelled, Kind::Unauthenticated, Kind::PermissionDenied] {
            assert_eq!(of(kind, true, &strict), Told::Nothing);
        }
        assert_eq!(told(Ok(()), true, false, &lenient), Told::Answered);
    }

    #[test]
    fn a_deadline_counts_that_a_version_should_have_kept() {
        let bound = RollBackRule { max_p99: Some(Duration::from_millis(20)), ..rule() };
        let of = |ran, millis, rule: &RollBackRule| {
            let hurry = is_hurry(Duration::from_millis(millis), rule);
            told(Err(&Error::new(Kind::DeadlineExceeded, "")), ran, hurry, rule)
        };
        let failed = Told::Failed { timed: true };
        assert_eq!((of(true, 999, &rule()), of(true, 1_000, &rule())), (Told::Slow, failed));
        assert_eq!((of(true, 19, &bound), of(true, 20, &bound)), (Told::Slow, failed));
        assert_eq!(of(false, 5_000, &rule()), Told::Nothing);
    }

    #[test]
    fn a_bound_has_to_be_exceeded_all_the_time() {
        let (start, long) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lasting = Lasting::default();
        assert!(!lasting.look(true, at(0), long) && !lasting.look(true, at(9), long));
        assert!(!lasting.look(false, at(10), long));
        assert!(!lasting.look(true, at(11), long) && !lasting.look(true, at(20), long));
        assert!(lasting.look(true, at(21), long));
        assert!(Lasting::default().look(true, at(0), Duration::ZERO));
    }

    fn windows() -> impl Strategy<Value = Window> {
        (0u64..500, 0u64..500, prop::option::of(0u64..200)).prop_map(|(requests, errors, p99)| Window {
            timed: requests,
            requests,
            errors: errors.min(requests),
            p99: p99.map(Duration::from_millis),
        })
    }

    fn rules() -> impl Strategy<Value = RollBackRule> {
        let part = || prop::option::of(0.0f64..1.0);
        (part(), part(), prop::option::of(0u64..200), prop::option::of(0.5f64..5.0), 0u64..300).prop_map(
            |(max_errors, max_errors_above, p99, max_p99_ratio, min_requests)| RollBackRule {
                max_errors,
                max_errors_above,
                max_p99: p99.map(Duration::from_millis),
                max_p99_ratio,
                min_requests,
                ..RollBackRule::default()
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_is_judged_by_few_requests(rule in rules(), target in windows(), default in windows()) {
            if target.requests < rule.min_requests.max(1) {
                prop_assert_eq!(excess(&rule, &target, &default), None);
            }
        }

        #[test]
        fn a_rule_without_bounds_rolls_nothing_back(target in windows(), default in windows()) {
            prop_assert_eq!(excess(&RollBackRule::default(), &target, &default), None);
        }

        #[test]
        fn what_is_no_worse_than_the_default_exceeds_no_comparison(rule in rules(), target in windows()) {
            let compared = RollBackRule { max_errors: None, max_p99: None, max_p99_ratio: rule.max_p99_ratio.map(|most| most.max(1.0)), ..rule };
            prop_assert_eq!(excess(&compared, &target, &target), None);
        }

        /// Whoever is rolled back would be with more errors, or a longer p99.
        #[test]
        fn the_worse_the_sooner(rule in rules(), target in windows(), default in windows(), errors in 0u64..500, millis in 0u64..200) {
            let worse = Window {
                errors: (target.errors + errors).min(target.requests),
                p99: target.p99.map(|p99| p99 + Duration::from_millis(millis)),
                ..target
            };
            if excess(&rule, &target, &default).is_some() {
                prop_assert!(excess(&rule, &worse, &default).is_some());
            }
        }

        #[test]
        fn it_fires_only_after_an_unbroken_time(looks in prop::collection::vec((any::<bool>(), 0u64..20), 1..40), long in 0u64..60) {
            let (start, mut now, mut lasting, mut unbroken) = (Instant::now(), 0, Lasting::default(), None);
            for (exceeds, pause) in looks {
                now += pause;
                unbroken = if exceeds { unbroken.or(Some(now)) } else { None };
                let expected = unbroken.is_some_and(|since| now - since >= long);
                let fires = lasting.look(exceeds, start + Duration::from_secs(now), Duration::from_secs(long));
                prop_assert_eq!(fires, expected);
            }
        }
    }
}
