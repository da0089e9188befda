//! A record of the payload log as a line of JSON: the request as it could be sent over REST, in columns, and the answer.

use super::Format;
use super::encode::{self, Style};
use crate::config::NonUtf8;
use crate::error::{Error, Result};
use crate::log_format::{LogFormat, json_member, json_string, time};
use crate::parallel::Alone;
use crate::pb::tensor;
use crate::pb::tensorflow::serving::prediction_log::LogType;
use crate::pb::tensorflow::serving::{
    self as wire, ClassificationResult, Input, LogMetadata, ModelSpec, PredictionLog, RegressionResult,
    inference_result, input, model_spec::VersionChoice,
};
use crate::tensor::Tensor;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Returns a serialized `PredictionLog` as a line, without its end. Numbers that JSON has no form for are missing, and
/// `error` tells why.
pub fn line(record: &Bytes) -> Vec<u8> {
    let log = match PredictionLog::decode(record.clone()) {
        Ok(log) => log,
        Err(why) => return failure(&why.to_string()).into_bytes(),
    };
    let mut out = String::with_capacity(256);
    write_metadata(&mut out, &log.log_metadata.unwrap_or_default());
    match log.log_type {
        Some(LogType::PredictLog(log)) => write_predict(&mut out, log),
        Some(LogType::ClassifyLog(log)) => {
            let result = log.response.unwrap_or_default().result.unwrap_or_default();
            write_examples(&mut out, "classify", log.request.unwrap_or_default().input);
            write_response(&mut out, &classes(&result));
        }
        Some(LogType::RegressLog(log)) => {
            let result = log.response.unwrap_or_default().result.unwrap_or_default();
            write_examples(&mut out, "regress", log.request.unwrap_or_default().input);
            write_response(&mut out, &values(&result));
        }
        Some(LogType::MultiInferenceLog(log)) => {
            write_examples(&mut out, "multi_inference", log.request.unwrap_or_default().input);
            write_response(&mut out, &tasks(&log.response.unwrap_or_default()));
        }
        Some(LogType::SessionRunLog(_) | LogType::PredictStreamedLog(_)) | None => {}
    }
    out.push('}');
    out.into_bytes()
}

fn failure(why: &str) -> String {
    let mut out = "{\"error\":".to_owned();
    json_string(&mut out, why);
    out.push('}');
    out
}

fn write_metadata(out: &mut String, metadata: &LogMetadata) {
    let since = Duration::from_secs(metadata.timestamp_secs.try_into().unwrap_or(0));
    out.push_str("{\"time\":");
    json_string(out, &time(LogFormat::Json, (SystemTime::UNIX_EPOCH + since).into()));
    let spec = metadata.model_spec.clone().unwrap_or_default();
    json_member(out, "model", &spec.name);
    out.push_str(&format!(",\"version\":{}", version(&spec)));
    json_member(out, "signature", &spec.signature_name);
}

fn version(spec: &ModelSpec) -> i64 {
    match spec.version_choice {
        Some(VersionChoice::Version(version)) => version,
        Some(VersionChoice::VersionLabel(_)) | None => 0,
    }
}

fn write_predict(out: &mut String, log: wire::PredictLog) {
    json_member(out, "method", "predict");
    let request = columns(log.request.unwrap_or_default().inputs);
    out.push_str(",\"request\":");
    // The names of the members differ, and nothing else.
    out.push_str(&request.replacen("{\"outputs\"", "{\"inputs\"", 1));
    out.push_str(",\"response\":");
    out.push_str(&columns(log.response.unwrap_or_default().outputs));
}

fn write_examples(out: &mut String, method: &str, input: Option<Input>) {
    json_member(out, "method", method);
    let base64 = |bytes: &Bytes| format!("{{\"b64\":\"{}\"}}", STANDARD.encode(bytes));
    let list = |examples: &[Bytes]| examples.iter().map(base64).collect::<Vec<_>>().join(",");
    let request = match input.and_then(|input| input.kind) {
        None => "{}".to_owned(),
        Some(input::Kind::ExampleList(examples)) => {
            format!("{{\"examples\":[{}]}}", list(&examples.examples))
        }
        Some(input::Kind::ExampleListWithContext(examples)) => {
            let context = base64(&examples.context);
            format!("{{\"context\":{context},\"examples\":[{}]}}", list(&examples.examples))
        }
    };
    out.push_str(",\"request\":");
    out.push_str(&request);
}

