//! Calls that are run in batches: they wait without a thread, and an unload or a client that leaves loses none of the
//! others.

use super::*;
use crate::batch::{Parameters, Pool};
use crate::engine::{Endpoint, Model, fake};
use crate::scheduler::Limits;
use crate::servable::{Drain, Run};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

/// The runs of a model wait while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    /// Number of runs that have begun.
    runs: AtomicUsize,
    /// Name of the thread that freed the model.
    freed_in: Mutex<Option<String>>,
}

/// Belongs to a model.
struct Gated(Arc<Gate>);

impl Drop for Gated {
    fn drop(&mut self) {
        *self.0.freed_in.lock().unwrap() = thread();
    }
}

impl Gate {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let _open = self.opened.wait_while(self.closed.lock().unwrap(), |closed| *closed).unwrap();
    }
}

/// Returns the fake model, whose runs wait while `gate` is closed.
fn gated(gate: &Arc<Gate>) -> Box<dyn Model> {
    let its = Gated(gate.clone());
    fake::model(move || {
        its.0.runs.fetch_add(1, Relaxed);
        its.0.pass();
    })
}

/// A server with one slot, where one batch runs at once.
struct Setup {
    server: Arc<ServerState>,
    drain: Drain,
    gate: Arc<Gate>,
}

fn setup(max_batch_size: usize, max_enqueued_batches: usize, batch_timeout: Duration) -> Setup {
    let gate = Arc::new(Gate::default());
    let pool = Arc::new(Pool::new(None).unwrap());
    let parameters = Parameters {
        max_batch_size,
        batch_timeout,
        max_enqueued_batches,
        allowed_batch_sizes: Vec::new(),
        pad_variable_length_inputs: false,
        split_at: None,
    };
    let batching = Some(batch::Batching::Parameters(pool.clone(), parameters));
    let scheduler = Scheduler::with_slots(1);
    let resources = Resources { batching, ..Resources::plain(Policy::Auto, &scheduler) };
    let (servable, drain) = Servable::new("m".to_owned(), 3, gated(&gate), resources);
    servable.warm_batches();
    Setup { server: serving(servable, scheduler, Some(pool)), drain, gate }
}

/// A server without parameters that accepts `most` requests.
fn automatic(most: usize) -> Setup {
    let gate = Arc::new(Gate::default());
    let limits = Limits { slots: 1, batches_at_once: 1, max_model_requests: Some(most), ..Limits::default() };
    let scheduler = Scheduler::new(limits, Arc::default());
    let batching = Some(batch::Batching::Automatic(None));
    let resources = Resources { batching, ..Resources::plain(Policy::Pool, &scheduler) };
    let (servable, drain) = Servable::new("m".to_owned(), 3, gated(&gate), resources);
    let one = Tensor::numbers(DType::Float, vec![1], 1_f32.to_le_bytes().to_vec().into());
    let sample = Run {
        api: Api::Predict,
        signature: DEFAULT_SIGNATURE.into(),
        feeds: vec![(Endpoint(0), one.clone()), (Endpoint(1), one)],
        fetches: vec![Endpoint(2), Endpoint(3)],
    };
    servable.run(sample.clone(), &Context::default()).unwrap();
    servable.warm_batches();
    assert!(servable.batches(&sample));
    gate.runs.store(0, Relaxed);
    Setup { server: serving(servable, scheduler, None), drain, gate }
}

impl Setup {
    /// Begins a call with a small body, or a large one.
    fn ask(&self, small: bool) -> tokio::task::JoinHandle<Result<(Vec<String>, bool, bool)>> {
        let (server, call) = (self.server.clone(), Doubling { small, ..call("m") });
        tokio::spawn(async move { ask(&server, call, observed(), pending()).await })
    }

    fn waiting(&self) -> usize {
        self.server.batches.as_ref().unwrap().waiting()
    }

    /// Begins a call, and returns once it runs.
    async fn running(&self) -> tokio::task::JoinHandle<Result<(Vec<String>, bool, bool)>> {
        let before = self.gate.runs.load(Relaxed);
        let running = self.ask(true);
        until(|| self.gate.runs.load(Relaxed) > before).await;
        running
    }
}

async fn until(reached: impl Fn() -> bool) {
    let waited = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
}

#[tokio::test]
async fn calls_wait_for_their_batch_without_a_thread() {
    for small in [true, false] {
        let setup = setup(2000, 1, Duration::from_secs(3600));
        let mut calls: Vec<_> = (1..2000).map(|_| setup.ask(small)).collect();
        // There is one slot, and none of the pool's runs anything yet.
        until(|| setup.waiting() == 1999).await;
        calls.push(setup.ask(small));
        for call in calls {
            let (aliases, decoded, encoded) = call.await.unwrap().unwrap();
            // These are decoded on a thread of the scheduler; none has outputs that need one.
            assert_eq!((decoded, encoded), (!small, false));
            assert_eq!(aliases, ["sum", "difference"]);
        }
        assert_eq!(setup.gate.runs.load(Relaxed), 1);
    }
}

