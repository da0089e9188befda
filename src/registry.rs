//! Maps name and version or label to a servable, and holds the state of every version.
//!
//! Readers ([`Registry::resolve`]) take no lock: they load the current table and clone one handle, which pins only that
//! version. Writers (loading and unloading threads) build a new table and swap it in.

mod split;

use crate::error::{Error, Kind, Result};
use crate::servable::Servable;
use crate::traffic_split::Split;
use arc_swap::ArcSwap;
use split::Splits;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The states of a version, with TensorFlow Serving's numbers (`ModelVersionStatus.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum State {
    /// Known, waiting to be loaded.
    Start = 10,
    /// Being loaded and warmed, retries included.
    Loading = 20,
    /// Serving.
    Available = 30,
    /// Takes no new requests; those in flight finish.
    Unloading = 40,
    /// Unloaded, or failed with an error.
    End = 50,
}

impl State {
    /// All states, in the order of a version's life.
    pub const ALL: [State; 5] =
        [State::Start, State::Loading, State::Available, State::Unloading, State::End];

    /// Returns the name in replies, such as `AVAILABLE`.
    pub fn name(self) -> &'static str {
        match self {
            State::Start => "START",
            State::Loading => "LOADING",
            State::Available => "AVAILABLE",
            State::Unloading => "UNLOADING",
            State::End => "END",
        }
    }
}

/// The status of one version.
#[derive(Clone, Debug)]
pub struct VersionStatus {
    /// The version number.
    pub version: i64,
    /// The current state.
    pub state: State,
    /// The error, if the version failed.
    pub error: Option<Error>,
}

/// A request's choice among the versions of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// The highest available version.
    Latest,
    /// This version.
    Version(i64),
    /// The version bound to this label.
    Label(String),
}

#[derive(Clone, Default)]
struct Model {
    versions: BTreeMap<i64, VersionStatus>,
    available: BTreeMap<i64, Arc<Servable>>,
    labels: HashMap<String, i64>,
    /// How its traffic is spread, if it is.
    split: Option<Arc<Split>>,
}

/// Ordered, not hashed: with few models, comparing names takes a third of the time of hashing one.
type Table = BTreeMap<String, Arc<Model>>;

/// All models of the process.
#[derive(Default)]
pub struct Registry {
    table: ArcSwap<Table>,
    writer: Mutex<()>,
    /// Tells whoever waits for it of every change.
    changes: watch::Sender<()>,
    splits: Splits,
}

impl Registry {
    /// Returns the servable for a request. Lock-free; the handle keeps its version loaded until dropped.
    pub fn resolve(&self, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
        let table = self.table.load();
        found(table.get(name).map(|model| &**model), name, choice)
    }

    /// Returns the status of every known version of `name`, newest first, or of `version` alone.
    pub fn status(&self, name: &str, version: Option<i64>) -> Result<Vec<VersionStatus>> {
        let table = self.table.load();
        let all = table.get(name).map(|model| &model.versions);
        match (all, version) {
            (Some(all), None) if !all.is_empty() => Ok(all.values().rev().cloned().collect()),
            (_, None) => Err(Error::not_found(format!("Could not find any versions of model {name}"))),
            (all, Some(version)) => all
                .and_then(|all| all.get(&version))
                .map(|status| vec![status.clone()])
                .ok_or_else(|| Error::not_found(format!("Could not find version {version} of model {name}"))),
        }
    }

    /// Returns whether any version is available.
    pub fn serves(&self) -> bool {
        self.table.load().values().any(|model| !model.available.is_empty())
    }

    /// Returns whether a version is available, or none is wanted: every known one has been unloaded.
    pub fn serves_what_it_should(&self) -> bool {
        let wanted = |status: &VersionStatus| status.state != State::End || status.error.is_some();
        let table = self.table.load();
        self.serves() || !table.values().any(|model| model.versions.values().any(wanted))
    }

