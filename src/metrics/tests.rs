//! Counts, checked through Prometheus's text.

use super::*;
use crate::memory::{Account, Reservation};
use std::time::Instant;

fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
    metrics.text().lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn a_request_is_counted_with_its_outcome_and_its_latency() {
    let metrics = Metrics::default();
    let started = Instant::now();
    let model = metrics.asked("m");
    model.answered(Protocol::Rest, Some(Api::Predict), started, Ok(()));
    model.answered(Protocol::Grpc, Some(Api::Predict), started, Ok(()));
    model.answered(Protocol::Rest, Some(Api::Predict), started, Err(Kind::NotFound));
    assert_eq!(
        lines(&metrics, ":tensorflow:serving:request_count{"),
        [
            r#":tensorflow:serving:request_count{model_name="m",status="OK"} 2"#,
            r#":tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1"#,
        ]
    );
    assert_eq!(
        lines(&metrics, ":tensorflow:serving:request_latency_count"),
        [
            r#":tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 1"#,
            r#":tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1"#,
        ]
    );
}

#[test]
fn a_run_is_counted_once_and_each_request_has_its_latency() {
    let metrics = Metrics::default();
    let model = metrics.served("m");
    model.ran(Api::Predict, Duration::from_micros(10), true);
    metrics.batches().ran(&[1, 2], 3, Duration::from_micros(30), std::iter::empty());
    model.ran(Api::Other, Duration::from_micros(2), true);
    assert_eq!(lines(&metrics, ":tensorflow:core:graph_runs{"), [":tensorflow:core:graph_runs{} 3"]);
    assert_eq!(
        lines(&metrics, ":tensorflow:core:graph_run_time_usecs{"),
        [":tensorflow:core:graph_run_time_usecs{} 42"]
    );
    let runtime = lines(&metrics, ":tensorflow:serving:runtime_latency");
    let labels = r#"model_name="m",API="Predict",runtime="TF1""#;
    assert_eq!(runtime.len(), 34 + 2);
    assert_eq!(runtime[0], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"10\"}} 0"));
    assert_eq!(runtime[1], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"18\"}} 1"));
    assert_eq!(runtime[33], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"+Inf\"}} 1"));
    assert_eq!(runtime[34], format!(":tensorflow:serving:runtime_latency_sum{{{labels}}} 10"));
    assert_eq!(runtime[35], format!(":tensorflow:serving:runtime_latency_count{{{labels}}} 1"));
}

#[test]
fn loads_and_warm_ups_are_counted_by_folder() {
    let metrics = Metrics::default();
    let path = Path::new("/models/m/1");
    metrics.loaded(path, Duration::from_millis(2), true);
    metrics.loaded(path, Duration::from_millis(9), false);
    metrics.warmed(path, Duration::from_millis(1), 3, Ok(()));
    metrics.warmed(path, Duration::from_millis(1), 1, Err(Kind::DataLoss));
    assert_eq!(
        lines(&metrics, ":tensorflow:cc:"),
        [
            r#":tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/1",status="fail"} 1"#,
            r#":tensorflow:cc:saved_model:load_attempt_count{model_path="/models/m/1",status="success"} 1"#,
            r#":tensorflow:cc:saved_model:load_latency{model_path="/models/m/1"} 2000"#,
        ]
    );
    assert_eq!(
        lines(&metrics, ":tensorflow:serving:model_warmup_records_read"),
        [
            r#":tensorflow:serving:model_warmup_records_read{model_path="/models/m/1",status="DATA_LOSS"} 1"#,
            r#":tensorflow:serving:model_warmup_records_read{model_path="/models/m/1",status="OK"} 3"#,
        ]
    );
}

#[test]
fn examples_of_multi_inference_are_counted() {
    let metrics = Metrics::default();
    metrics.asked("m").inferred(3);
    metrics.asked("m").inferred(1);
    let total = ":tensorflow:serving:request_example_count_total{";
    assert_eq!(lines(&metrics, total), [r#":tensorflow:serving:request_example_count_total{model="m"} 4"#]);
    let buckets = lines(&metrics, ":tensorflow:serving:request_example_counts_bucket");
    assert_eq!(buckets.len(), 16);
    assert!(buckets[3].ends_with(r#"le="8"} 2"#), "{}", buckets[3]);
}

#[test]
fn names_that_clients_make_up_do_not_fill_the_memory() {
    let metrics = Metrics::default();
    for index in 0..2 * MAX_STRANGERS {
        let name = format!("made-up-{index}");
        metrics.asked(&name).answered(Protocol::Rest, None, Instant::now(), Err(Kind::NotFound));
    }
    metrics.asked(&"x".repeat(MAX_NAME + 1)).answered(
        Protocol::Rest,
        None,
        Instant::now(),
        Err(Kind::NotFound),
    );
    let counted = lines(&metrics, ":tensorflow:serving:request_count{");
    assert_eq!(counted.len(), MAX_STRANGERS + 1);
    let rest = MAX_STRANGERS + 1;
    let nameless =
        format!(":tensorflow:serving:request_count{{model_name=\"\",status=\"NOT_FOUND\"}} {rest}");
    assert_eq!(counted[0], nameless);
    // A served model is counted under its own name nevertheless.
    assert!(!Arc::ptr_eq(&metrics.served("new"), &metrics.asked("other")));
    assert!(Arc::ptr_eq(&metrics.served("new"), &metrics.asked("new")));
}

#[test]
fn every_metric_is_announced_before_it_has_a_sample() {
    let text = Metrics::default().text();
    assert_eq!(text.matches("# TYPE ").count(), 23);
    assert!(text.contains("# TYPE :tensorflow:serving:request_count counter\n"));
    assert!(text.ends_with("# TYPE :tensorflow:serving:runtime_latency histogram\n"));
}

#[test]
fn threads_count_together() {
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let model = metrics.asked("m");
                    model.answered(Protocol::Rest, Some(Api::Predict), Instant::now(), Ok(()));
                }
            });
        }
    });
    let counted = lines(&metrics, ":tensorflow:serving:request_count{");
    assert_eq!(counted, [r#":tensorflow:serving:request_count{model_name="m",status="OK"} 8000"#]);
}

#[test]
fn what_requests_hold_is_told() {
    let budget = Budget::new(1 << 20);
    let metrics = Metrics::new(budget.clone());
    let account = Account::new(budget);
    let request = Reservation::new(account.clone());
    request.grow(10_000).unwrap();
    assert!(Reservation::new(account).grow(1 << 20).is_err());
    assert_eq!(
        lines(&metrics, ":servable:memory"),
        [
            ":servable:memory_in_flight_bytes{} 10000",
            ":servable:memory_in_flight_limit_bytes{} 1048576",
            ":servable:memory_in_flight_refusals{} 1",
        ]
    );
}
