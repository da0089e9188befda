//! Cost of counting one request, from its timeline to its end, and its run. `cargo bench --bench metrics`

#![allow(clippy::print_stdout)] // This is a command-line program.

use servable::metrics::{Api, Methods, Metrics, Protocol};
use servable::profile::Phase;
use servable::timeline::Timeline;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUESTS: u32 = 2_000_000;

fn main() {
    println!("{:<44}  {:>12}", "case", "ns");
    for threads in [1, 2] {
        for (name, models) in [("one model", 1), ("a thousand models", 1000)] {
            let case = format!("{name}, {threads} threads");
            println!("{case:<44}  {:>12.1}", nanoseconds(threads, models));
        }
    }
}

/// Returns nanoseconds per request on each of `threads` threads, with `models` models.
fn nanoseconds(threads: usize, models: usize) -> f64 {
    let metrics = Metrics::default();
    let signature = |index| metrics.served(&format!("model-{index}")).version(1).signature("serving_default");
    let served: Vec<Arc<Methods>> = (0..models).map(signature).collect();
    let took = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| requests(&served))).collect();
        runs.into_iter().filter_map(|run| run.join().ok()).max().unwrap_or_default()
    });
    took.as_nanos() as f64 / f64::from(REQUESTS)
}

/// Does the counting for requests that are answered where they were read. The time is taken twice: the run takes it
/// anyway.
fn requests(served: &[Arc<Methods>]) -> Duration {
    let begin = Instant::now();
    for index in 0..REQUESTS as usize {
        let series = &black_box(served)[index % served.len()][Api::Predict as usize];
        let timeline = Arc::new(Timeline::begin(None, false));
        timeline.received(100);
        timeline.assign(series);
        timeline.enter(Phase::Run, begin);
        timeline.enter(Phase::Encode, begin + Duration::from_micros(9));
        series.part().ran(black_box(Duration::from_micros(9)), true);
        timeline.end(Protocol::Rest, Ok(100), None);
    }
    begin.elapsed()
}
