//! The pages of metrics: all of the list that belongs to them, with what is known now.

use super::Metrics;
use super::content::{Content, ModelContent, Surroundings};
use super::family::Family;
use super::list::{LIST, Listed};
use super::points::{Point, Points};
use super::protobuf::Protobuf;
use super::samples::Samples;
use super::text::{Format, Text};

impl Metrics {
    /// Returns TensorFlow Serving's page: its metrics, and the names of all models that were asked for. Slow: some
    /// milliseconds for a thousand models.
    pub fn tensorflow_page(&self) -> String {
        let (mut models, surroundings) = (Vec::new(), Surroundings::default());
        self.each_model(|name, model| models.push(ModelContent::summed(name, model.total())));
        let content = self.content(models, &surroundings);
        written(LIST.iter().filter(|(family, _)| !family.is_own()), &content, Format::TensorFlow)
    }

    /// Returns the page of all metrics. Names of models that are not served here are not told.
    pub fn page(&self, surroundings: &Surroundings, format: Format) -> Vec<u8> {
        let content = self.all(surroundings);
        match format {
            Format::Protobuf => binary(&content),
            Format::OpenMetrics => (written(LIST.iter(), &content, format) + "# EOF\n").into_bytes(),
            Format::Prometheus | Format::TensorFlow => written(LIST.iter(), &content, format).into_bytes(),
        }
    }

    /// Returns what that page tells as values, but for TensorFlow Serving's metrics, which tell the same.
    pub fn points(&self, surroundings: &Surroundings) -> Vec<(&'static Family, Vec<Point>)> {
        let content = self.all(surroundings);
        let own = LIST.iter().filter(|(family, _)| family.is_own());
        let points = own.map(|(family, rows)| {
            let mut points = Points::default();
            rows(&mut Samples { family, sink: &mut points }, &content);
            (family, points.0)
        });
        points.collect()
    }

    /// Reads everything. Names of models that are not served here are left out.
    fn all<'a>(&'a self, surroundings: &'a Surroundings) -> Content<'a> {
        let mut models = vec![ModelContent::summed("", Default::default())];
        self.each_model(|name, model| {
            if model.is_served() && !name.is_empty() {
                models.push(ModelContent::of(name, model));
            } else {
                models[0].add_unknown(model);
            }
        });
        self.content(models, surroundings)
    }

    fn content<'a>(&'a self, models: Vec<ModelContent>, surroundings: &'a Surroundings) -> Content<'a> {
        Content {
            models,
            loads: self.loads(),
            batches: self.batches.counts(),
            memory: &self.memory,
            refusals: &self.refusals,
            handshakes: &self.handshakes,
            denials: self.denials.as_deref(),
            edge: &self.edge,
            exports: &self.exports,
            splits: &self.splits,
            surroundings,
        }
    }
}

fn written<'a>(families: impl Iterator<Item = &'a Listed>, content: &Content<'_>, format: Format) -> String {
    let mut text = Text::new(format);
    for (family, rows) in families {
        text.begin(family);
        rows(&mut Samples { family, sink: &mut text }, content);
    }
    text.text
}

fn binary(content: &Content<'_>) -> Vec<u8> {
    let mut protobuf = Protobuf::default();
    for (family, rows) in LIST {
        protobuf.begin(family);
        rows(&mut Samples { family, sink: &mut protobuf }, content);
    }
    protobuf.finish()
}
