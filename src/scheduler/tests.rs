//! Tests of the threads: see `queues/tests.rs` for the decisions.

use super::*;
use std::sync::mpsc;

/// Numbers that are squared together.
struct Number {
    value: u64,
    answer: mpsc::Sender<(u64, usize)>,
}

impl Item for Number {
    fn rows(&self) -> usize {
        1
    }

    fn joins(&self, other: &Number) -> bool {
        self.value % 2 == other.value % 2
    }
}

impl Task for Number {
    fn run(numbers: Vec<Number>) -> bool {
        let together = numbers.len();
        assert!(numbers.iter().all(|number| number.value != 13), "on purpose");
        numbers.into_iter().for_each(|number| number.answer.send((number.value, together)).unwrap());
        true
    }
}

fn scheduler(slots: usize) -> Scheduler<Number> {
    Scheduler::with_slots(slots)
}

/// Work that goes on until the sender is dropped, which tells when it begins.
fn gate() -> (impl FnOnce(Cancelled) -> Result<()> + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, begins) = mpsc::channel();
    let (opens, opened) = mpsc::channel::<()>();
    let work = move |_: Cancelled| {
        begun.send(()).unwrap();
        let _closed = opened.recv();
        Ok(())
    };
    (work, begins, opens)
}

#[tokio::test]
async fn work_is_done_on_a_thread_of_the_scheduler() {
    let scheduler = scheduler(2);
    let name = |_| Ok(std::thread::current().name().map(str::to_owned));
    let done = scheduler.run(None, &Context::default(), name).await.unwrap();
    assert_eq!(done.as_deref(), Some("servable-run"));
}

#[tokio::test]
async fn a_panic_is_that_of_its_request_alone() {
    let scheduler = scheduler(1);
    let context = Context::default();
    let failed = scheduler.run::<()>(None, &context, |_| panic!("on purpose")).await;
    assert_eq!(failed.unwrap_err().kind, Kind::Internal);
    assert_eq!(scheduler.run(None, &context, |_| Ok(7)).await, Ok(7));
}

#[tokio::test]
async fn a_deadline_that_has_passed_costs_nothing() {
    let scheduler = scheduler(1);
    let context = Context { deadline: Some(Instant::now()), ..Context::default() };
    let late = scheduler.run::<()>(None, &context, |_| panic!("it must not run")).await;
    assert_eq!(late.unwrap_err().kind, Kind::DeadlineExceeded);
}

#[tokio::test]
async fn who_leaves_while_waiting_is_not_run_and_who_leaves_while_running_is_told() {
    let scheduler = Arc::new(scheduler(1));
    let (work, begins, opens) = gate();
    let (told, tells) = mpsc::channel();
    let its = scheduler.clone();
    let running = tokio::spawn(async move {
        let work = move |cancelled: Cancelled| {
            work(cancelled.clone())?;
            told.send(cancelled.is_set()).unwrap();
            Ok(())
        };
        its.run(None, &Context::default(), work).await
    });
    let begun = tokio::task::spawn_blocking(move || begins.recv().unwrap());
    begun.await.unwrap();
    let its = scheduler.clone();
    let held = Arc::new("what it holds");
    let of_work = held.clone();
    let work = move |_: Cancelled| -> Result<()> { panic!("{of_work:?} must not run") };
    let waiting = tokio::spawn(async move { its.run(None, &Context::default(), work).await });
    while !scheduler.shared.state().queues.state(Instant::now()).0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    running.abort();
    assert!(waiting.await.unwrap_err().is_cancelled() && running.await.unwrap_err().is_cancelled());
    assert!(!scheduler.shared.state().queues.state(Instant::now()).0);
    assert_eq!(Arc::strong_count(&held), 1, "it is given back at once");
    drop(opens);
    assert!(tokio::task::spawn_blocking(move || tells.recv().unwrap()).await.unwrap());
}

#[test]
fn tasks_that_come_during_a_run_are_done_together() {
    let scheduler = scheduler(1);
    let lane = scheduler.lane("m", Work::Gathered);
    let (answer, answers) = mpsc::channel();
    let ask = |value| lane.queue(Number { value, answer: answer.clone() }, &Context::default()).unwrap();
    let all: Vec<_> = (0..200).map(|value| ask(if value == 100 { 13 } else { value * 2 })).collect();
    let answered: Vec<(u64, usize)> = answers.iter().take(199).collect();
    drop(all);
    let mut values: Vec<u64> = answered.iter().map(|(value, _)| *value).collect();
    values.sort_unstable();
    let expected: Vec<u64> = (0..200).filter(|value| *value != 100).map(|value| value * 2).collect();
    assert_eq!(values, expected, "each once, and the panic is another's");
    assert!(answered.iter().all(|(_, together)| *together <= 199));
}

#[tokio::test]
async fn what_waits_when_the_server_stops_is_told_so() {
    let scheduler = Arc::new(scheduler(1));
    let (work, begins, opens) = gate();
    let its = scheduler.clone();
    let running = tokio::spawn(async move { its.run(None, &Context::default(), work).await });
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    let lane = scheduler.lane("m", Work::Gathered);
    let (answer, answers) = mpsc::channel();
    let queued = lane.queue(Number { value: 2, answer }, &Context::default()).unwrap();
    scheduler.stop();
    assert!(answers.recv().is_err(), "it is gone");
    drop((queued, opens));
    assert_eq!(running.await.unwrap(), Ok(()));
    let refused = scheduler.run(None, &Context::default(), |_| Ok(())).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Unavailable);
}

#[test]
fn threads_end_with_the_scheduler() {
    let scheduler = scheduler(2);
    let lane = scheduler.lane("m", Work::Gathered);
    let (answer, answers) = mpsc::channel();
    let queued = lane.queue(Number { value: 2, answer }, &Context::default()).unwrap();
    assert_eq!(answers.recv(), Ok((2, 1)));
    let shared = Arc::downgrade(&scheduler.shared);
    drop((queued, lane, scheduler));
    let started = Instant::now();
    while shared.strong_count() > 0 {
        assert!(started.elapsed().as_secs() < 20, "a thread goes on");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_thread_goes_on_with_what_comes_of_its_work() {
    let scheduler = scheduler(2);
    let lane = scheduler.lane("m", Work::Runs);
    let (told, tells) = mpsc::channel();
    let work = move |_: Cancelled| {
        let at_once = told.clone();
        let here = std::thread::current().id();
        lane.go_on_alone(move || at_once.send(std::thread::current().id() == here).is_ok())?;
        let was_done = tells.try_recv();
        // This thread does nothing any more, as far as the queues know.
        lane.go_on_alone(move || told.send(std::thread::current().id() == here).is_ok())?;
        Ok((was_done, tells.recv().is_ok()))
    };
    assert_eq!(scheduler.run(None, &Context::default(), work).await, Ok((Ok(true), true)));
}
