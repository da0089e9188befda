//! Counts, checked through Prometheus's text.

use super::family::Type;
use super::*;
use crate::memory::{Account, Reservation};
use crate::profile::Phase;
use crate::timeline::Timeline;
use crate::trace_context::TraceContext;
use std::time::Instant;

fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
    starting(&metrics.tensorflow_page(), start)
}

fn text_of(metrics: &Metrics, surroundings: &Surroundings, format: Format) -> String {
    String::from_utf8(metrics.page(surroundings, format)).unwrap()
}

/// Returns the lines of the page of all metrics.
fn all(metrics: &Metrics, start: &str) -> Vec<String> {
    starting(&text_of(metrics, &Surroundings::default(), Format::Prometheus), start)
}

fn starting(text: &str, start: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

/// Returns a request whose body of `bytes` bytes is there.
fn begun(bytes: usize) -> Timeline {
    let timeline = Timeline::begin(None, false);
    timeline.received(bytes);
    timeline
}

/// Counts a request.
fn end(series: &Series, protocol: Protocol, outcome: Result<usize, Kind>) {
    let timeline = begun(10);
    timeline.assign(series);
    timeline.end(protocol, outcome, None);
}

#[test]
fn tensorflow_serving_s_metrics_know_infer_as_predict() {
    let metrics = Metrics::default();
    for name in ["m", "other"] {
        let model = if name == "m" { metrics.served(name) } else { metrics.asked(name) };
        let signature = model.version(1).signature("serving_default");
        end(&signature[Api::Predict as usize], Protocol::Rest, Ok(7));
        end(&signature[Api::Infer as usize], Protocol::Rest, Ok(7));
        signature[Api::Infer as usize].part().ran(Duration::from_micros(10), true);
    }
    let count = r#":tensorflow:serving:request_count{model_name="m",status="OK"} 2"#;
    assert!(lines(&metrics, ":tensorflow:serving:request_count{").contains(&count.to_owned()));
    let latency =
        r#":tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 2"#;
    assert!(lines(&metrics, ":tensorflow:serving:request_latency_count").contains(&latency.to_owned()));
    let run = lines(&metrics, ":tensorflow:serving:runtime_latency_count");
    assert!(run.iter().any(|line| line.contains(r#"API="Predict""#) && line.ends_with(" 1")), "{run:?}");
    for method in ["predict", "infer"] {
        let told = all(&metrics, "servable_requests_total");
        let is_it = |line: &String| line.contains("model=\"m\"") && line.contains(&format!("{method:?}"));
        assert!(told.iter().any(is_it), "{method}: {told:?}");
    }
}

#[test]
fn a_request_is_counted_with_its_outcome_and_its_latency() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("serving_default");
    end(&signature[Api::Predict as usize], Protocol::Rest, Ok(7));
    end(&signature[Api::Predict as usize], Protocol::Grpc, Ok(5));
    end(metrics.asked("m").unresolved(Api::Predict), Protocol::Rest, Err(Kind::NotFound));
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
    let known = r#"model="m",version="1",signature="serving_default",method="predict""#;
    let none = r#"model="m",version="",signature="",method="predict""#;
    assert_eq!(
        all(&metrics, "servable_requests_total"),
        [
            format!("servable_requests_total{{{none},protocol=\"rest\",outcome=\"NOT_FOUND\"}} 1"),
            format!("servable_requests_total{{{known},protocol=\"rest\",outcome=\"OK\"}} 1"),
            format!("servable_requests_total{{{known},protocol=\"grpc\",outcome=\"OK\"}} 1"),
        ]
    );
    assert_eq!(
        all(&metrics, "servable_request_duration_seconds_count"),
        [
            format!("servable_request_duration_seconds_count{{{known},protocol=\"rest\"}} 1"),
            format!("servable_request_duration_seconds_count{{{known},protocol=\"grpc\"}} 1"),
        ]
    );
    let sent = all(&metrics, "servable_response_bytes_total");
    assert_eq!(sent[1], format!("servable_response_bytes_total{{{known},protocol=\"rest\"}} 7"));
    let received = all(&metrics, "servable_request_bytes_total");
    assert_eq!(received[0], format!("servable_request_bytes_total{{{none},protocol=\"rest\"}} 10"));
}

#[test]
fn a_run_is_counted_once_and_each_request_has_its_latency() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("");
    let ran = |api: Api, took, alone| signature[api as usize].part().ran(Duration::from_micros(took), alone);
    ran(Api::Predict, 10, true);
    ran(Api::Regress, 40, false);
    metrics.batches().ran(&[1, 2], 3, Duration::from_micros(30), std::iter::empty());
    ran(Api::Other, 2, true);
    assert_eq!(lines(&metrics, ":tensorflow:core:graph_runs{"), [":tensorflow:core:graph_runs{} 3"]);
    assert_eq!(
        lines(&metrics, ":tensorflow:core:graph_run_time_usecs{"),
        [":tensorflow:core:graph_run_time_usecs{} 42"]
    );
    let runtime = lines(&metrics, ":tensorflow:serving:runtime_latency");
    let labels = r#"model_name="m",API="Predict",runtime="TF1""#;
    assert_eq!(runtime.len(), 2 * (34 + 2));
    assert_eq!(runtime[0], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"10\"}} 0"));
    assert_eq!(runtime[1], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"18\"}} 1"));
    assert_eq!(runtime[33], format!(":tensorflow:serving:runtime_latency_bucket{{{labels},le=\"+Inf\"}} 1"));
    assert_eq!(runtime[34], format!(":tensorflow:serving:runtime_latency_sum{{{labels}}} 10"));
    assert_eq!(runtime[35], format!(":tensorflow:serving:runtime_latency_count{{{labels}}} 1"));
}

