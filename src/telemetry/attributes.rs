//! Attributes, and what every message begins with.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Collects attributes; those that are not known are left out.
#[derive(Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        self.add(key, value.map(|value| Value::StringValue(value.to_owned())));
    }

    pub(super) fn number(&mut self, key: &str, value: Option<i64>) {
        self.add(key, value.map(Value::IntValue));
    }

    fn add(&mut self, key: &str, value: Option<Value>) {
        if let Some(value) = value {
            let value = Some(AnyValue { value: Some(value) });
            self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
    }
}

/// Returns a number as protobuf has it: the largest for one above all.
pub(super) fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Returns what the server says of itself.
pub(super) fn resource(pairs: &[(String, String)]) -> Resource {
    let mut attributes = Attributes::default();
    pairs.iter().for_each(|(key, value)| attributes.text(key, Some(value)));
    Resource { attributes: attributes.0, ..Resource::default() }
}

/// Returns who has made what follows.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "servable".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
