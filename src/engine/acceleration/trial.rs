//! Times a candidate beside the reference, by turns, and decides by the times.

use super::report::{Pair, Times};
use crate::engine::{RunOptions, Threads};
use crate::error::Result;
use crate::host::clock;
use std::time::{Duration, Instant};

/// How much faster a candidate has to be at one of the loads, in wall or CPU time, and how much slower it may be at
/// another: as a part of the reference's time.
const GAIN: f64 = 1.1;
const LOSS: f64 = 0.97;

/// Rounds of each load: as many as there is time for, within these.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=20;
const TIME: Duration = Duration::from_millis(600);

/// After so long one round has to do: nobody is to wait for the machine.
const LONG: Duration = Duration::from_secs(2);

/// Longest time of a run in a trial.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Does one run with the given options.
pub(super) type Runner<'a> = &'a (dyn Fn(RunOptions) -> Result<()> + Sync);

/// Returns why a candidate with these times is not worth a change; `None` if it is.
pub(super) fn refusal(times: &Times) -> Option<String> {
    let ratio = |(reference, candidate): (f64, f64)| reference / candidate.max(1e-9);
    let gains = [times.alone, times.together].map(|pair| (ratio(pair.wall), ratio(pair.cpu)));
    if let Some((wall, _)) = gains.iter().find(|(wall, _)| *wall < LOSS) {
        return Some(format!("slower: {wall:.2} times the speed of TensorFlow"));
    }
    let best = gains.iter().map(|(wall, cpu)| wall.max(*cpu)).fold(0.0, f64::max);
    (best < GAIN).then(|| format!("not faster by 10 %: {best:.2} times the speed of TensorFlow"))
}

/// Returns how much faster a candidate is, to choose among several: the mean of both loads.
pub(super) fn speed(times: &Times) -> f64 {
    let ratio = |pair: Pair| pair.wall.0 / pair.wall.1.max(1e-9);
    (ratio(times.alone) * ratio(times.together)).sqrt()
}

/// The ways that TensorFlow may run the reference: serving takes the faster one, too.
pub(super) type Ways = [Threads; 2];

/// Times both with this many callers at once. `goes_on` is asked between two rounds.
pub(super) fn shortest(
    reference: Runner<'_>,
    candidate: Runner<'_>,
    ways: Ways,
    callers: usize,
    goes_on: &dyn Fn() -> bool,
) -> Result<Pair> {
    let mut pair = Pair { wall: (f64::MAX, f64::MAX), cpu: (f64::MAX, f64::MAX) };
    let begun = Instant::now();
    for round in 0..*ROUNDS.end() {
        let enough = if begun.elapsed() > LONG { 1 } else { *ROUNDS.start() };
        if !goes_on() || (round >= enough && begun.elapsed() > TIME) {
            break;
        }
        for way in ways {
            if !goes_on() {
                break;
            }
            let (wall, cpu) = once(reference, way, callers)?;
            pair.wall.0 = pair.wall.0.min(wall);
            pair.cpu.0 = pair.cpu.0.min(cpu);
            let (wall, cpu) = once(candidate, way, callers)?;
            pair.wall.1 = pair.wall.1.min(wall);
            pair.cpu.1 = pair.cpu.1.min(cpu);
        }
    }
    Ok(pair)
}

/// Runs of each caller in one measurement, so that some go on at once.
const RUNS_TOGETHER: u32 = 3;

/// Returns wall and CPU time of one run, in seconds, with this many callers.
fn once(run: Runner<'_>, threads: Threads, callers: usize) -> Result<(f64, f64)> {
    let options = RunOptions { threads, timeout: Some(TIMEOUT) };
    let (cpu, begun) = (clock::process_cpu_time(), Instant::now());
    let runs = if callers == 1 {
        run(options)?;
        1.0
    } else {
        std::thread::scope(|scope| {
            let several = || (0..RUNS_TOGETHER).try_for_each(|_| run(options));
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(several)).collect();
            callers.into_iter().try_for_each(|caller| match caller.join() {
                Ok(ran) => ran,
                Err(panicked) => std::panic::resume_unwind(panicked),
            })
        })?;
        #[allow(clippy::cast_precision_loss)] // Cores of a machine.
        let callers = callers as f64;
        callers * f64::from(RUNS_TOGETHER)
    };
    let wall = begun.elapsed().as_secs_f64();
    let cpu = cpu
        .zip(clock::process_cpu_time())
        .map_or(wall, |(before, after)| after.saturating_sub(before).as_secs_f64());
    Ok((wall / runs, cpu / runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const WAYS: Ways = [Threads::Caller, Threads::Pool];

    fn same(reference: f64, candidate: f64) -> Pair {
        Pair { wall: (reference, candidate), cpu: (reference, candidate) }
    }

    #[test]
    fn a_candidate_has_to_be_faster_at_one_load_and_slower_at_none() {
        let decided = |alone, together| refusal(&Times { alone, together });
        assert_eq!(decided(same(10.0, 5.0), same(10.0, 10.0)), None);
        assert_eq!(decided(same(10.0, 10.0), same(10.0, 9.0)), None);
        assert_eq!(
            decided(same(10.0, 9.5), same(10.0, 9.5)).unwrap(),
            "not faster by 10 %: 1.05 times the speed of TensorFlow"
        );
        assert_eq!(
            decided(same(10.0, 5.0), same(10.0, 20.0)).unwrap(),
            "slower: 0.50 times the speed of TensorFlow"
        );
        let of_cpu = Pair { wall: (10.0, 10.0), cpu: (20.0, 10.0) };
        assert_eq!(decided(of_cpu, same(10.0, 10.0)), None, "CPU time is as good");
    }

    #[test]
    fn both_are_run_alike_and_errors_end_it() {
        let (one, other) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let count = |runs: &AtomicUsize| {
            runs.fetch_add(1, Relaxed);
            Ok(())
        };
        let timed = shortest(&|_| count(&one), &|_| count(&other), WAYS, 2, &|| true).unwrap();
        assert_eq!(one.load(Relaxed), other.load(Relaxed));
        assert!(timed.wall.0 > 0.0 && timed.wall.1 > 0.0);
        let failed = shortest(&|_| Ok(()), &|_| Err(crate::error::Error::invalid("no")), WAYS, 2, &|| true);
        assert!(failed.is_err());
    }

    proptest! {
        #[test]
        fn what_is_faster_everywhere_is_taken(gain in 1.11f64..10.0, time in 1e-4f64..10.0) {
            let pair = same(time, time / gain);
            prop_assert_eq!(refusal(&Times { alone: pair, together: pair }), None);
            let faster = speed(&Times { alone: pair, together: pair });
            prop_assert!(faster > 1.1);
        }
    }
}
