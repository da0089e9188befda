//! Where the calls of a warm-up happen.

use super::*;
use crate::batch::Scheduler;
use crate::engine::fake;
use crate::engine::signature::DEFAULT_SIGNATURE;
use crate::error::Error;
use crate::servable::Resources;
use crate::servable::placement::Policy;
use std::sync::Mutex;
use std::thread;

/// How long a call takes that is repeated in a thread that serves, and one that is not.
const CALLS: [Duration; 2] = [Duration::from_millis(2), Duration::ZERO];

/// Repeats calls that each take `time`; the call of this number fails. Returns the outcome, and the names of the threads.
fn repeated(threads: Threads, time: Duration, fails: usize) -> (Result<()>, Vec<Option<String>>) {
    let scheduler = Scheduler::with_slots(1);
    let resources = Resources::plain(Policy::Auto, &scheduler);
    let (servable, _drain) = Servable::new("m".to_owned(), 1, fake::model(|| {}), resources);
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = names.clone();
    let call = move || {
        thread::sleep(time);
        let mut seen = seen.lock().unwrap();
        seen.push(thread::current().name().map(str::to_owned));
        if seen.len() == fails { Err(Error::invalid("no more")) } else { Ok(()) }
    };
    let outcome = repeat(&servable, DEFAULT_SIGNATURE, threads, call);
    let names = names.lock().unwrap().clone();
    (outcome, names)
}

#[test]
fn long_calls_are_repeated_where_requests_are_answered() {
    let here = thread::current().name().map(str::to_owned);
    let there = Some("servable-run".to_owned());
    let (outcome, names) = repeated(Threads::Serving, CALLS[0], 0);
    assert_eq!(outcome, Ok(()));
    assert_eq!(names[..3], [here.clone(), here.clone(), there]);
    for (threads, time) in [(Threads::Own, CALLS[0]), (Threads::Own, CALLS[1])] {
        let (outcome, names) = repeated(threads, time, 0);
        assert_eq!(outcome, Ok(()));
        assert!(names.len() >= 2 && names.iter().all(|name| *name == here), "{names:?}");
    }
}

#[test]
fn a_call_that_fails_is_the_last_in_any_thread() {
    for (threads, fails) in
        [(Threads::Own, 1), (Threads::Serving, 2), (Threads::Own, 3), (Threads::Serving, 3)]
    {
        let (outcome, names) = repeated(threads, CALLS[0], fails);
        assert_eq!((outcome, names.len()), (Err(Error::invalid("no more")), fails));
    }
}