#[tokio::test]
async fn a_call_that_finds_nothing_else_runs_at_once_but_not_in_the_thread_that_read_it() {
    let setup = setup(10, 10, Duration::ZERO);
    for small in [true, false] {
        setup.gate.close();
        let (runs, call) = (setup.gate.runs.load(Relaxed), setup.ask(small));
        until(|| setup.gate.runs.load(Relaxed) > runs).await;
        setup.gate.open();
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_queue() {
    let setup = setup(10, 10, Duration::from_secs(3600));
    let (leaver, other) = (setup.ask(true), setup.ask(true));
    until(|| setup.waiting() == 2).await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    assert_eq!(setup.waiting(), 1);
    other.abort();
    assert!(other.await.unwrap_err().is_cancelled());
    let cancelled = r#"model_name="m",status="CANCELLED"} 2"#;
    assert_eq!(counted(&setup.server), [cancelled]);
    let unload = std::thread::spawn(|| setup.drain.wait_and_free());
    drop(setup.server.registry.retire("m", 3).unwrap());
    tokio::task::spawn_blocking(|| unload.join()).await.unwrap().unwrap();
    assert_eq!(setup.gate.runs.load(Relaxed), 0);
}

#[tokio::test]
async fn an_unload_with_a_full_queue_loses_no_call() {
    let setup = setup(1, 2, Duration::ZERO);
    setup.gate.close();
    let running = setup.running().await;
    let queued = [setup.ask(true), setup.ask(true)];
    until(|| setup.waiting() == 2).await;
    let refused = setup.ask(true).await.unwrap().unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    let in_use = setup.drain.in_use();
    drop(setup.server.registry.retire("m", 3).unwrap());
    let late = setup.ask(true).await.unwrap().unwrap_err();
    assert_eq!(late.kind, Kind::NotFound);
    setup.gate.open();
    for call in [running].into_iter().chain(queued) {
        assert!(call.await.unwrap().is_ok());
    }
    tokio::task::spawn_blocking(move || in_use.wait()).await.unwrap();
    assert_eq!(setup.gate.runs.load(Relaxed), 3);
}

#[tokio::test]
async fn an_unload_with_a_full_queue_loses_no_call_without_parameters() {
    let setup = automatic(6);
    setup.gate.close();
    let running = setup.running().await;
    let (queued, left) = ([true; 4].map(|small| setup.ask(small)), setup.ask(true));
    let refused = setup.ask(true).await.unwrap().unwrap_err();
    assert_eq!(refused.kind, Kind::ResourceExhausted);
    assert!(refused.message.starts_with("Model m has 6 requests in flight"), "{refused}");
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    // This one has room, and waits for a thread to be decoded.
    let large = setup.ask(false);
    tokio::task::yield_now().await;
    let in_use = setup.drain.in_use();
    drop(setup.server.registry.retire("m", 3).unwrap());
    let late = setup.ask(true).await.unwrap().unwrap_err();
    assert_eq!(late.kind, Kind::NotFound);
    setup.gate.open();
    for call in [running, large].into_iter().chain(queued) {
        let (aliases, ..) = call.await.unwrap().unwrap();
        assert_eq!(aliases, ["sum", "difference"]);
    }
    tokio::task::spawn_blocking(move || in_use.wait()).await.unwrap();
    let runs = setup.gate.runs.load(Relaxed);
    assert!((2..=6).contains(&runs), "each once: {runs}");
    let mut counts = counted(&setup.server);
    counts.sort();
    assert_eq!(
        counts,
        [
            r#"model_name="m",status="CANCELLED"} 1"#,
            r#"model_name="m",status="NOT_FOUND"} 1"#,
            r#"model_name="m",status="OK"} 6"#,
            r#"model_name="m",status="RESOURCE_EXHAUSTED"} 1"#,
        ]
    );
}

#[tokio::test]
async fn a_model_whose_clients_have_left_is_freed_by_its_unload() {
    let setup = setup(1, 2, Duration::ZERO);
    setup.gate.close();
    let running = setup.running().await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    drop(setup.server.registry.retire("m", 3).unwrap());
    let name = std::thread::Builder::new().name("unload".to_owned());
    let unload = name.spawn(|| setup.drain.wait_and_free()).unwrap();
    setup.gate.open();
    tokio::task::spawn_blocking(|| unload.join()).await.unwrap().unwrap();
    assert_eq!(setup.gate.freed_in.lock().unwrap().as_deref(), Some("unload"));
}

#[tokio::test]
async fn a_deadline_ends_the_wait_with_the_queues_error() {
    let setup = setup(10, 10, Duration::from_secs(3600));
    let deadline = Some(std::time::Instant::now() + Duration::from_millis(20));
    let context = Context { deadline, ..Context::default() };
    let error = ask(&setup.server, call("m"), context, pending()).await.unwrap_err();
    assert_eq!(error.message, "Run() timeout exceeded while waiting in batching queue");
    assert_eq!(setup.waiting(), 0);
}
