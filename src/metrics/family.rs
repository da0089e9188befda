//! A metric: its name, its type and what it says.

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values between limits.
    Histogram,
    /// Is always 1, and tells by its labels.
    Info,
}

impl Type {
    /// Returns its name in Prometheus's formats.
    pub fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Info => "info",
        }
    }
}

/// A metric: samples with the same name and different labels.
pub struct Family {
    /// Its name; with slashes if it is TensorFlow Serving's, or was named like these.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

impl Family {
    /// Returns the name of its samples: of a histogram, without the endings.
    pub fn sample_name(&self) -> String {
        metric_name(self.name)
    }

    /// Returns false if it is on TensorFlow Serving's page, too.
    pub fn is_own(&self) -> bool {
        !self.name.starts_with('/')
    }
}

/// Returns a name in Prometheus's spelling.
pub(super) fn metric_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', ":")
}