    /// Returns the model in `name`, which is one or `MODEL/VERSION`.
    pub fn model_in<'a>(&self, name: &'a str) -> &'a str {
        match name.rsplit_once('/') {
            Some((model, _)) if self.is_available(name, None).is_none() => model,
            _ => name,
        }
    }

    /// Returns whether any version of `name`, or `version` alone, is available; `None` if it is not known.
    pub fn is_available(&self, name: &str, version: Option<i64>) -> Option<bool> {
        let table = self.table.load();
        let model = table.get(name)?;
        match version {
            None => (!model.versions.is_empty()).then_some(!model.available.is_empty()),
            Some(version) => {
                model.versions.contains_key(&version).then(|| model.available.contains_key(&version))
            }
        }
    }

    /// Returns what changes with every change of a state, a version or a label.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Returns every known version of every model, sorted by name, oldest version first.
    pub fn states(&self) -> Vec<(String, VersionStatus)> {
        let table = self.table.load();
        let mut all: Vec<_> = table
            .iter()
            .flat_map(|(name, model)| model.versions.values().map(|status| (name.clone(), status.clone())))
            .collect();
        all.sort_by(|a, b| (&a.0, a.1.version).cmp(&(&b.0, b.1.version)));
        all
    }

    /// Records the state of `version` of `name`, without making it available or unavailable.
    pub fn set_state(&self, name: &str, version: i64, state: State, error: Option<Error>) {
        self.change(name, |model| {
            model.versions.insert(version, VersionStatus { version, state, error });
        });
    }

    /// Makes a loaded version available to requests.
    pub fn publish(&self, servable: Arc<Servable>) {
        let (name, version) = (servable.name().to_owned(), servable.version());
        self.change(&name, |model| {
            model.available.insert(version, servable.clone());
            model.versions.insert(version, VersionStatus { version, state: State::Available, error: None });
        });
    }

    /// Hides an available version from new requests (state UNLOADING) and returns it to be drained.
    pub fn retire(&self, name: &str, version: i64) -> Result<Arc<Servable>> {
        let mut taken = None;
        self.change(name, |model| {
            taken = model.available.remove(&version);
            if taken.is_some() {
                let status = VersionStatus { version, state: State::Unloading, error: None };
                model.versions.insert(version, status);
            }
        });
        taken.ok_or_else(|| {
            Error::new(Kind::FailedPrecondition, format!("Version {version} of model {name} is not loaded"))
        })
    }

    /// Replaces the labels of `name`.
    pub fn set_labels(&self, name: &str, labels: HashMap<String, i64>) {
        self.change(name, |model| model.labels.clone_from(&labels));
    }

    /// Returns the labels of `name`.
    pub fn labels(&self, name: &str) -> HashMap<String, i64> {
        self.table.load().get(name).map(|model| model.labels.clone()).unwrap_or_default()
    }

    fn change(&self, name: &str, edit: impl FnOnce(&mut Model)) {
        let _one_writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let mut model = table.get(name).map(|model| Model::clone(model)).unwrap_or_default();
        edit(&mut model);
        table.insert(name.to_owned(), Arc::new(model));
        self.table.store(Arc::new(table));
        self.changes.send_replace(());
    }
}

/// Returns the version of `model`, called `name`, that a request chooses.
fn found(model: Option<&Model>, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
    let found = |version: i64| {
        model.and_then(|model| model.available.get(&version)).cloned().ok_or_else(|| {
            Error::not_found(format!("Servable not found for request: Specific({name}, {version})"))
        })
    };
    match choice {
        VersionChoice::Latest => model
            .and_then(Model::default_version)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("Servable not found for request: Latest({name})"))),
        VersionChoice::Version(version) => found(*version),
        VersionChoice::Label(label) => match model.and_then(|model| model.labels.get(label)) {
            Some(version) => found(*version),
            None => Err(Error::invalid(format!("Unrecognized servable version label: {label}"))),
        },
    }
}