fn write_response(out: &mut String, results: &str) {
    out.push_str(",\"response\":{\"results\":");
    out.push_str(results);
    out.push('}');
}

fn classes(result: &ClassificationResult) -> String {
    let class = |class: &wire::Class| {
        let mut out = "[".to_owned();
        json_string(&mut out, &class.label);
        format!("{out},{}]", number(class.score))
    };
    let row = |row: &wire::Classifications| {
        format!("[{}]", row.classes.iter().map(class).collect::<Vec<_>>().join(","))
    };
    format!("[{}]", result.classifications.iter().map(row).collect::<Vec<_>>().join(","))
}

fn values(result: &RegressionResult) -> String {
    let values = result.regressions.iter().map(|regression| number(regression.value));
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

fn tasks(response: &wire::MultiInferenceResponse) -> String {
    let task = |task: &wire::InferenceResult| {
        let mut out = "{\"signature\":".to_owned();
        json_string(&mut out, task.model_spec.as_ref().map_or("", |spec| &spec.signature_name));
        let results = match &task.result {
            Some(inference_result::Result::ClassificationResult(result)) => classes(result),
            Some(inference_result::Result::RegressionResult(result)) => values(result),
            None => "[]".to_owned(),
        };
        format!("{out},\"results\":{results}}}")
    };
    format!("[{}]", response.results.iter().map(task).collect::<Vec<_>>().join(","))
}

/// Returns a number as REST replies have it: NaN and infinity as they are, which most readers of JSON take.
fn number(value: f32) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// Returns the text of named tensors, without line breaks.
fn columns(tensors: BTreeMap<String, Bytes>) -> String {
    if tensors.is_empty() {
        return "{}".to_owned();
    }
    printed(&tensors).unwrap_or_else(|why| failure(&why.message))
}

/// Most bytes to which a tensor may be drawn out: a short list that stands for a large tensor is logged as a long one.
const MOST_DRAWN_OUT: usize = 16 << 20;

fn printed(tensors: &BTreeMap<String, Bytes>) -> Result<String> {
    let malformed = |_| Error::invalid("a tensor cannot be read");
    let read = |(alias, proto): (&String, &Bytes)| {
        let opened = tensor::open(proto).map_err(malformed)?;
        if opened.drawn_out() > MOST_DRAWN_OUT {
            return Err(Error::invalid(format!("the short list of {alias} stands for too many values")));
        }
        Ok((alias.clone(), opened.read().map_err(malformed)?))
    };
    let read: Vec<(String, Tensor)> = tensors.iter().map(read).collect::<Result<_>>()?;
    let outputs: Vec<(&str, &Tensor)> = read.iter().map(|(alias, tensor)| (&alias[..], tensor)).collect();
    let style = Style { non_utf8: NonUtf8::Base64, compact: true };
    let text = encode::predict(Format::Columnar, &outputs, style, &Alone)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::tensor::Encoded;
    use crate::pb::tensorflow::serving::{PredictLog, PredictRequest, PredictResponse};
    use crate::pb::wire::Pieces;
    use crate::tensor::{DType, Strings};

    fn proto(tensor: &Tensor) -> Bytes {
        let mut out = Pieces::default();
        Encoded::new(tensor, true).write(&mut out);
        out.finish().into_iter().flatten().collect()
    }

    fn metadata() -> Option<LogMetadata> {
        let version_choice = Some(VersionChoice::Version(7));
        let spec = ModelSpec { name: "m \"\n".to_owned(), version_choice, signature_name: "s".to_owned() };
        Some(LogMetadata { model_spec: Some(spec), timestamp_secs: 1_700_000_000, ..LogMetadata::default() })
    }

    fn read(log: LogType) -> serde_json::Value {
        let log = PredictionLog { log_metadata: metadata(), log_type: Some(log) };
        let line = String::from_utf8(line(&log.encode_to_vec().into())).unwrap();
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_predict_is_what_could_be_sent_and_what_came_back() {
        let floats = [1.0_f32, 2.5].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let floats = Tensor::numbers(DType::Float, vec![2, 1], floats.into());
        let texts: Strings = [&b"two\nlines"[..], b"\xff"].into_iter().collect();
        let texts = Tensor::strings(vec![2], texts);
        let inputs = [("outputs".to_owned(), proto(&floats)), ("text".to_owned(), proto(&texts))].into();
        let request = PredictRequest { inputs, ..PredictRequest::default() };
        let outputs = [("y".to_owned(), proto(&floats))].into();
        let response = PredictResponse { outputs, model_spec: None };
        let read = read(LogType::PredictLog(PredictLog { request: Some(request), response: Some(response) }));
        assert_eq!((read["model"].as_str(), read["version"].as_i64()), (Some("m \"\n"), Some(7)));
        assert_eq!((read["signature"].as_str(), read["method"].as_str()), (Some("s"), Some("predict")));
        assert_eq!(read["request"]["inputs"]["outputs"], serde_json::json!([[1.0], [2.5]]));
        assert_eq!(read["request"]["inputs"]["text"], serde_json::json!(["two\nlines", {"b64": "/w=="}]));
        assert_eq!(read["response"], serde_json::json!({"outputs": [[1.0], [2.5]]}));
    }

    #[test]
    fn examples_are_base64_and_results_as_in_replies() {
        let list = wire::ExampleList { examples: vec![Bytes::from_static(b"ab")] };
        let input = Some(Input { kind: Some(input::Kind::ExampleList(list)) });
        let class = wire::Class { label: "a\"".to_owned(), score: 0.5 };
        let result =
            ClassificationResult { classifications: vec![wire::Classifications { classes: vec![class] }] };
        let request = wire::ClassificationRequest { model_spec: None, input: input.clone() };
        let response = wire::ClassificationResponse { result: Some(result), model_spec: None };
        let log = wire::ClassifyLog { request: Some(request), response: Some(response) };
        let read_back = read(LogType::ClassifyLog(log));
        assert_eq!(read_back["request"], serde_json::json!({"examples": [{"b64": "YWI="}]}));
        assert_eq!(read_back["response"], serde_json::json!({"results": [[["a\"", 0.5]]]}));

        let result = RegressionResult { regressions: vec![wire::Regression { value: 2.0 }] };
        let request = wire::RegressionRequest { model_spec: None, input };
        let response = wire::RegressionResponse { result: Some(result), model_spec: None };
        let log = wire::RegressLog { request: Some(request), response: Some(response) };
        assert_eq!(read(LogType::RegressLog(log))["response"], serde_json::json!({"results": [2.0]}));
    }

    #[test]
    fn a_short_list_that_stands_for_very_many_values_is_not_drawn_out() {
        // Ten million floats, of which one is there.
        let proto = b"\x08\x01\x12\x07\x12\x05\x08\x80\xad\xe2\x04\x2a\x04\0\0\x80?";
        let inputs = [("x".to_owned(), Bytes::from_static(proto))].into();
        let request = PredictRequest { inputs, ..PredictRequest::default() };
        let read = read(LogType::PredictLog(PredictLog { request: Some(request), response: None }));
        assert_eq!(read["request"]["error"], "the short list of x stands for too many values");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let read: serde_json::Value = serde_json::from_slice(&line(&Bytes::from_static(b"\xff"))).unwrap();
        assert!(read["error"].is_string());
        assert_eq!(
            (number(f32::NAN), number(f32::NEG_INFINITY), number(1.0)),
            ("NaN".to_owned(), "-Infinity".to_owned(), "1.0".to_owned())
        );
    }
}
