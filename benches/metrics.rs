//! Cost of counting one request: the protocol's observer and the run's. `cargo bench --bench metrics`

#![allow(clippy::print_stdout)] // This is a command-line program.

use servable::metrics::{Api, Metrics, Protocol};
use std::hint::black_box;
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
    let names: Vec<String> = (0..models).map(|index| format!("model-{index}")).collect();
    let served: Vec<_> = names.iter().map(|name| metrics.served(name)).collect();
    let took = std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| requests(&metrics, &names, &served))).collect();
        runs.into_iter().filter_map(|run| run.join().ok()).max().unwrap_or_default()
    });
    took.as_nanos() as f64 / f64::from(REQUESTS)
}

/// Does the counting for requests: the protocol resolves the name and takes the time twice; the servable has its
/// counts.
fn requests(
    metrics: &Metrics,
    names: &[String],
    served: &[std::sync::Arc<servable::metrics::ModelCounts>],
) -> Duration {
    let begin = Instant::now();
    for index in 0..REQUESTS as usize {
        let which = index % names.len();
        let model = metrics.asked(black_box(&names[which]));
        let started = Instant::now();
        served[which].ran(Api::Predict, black_box(Duration::from_micros(9)), true);
        model.answered(Protocol::Rest, Some(Api::Predict), started, Ok(()));
    }
    begin.elapsed()
}
