//! The pages of metrics: all of the list that belongs to them, with what is known now.

use super::Metrics;
use super::content::{Content, ModelContent, Surroundings};
use super::list::{LIST, Listed};
use super::text::{Format, Samples};

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
    pub fn page(&self, surroundings: &Surroundings, format: Format) -> String {
        let mut models = vec![ModelContent::summed("", Default::default())];
        self.each_model(|name, model| {
            if model.is_served() && !name.is_empty() {
                models.push(ModelContent::of(name, model));
            } else {
                models[0].add_unknown(model);
            }
        });
        let mut text = written(LIST.iter(), &self.content(models, surroundings), format);
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
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
            surroundings,
        }
    }
}

fn written<'a>(families: impl Iterator<Item = &'a Listed>, content: &Content<'_>, format: Format) -> String {
    let mut text = String::new();
    for (family, rows) in families {
        rows(&mut Samples::begin(&mut text, family, format), content);
    }
    text
}
