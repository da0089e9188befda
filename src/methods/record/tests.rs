//! Recording: the calls kept, its duration, and the content of records.

use super::*;
use crate::methods::Positions;
use crate::payload::{Form, PayloadRule, Place};
use crate::pb::tensorflow::serving::PredictionLog;
use crate::pb::tensorflow::serving::prediction_log::LogType;
use crate::tensor::DType;

const LIMITS: RecordLimits = RecordLimits { requests: 3, every: 1, bytes: 1 << 20 };
const LONG: Duration = Duration::from_secs(60);

fn request(text: &str) -> Bytes {
    PredictRequest { model_spec: spec("m", text), ..Default::default() }.encode_to_vec().into()
}

/// A request with an input of `bytes`.
fn asked(bytes: usize) -> Request {
    let input = Tensor::numbers(DType::UInt8, vec![bytes as i64], vec![0; bytes].into());
    Request::Predict { signature: "".into(), inputs: vec![input], outputs: Positions::new() }
}

fn call(recorder: &Recorder, model: &str, text: &str) {
    if let Some(sample) = recorder.sample(model, &asked(1), || Some(request(text))) {
        sample.keep();
    }
}

/// Returns the records of the calls that `work` makes once the recording has begun.
fn recorded(limits: RecordLimits, time: Duration, work: impl FnOnce(&Recorder)) -> Vec<String> {
    recorded_by(&Recorder::none(), limits, time, work)
}

fn recorded_by(
    recorder: &Recorder,
    limits: RecordLimits,
    time: Duration,
    work: impl FnOnce(&Recorder),
) -> Vec<String> {
    let records = std::thread::scope(|scope| {
        let recording = scope.spawn(|| recorder.record("m", limits, time));
        while !recorder.active.load(Relaxed) {
            std::thread::yield_now();
        }
        work(recorder);
        recording.join().unwrap()
    });
    assert!(!recorder.active.load(Relaxed));
    records.iter().map(name_of).collect()
}

fn name_of(record: &Bytes) -> String {
    let log = PredictionLog::decode(record.clone()).unwrap();
    let Some(LogType::PredictLog(log)) = log.log_type else { panic!("{log:?}") };
    log.request.unwrap().model_spec.unwrap().signature_name
}

#[test]
fn nothing_is_sampled_while_nobody_records() {
    let recorder = Recorder::none();
    assert!(recorder.sample("m", &asked(1), || unreachable!()).is_none());
}

#[test]
fn enough_requests_end_a_recording_and_equal_ones_count_once() {
    let names = recorded(LIMITS, LONG, |recorder| {
        ["a", "a", "b", "a", "c", "d"].iter().for_each(|text| call(recorder, "m", text));
    });
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn other_models_and_calls_that_failed_are_not_kept() {
    let names = recorded(LIMITS, LONG, |recorder| {
        call(recorder, "other", "a");
        drop(recorder.sample("m", &asked(1), || Some(request("failed"))));
        call(recorder, "m", "b");
        recorder.end();
    });
    assert_eq!(names, ["b"]);
}

#[test]
fn one_of_several_is_sampled() {
    let names = recorded(RecordLimits { every: 3, ..LIMITS }, LONG, |recorder| {
        (0..7).for_each(|number| call(recorder, "m", &number.to_string()));
    });
    assert_eq!(names, ["0", "3", "6"]);
}

#[test]
fn what_would_be_too_much_is_left_out() {
    let small = prediction_log(RecordKind::Predict, &request("a")).len();
    let names = recorded(RecordLimits { bytes: 2 * small, ..LIMITS }, LONG, |recorder| {
        ["a", &"x".repeat(2 * small), "b", "c"].iter().for_each(|text| call(recorder, "m", text));
        recorder.end();
    });
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn memory_for_the_payload_log_is_no_limit_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let no_limits = crate::payload::FileLimits { bytes: 0, age: None };
    // An eighth is for logs: less than a request.
    let account = crate::memory::Account::of_logs(crate::memory::Budget::new(64 << 10));
    let recorder = Recorder::new(Payloads::new(no_limits, |record| record.to_vec(), Some(account)));
    let large = "x".repeat(20 << 10);
    let names = recorded_by(&recorder, LIMITS, LONG, |recorder| {
        call(recorder, "m", &large);
        recorder.end();
    });
    assert_eq!((names, recorder.payloads.counts()), (vec![large.clone()], (0, 0)));
    let place = Place { form: Form::TfRecord, prefix: folder.path().join("m") };
    let (sampling_config, tags) = Default::default();
    let rule = PayloadRule { model: "m".to_owned(), place, share: 1.0, sampling_config, tags };
    recorder.payloads.configure(vec![rule]).unwrap();
    let names = recorded_by(&recorder, LIMITS, LONG, |recorder| {
        call(recorder, "m", &large);
        recorder.end();
    });
    assert_eq!((names, recorder.payloads.counts()), (vec![large.clone()], (0, 1)));
    call(&recorder, "m", &large);
    assert_eq!(recorder.payloads.counts(), (0, 2), "without a recording, too");
    assert!(recorder.sample("m", &asked(20 << 10), || unreachable!("before it is copied")).is_none());
    assert_eq!(recorder.payloads.counts(), (0, 3));
}

#[test]
fn time_ends_a_recording_and_so_does_a_later_one() {
    assert!(Recorder::none().record("m", LIMITS, Duration::ZERO).is_empty());
    let names = recorded(LIMITS, LONG, |recorder| {
        call(recorder, "m", "a");
        assert!(recorder.record("m", LIMITS, Duration::ZERO).is_empty(), "the later one has seen nothing");
    });
    assert_eq!(names, ["a"]);
}

#[test]
fn a_kind_is_the_log_of_its_name() {
    let strings: Strings = [&b"example"[..]].into_iter().collect();
    let request = examples_request("m", "s", &strings);
    let log = |kind| PredictionLog::decode(prediction_log(kind, &request)).unwrap().log_type;
    assert!(matches!(log(RecordKind::Classify), Some(LogType::ClassifyLog(_))));
    let multi = PredictionLog::decode(prediction_log(RecordKind::MultiInference, &[])).unwrap().log_type;
    assert!(matches!(multi, Some(LogType::MultiInferenceLog(_))));
    let Some(LogType::RegressLog(log)) = log(RecordKind::Regress) else { panic!("no regress log") };
    let input = log.request.unwrap().input.unwrap().kind.unwrap();
    assert!(matches!(input, input::Kind::ExampleList(list) if list.examples == ["example"]));
}