#[test]
fn phases_are_told_apart() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("s");
    let timeline = begun(0);
    let at = |millis| Instant::now() + Duration::from_millis(millis);
    timeline.assign(&signature[Api::Predict as usize]);
    let before = timeline.enter(Phase::Queue, at(10));
    assert_eq!(before, Phase::Decode);
    assert_eq!(timeline.enter(before, at(110)), Phase::Queue);
    timeline.enter(Phase::Run, at(120));
    timeline.enter(Phase::Encode, at(1120));
    timeline.end(Protocol::Rest, Ok(1), None);
    let labels = r#"{model="m",version="1",signature="s",method="predict","#;
    for (phase, below, limit) in
        [("decode", "0.01", "0.025"), ("queue", "0.05", "0.25"), ("run", "0.5", "2.5")]
    {
        let name = format!("servable_request_{phase}_seconds_bucket{labels}");
        let buckets = all(&metrics, &name);
        assert!(buckets.contains(&format!("{name}le=\"{below}\"}} 0")), "{buckets:?}");
        assert!(buckets.contains(&format!("{name}le=\"{limit}\"}} 1")), "{buckets:?}");
    }
}

#[test]
fn a_request_is_in_flight_until_it_ends_where_it_was_assigned_last() {
    let metrics = Metrics::default();
    let version = metrics.served("m").version(1);
    let in_flight = || -> Vec<String> {
        let all = all(&metrics, "servable_requests_in_flight");
        all.iter().map(|line| line.split("signature=").nth(1).unwrap().to_owned()).collect()
    };
    let timeline = begun(0);
    timeline.assign(&version.signature("")[Api::Predict as usize]);
    assert_eq!(in_flight(), [r#""",method="predict"} 1"#]);
    timeline.assign(&version.signature("s")[Api::Predict as usize]);
    assert_eq!(in_flight(), [r#""",method="predict"} 0"#, r#""s",method="predict"} 1"#]);
    timeline.end(Protocol::Grpc, Err(Kind::Cancelled), None);
    assert_eq!(in_flight(), [r#""",method="predict"} 0"#, r#""s",method="predict"} 0"#]);
    // A thread goes on with it after its client has left.
    timeline.assign(&version.signature("s")[Api::Predict as usize]);
    assert_eq!(in_flight(), [r#""",method="predict"} 0"#, r#""s",method="predict"} 0"#]);
}

#[test]
fn what_an_unloaded_version_has_counted_stays_in_the_models_sums() {
    let metrics = Metrics::default();
    let model = metrics.served("m");
    let version = model.version(1);
    let late = begun(0);
    late.assign(&version.signature("s")[Api::Predict as usize]);
    end(&version.signature("s")[Api::Predict as usize], Protocol::Rest, Ok(1));
    drop(version);
    model.retire(1);
    let counted = || lines(&metrics, ":tensorflow:serving:request_count{");
    let times =
        |count: u64| format!(":tensorflow:serving:request_count{{model_name=\"m\",status=\"OK\"}} {count}");
    assert_eq!(counted(), [times(1)]);
    late.end(Protocol::Rest, Ok(1), None);
    assert_eq!(counted(), [times(2)], "a request that ends after its version");
    assert_eq!(counted(), [times(2)]);
    assert_eq!(all(&metrics, "servable_requests_total"), Vec::<String>::new());
    end(&model.version(1).signature("s")[Api::Predict as usize], Protocol::Rest, Ok(1));
    assert_eq!(counted(), [times(3)]);
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
fn examples_of_multi_inference_are_counted_and_its_requests_only_on_the_page_of_all() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("s");
    for examples in [3, 1] {
        let timeline = begun(0);
        timeline.assign(&signature[Api::MultiInference as usize]);
        timeline.end(Protocol::Grpc, Ok(9), Some(examples));
    }
    let total = ":tensorflow:serving:request_example_count_total{";
    assert_eq!(lines(&metrics, total), [r#":tensorflow:serving:request_example_count_total{model="m"} 4"#]);
    let buckets = lines(&metrics, ":tensorflow:serving:request_example_counts_bucket");
    assert_eq!(buckets.len(), 16);
    assert!(buckets[3].ends_with(r#"le="8"} 2"#), "{}", buckets[3]);
    assert_eq!(lines(&metrics, ":tensorflow:serving:request_count{"), Vec::<String>::new());
    assert!(all(&metrics, "servable_requests_total")[0].ends_with(r#"outcome="OK"} 2"#));
}

#[test]
fn names_that_clients_make_up_do_not_fill_the_memory() {
    let metrics = Metrics::default();
    let ask =
        |name: &str| end(metrics.asked(name).unresolved(Api::Other), Protocol::Rest, Err(Kind::NotFound));
    (0..2 * MAX_STRANGERS).for_each(|index| ask(&format!("made-up-{index}")));
    ask(&"x".repeat(MAX_NAME + 1));
    let counted = lines(&metrics, ":tensorflow:serving:request_count{");
    assert_eq!(counted.len(), MAX_STRANGERS + 1);
    let rest = MAX_STRANGERS + 1;
    let nameless =
        |count| format!(":tensorflow:serving:request_count{{model_name=\"\",status=\"NOT_FOUND\"}} {count}");
    assert_eq!(counted[0], nameless(rest));
    // A served model is counted under its own name nevertheless.
    assert!(!Arc::ptr_eq(&metrics.served("new"), &metrics.asked("other")));
    assert!(Arc::ptr_eq(&metrics.served("new"), &metrics.asked("new")));
    // The page of all metrics tells none of them.
    let page = text_of(&metrics, &Surroundings::default(), Format::OpenMetrics);
    assert!(!page.contains("made-up") && !page.contains("xxx"));
    assert_eq!(starting(&page, ":tensorflow:serving:request_count{"), [nameless(2 * MAX_STRANGERS + 1)]);
    assert_eq!(starting(&page, "servable_requests_total").len(), 1);
}

#[test]
fn every_metric_is_announced_before_it_has_a_sample() {
    let metrics = Metrics::default();
    let text = metrics.tensorflow_page();
    assert_eq!((text.matches("# TYPE ").count(), text.matches("# HELP").count()), (23, 0));
    assert!(text.contains("# TYPE :tensorflow:serving:request_count counter\n"));
    assert!(text.ends_with("# TYPE :tensorflow:serving:runtime_latency histogram\n"));
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = text_of(&metrics, &Surroundings::default(), format);
        for announced in ["# TYPE ", "# HELP "] {
            assert_eq!(text.matches(announced).count(), list::LIST.len());
        }
        assert_eq!(text.ends_with("\n# EOF\n"), format == Format::OpenMetrics);
    }
}

#[test]
fn openmetrics_leaves_out_the_endings_of_its_types() {
    let metrics = Metrics::default();
    end(metrics.served("m").unresolved(Api::Other), Protocol::Rest, Ok(1));
    let page = |format| text_of(&metrics, &Surroundings::default(), format);
    let cases = [
        ("# TYPE servable_requests_total counter", "# TYPE servable_requests counter"),
        ("# TYPE servable_build_info gauge", "# TYPE servable_build info"),
        ("# TYPE :tensorflow:core:graph_runs counter", "# TYPE :tensorflow:core:graph_runs unknown"),
    ];
    for (text, open) in cases {
        assert!(
            page(Format::Prometheus).contains(text) && page(Format::OpenMetrics).contains(open),
            "{text}"
        );
    }
    let sample = "\nservable_requests_total{model=\"m\"";
    assert!(page(Format::Prometheus).contains(sample) && page(Format::OpenMetrics).contains(sample));
}

#[test]
fn refusals_are_counted_by_model_and_in_all() {
    let metrics = Metrics::default();
    for model in ["a", "b", "b"] {
        metrics.refusals().of(model).count(Reason::Overload);
    }
    let all = all(&metrics, "servable_requests_refused_total{model=\"b\"");
    assert!(all.contains(&r#"servable_requests_refused_total{model="b",reason="overload"} 2"#.to_owned()));
    assert_eq!(all.len(), 7, "each reason has a sample before it occurs");
    let sum = lines(&metrics, ":servable:scheduler_refusals{reason=\"overload\"");
    assert_eq!(sum, [r#":servable:scheduler_refusals{reason="overload"} 3"#]);
}

#[test]
fn loads_are_counted_by_model_and_outcome() {
    let metrics = Metrics::default();
    let model = metrics.served("m");
    model.loaded(Duration::from_millis(700), Ok(()));
    model.loaded(Duration::from_millis(1), Err(Kind::NotFound));
    model.version(1).is_loaded("tensorflow", 1234);
    assert_eq!(
        all(&metrics, "servable_model_loads_total"),
        [
            r#"servable_model_loads_total{model="m",outcome="OK"} 1"#,
            r#"servable_model_loads_total{model="m",outcome="NOT_FOUND"} 1"#,
        ]
    );
    let times = all(&metrics, "servable_model_load_seconds");
    assert_eq!(times[2], r#"servable_model_load_seconds_bucket{model="m",le="0.5"} 0"#);
    assert_eq!(times[3], r#"servable_model_load_seconds_bucket{model="m",le="1.0"} 1"#);
    assert_eq!(times[14], r#"servable_model_load_seconds_sum{model="m"} 0.7"#);
    assert_eq!(
        all(&metrics, "servable_model_file_bytes"),
        [r#"servable_model_file_bytes{model="m",version="1"} 1234"#]
    );
    let engine = |engine: &str| content::SignatureEngine {
        model: "m".to_owned(),
        version: 1,
        signature: "s".to_owned(),
        engine: engine.to_owned(),
    };
    let surroundings =
        Surroundings { engines: vec![engine(""), engine("openvino")], ..Surroundings::default() };
    let page = text_of(&metrics, &surroundings, Format::Prometheus);
    let labels = r#"servable_signature_engine_info{model="m",version="1",signature="s",engine="#;
    let expected = ["tensorflow", "openvino"].map(|engine| format!("{labels}\"{engine}\"}} 1"));
    assert_eq!(starting(&page, "servable_signature_engine_info"), expected);
}

#[test]
fn threads_count_together() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("s");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    end(&signature[Api::Predict as usize], Protocol::Rest, Ok(1));
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

#[test]
fn a_request_whose_trace_is_recorded_is_an_exemplar_in_openmetrics() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("s");
    let span = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    for exemplar in [None, Some(span)] {
        let timeline = Timeline::begin(exemplar, false);
        timeline.received(1);
        timeline.assign(&signature[Api::Predict as usize]);
        timeline.end(Protocol::Rest, Ok(1), None);
    }
    let exemplars = |format| {
        let page = text_of(&metrics, &Surroundings::default(), format);
        page.lines().filter(|line| line.contains(" # {")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(exemplars(Format::Prometheus), Vec::<String>::new());
    let [line] = &exemplars(Format::OpenMetrics)[..] else { panic!() };
    assert!(line.starts_with("servable_request_duration_seconds_bucket{"), "{line}");
    let ids = " # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",span_id=\"00f067aa0ba902b7\"} ";
    assert!(line.contains(ids), "{line}");
}

#[test]
fn the_page_and_the_values_for_a_collector_are_the_same() {
    let metrics = Metrics::default();
    let signature = metrics.served("m").version(1).signature("s");
    end(&signature[Api::Predict as usize], Protocol::Rest, Ok(7));
    end(metrics.asked("m").unresolved(Api::Predict), Protocol::Grpc, Err(Kind::NotFound));
    let points = metrics.points(&Surroundings::default());
    assert_eq!(points.len(), list::LIST.iter().filter(|(family, _)| family.is_own()).count());
    for (family, points) in points {
        let name = family.sample_name();
        let name = format!("{name}{}", if family.kind == Type::Histogram { "_count" } else { "" });
        let mut lines = all(&metrics, &name);
        lines.retain(|line| line[name.len()..].starts_with(['{', ' ']));
        assert_eq!(lines.len(), points.len(), "{name}");
        for (line, point) in lines.iter().zip(points) {
            assert!(point.labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\""))));
            let value = match point.value {
                Value::Number(number) => number.to_string(),
                Value::Histogram(histogram) => {
                    assert_eq!(histogram.counts.len(), histogram.limits.len() + 1);
                    histogram.counts.iter().sum::<u64>().to_string()
                }
            };
            assert!(line.ends_with(&format!(" {value}")), "{line} {value}");
        }
    }
}
