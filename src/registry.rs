//! Maps name and version or label to a servable, and holds the state of every version.
//!
//! Readers ([`Registry::resolve`]) take no lock: they load the current table and clone one handle, which pins only that
//! version. Writers (loading and unloading threads) build a new table and swap it in.
//!
//! A version that is loaded on demand is *dormant* while it is not available: requests for it have to wait for its load,
//! which [`crate::methods::demand`] asks for. For clients it counts as available, as their requests are answered.

mod split;
mod table;

use crate::error::{Error, Kind, Result};
use crate::servable::Servable;
use crate::traffic_split::Split;
use arc_swap::ArcSwap;
use split::Splits;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use table::Table;
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
    /// True if a request for it has it loaded.
    pub on_demand: bool,
}

impl VersionStatus {
    /// Returns whether a request has to wait for its load.
    pub fn is_dormant(&self) -> bool {
        self.on_demand && self.state != State::Available
    }

    /// Returns whether a request for it is answered, if its load succeeds.
    fn answers(&self) -> bool {
        self.state == State::Available || (self.is_dormant() && self.error.is_none())
    }
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
    /// The highest version that is dormant.
    dormant: Option<i64>,
}

impl Model {
    /// Returns the highest available version, unless a higher one is loaded on demand.
    fn latest(&self) -> Option<&Arc<Servable>> {
        let (version, servable) = self.available.last_key_value()?;
        self.dormant.is_none_or(|dormant| dormant < *version).then_some(servable)
    }

    /// Records the state of a version, which stays one that is loaded on demand, or that is not.
    fn record(&mut self, version: i64, state: State, error: Option<Error>) {
        let on_demand = self.versions.get(&version).is_some_and(|status| status.on_demand);
        self.versions.insert(version, VersionStatus { version, state, error, on_demand });
    }
}

/// All models of the process.
#[derive(Default)]
pub struct Registry {
    /// Ordered, not hashed: with few models, comparing names takes a third of the time of hashing one.
    table: ArcSwap<Table<Model>>,
    writer: Mutex<()>,
    /// Tells whoever waits for it of every change.
    changes: watch::Sender<()>,
    splits: Splits,
    /// The names of the models that should be served, whether or not anything is known of them.
    configured: ArcSwap<HashSet<String>>,
}

impl Registry {
    /// Returns the servable for a request. Lock-free; the handle keeps its version loaded until dropped.
    pub fn resolve(&self, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
        let table = self.table.load();
        found(table.get(name).map(|model| &**model), name, choice)
    }

    /// Returns the version for whose load a request for `choice` has to wait; `None` if there is no such load.
    pub fn dormant(&self, name: &str, choice: &VersionChoice) -> Option<i64> {
        let table = self.table.load();
        let model = table.get(name)?;
        let version = match choice {
            VersionChoice::Latest => return model.dormant,
            VersionChoice::Version(version) => *version,
            VersionChoice::Label(label) => *model.labels.get(label)?,
        };
        model.versions.get(&version).filter(|status| status.is_dormant()).map(|status| status.version)
    }

    /// Returns the status of every known version of `name`, newest first, or of `version` alone, as clients see it: a
    /// dormant version is available, unless its load failed.
    pub fn status(&self, name: &str, version: Option<i64>) -> Result<Vec<VersionStatus>> {
        fn told(status: &VersionStatus) -> VersionStatus {
            let state = if status.answers() { State::Available } else { status.state };
            VersionStatus { state, ..status.clone() }
        }
        let table = self.table.load();
        let all = table.get(name).map(|model| &model.versions);
        match (all, version) {
            (Some(all), None) if !all.is_empty() => Ok(all.values().rev().map(told).collect()),
            (_, None) => Err(Error::not_found(format!("Could not find any versions of model {name}"))),
            (all, Some(version)) => all
                .and_then(|all| all.get(&version))
                .map(|status| vec![told(status)])
                .ok_or_else(|| Error::not_found(format!("Could not find version {version} of model {name}"))),
        }
    }

    /// Returns whether any version is available.
    pub fn serves(&self) -> bool {
        self.table.load().values().any(|model| !model.available.is_empty())
    }

    /// Returns whether a version can be asked, or none is wanted: no model is configured, and every known version has been
    /// unloaded.
    pub fn serves_what_it_should(&self) -> bool {
        let wanted = |status: &VersionStatus| status.state != State::End || status.error.is_some();
        let table = self.table.load();
        let any =
            |is: fn(&VersionStatus) -> bool| table.values().any(|model| model.versions.values().any(is));
        any(VersionStatus::answers) || (self.configured.load().is_empty() && !any(wanted))
    }

    /// Returns the model in `name`, which is one or `MODEL/VERSION`.
    pub fn model_in<'a>(&self, name: &'a str) -> &'a str {
        match name.rsplit_once('/') {
            Some((model, _)) if self.is_available(name, None).is_none() => model,
            _ => name,
        }
    }

    /// Returns whether any version of `name`, or `version` alone, can be asked; `None` if it is not known.
    pub fn is_available(&self, name: &str, version: Option<i64>) -> Option<bool> {
        let table = self.table.load();
        let model = table.get(name)?;
        match version {
            None => (!model.versions.is_empty())
                .then(|| !model.available.is_empty() || model.versions.values().any(VersionStatus::answers)),
            Some(version) => model.versions.get(&version).map(VersionStatus::answers),
        }
    }

    /// Returns what changes with every change of a state, a version or a label.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Returns every known version of every model, sorted by name, oldest version first.
    pub fn states(&self) -> Vec<(String, VersionStatus)> {
        let table = self.table.load();
        table
            .iter()
            .flat_map(|(name, model)| {
                model.versions.values().map(|status| (name.to_string(), status.clone()))
            })
            .collect()
    }

    /// Returns every available version of every model.
    pub fn available(&self) -> Vec<Arc<Servable>> {
        self.table.load().values().flat_map(|model| model.available.values().cloned()).collect()
    }

    /// Records the state of `version` of `name`, without making it available or unavailable.
    pub fn set_state(&self, name: &str, version: i64, state: State, error: Option<Error>) {
        self.change(name, |model| model.record(version, state, error));
    }

    /// Says whether a request has a known version loaded.
    pub fn set_on_demand(&self, name: &str, version: i64, on_demand: bool) {
        self.change(name, |model| {
            if let Some(status) = model.versions.get_mut(&version) {
                status.on_demand = on_demand;
            }
        });
    }

    /// Makes a loaded version available to requests.
    pub fn publish(&self, servable: Arc<Servable>) {
        let (name, version) = (servable.name().to_owned(), servable.version());
        self.change(&name, |model| {
            model.available.insert(version, servable.clone());
            model.record(version, State::Available, None);
        });
    }

    /// Hides an available version from new requests (state UNLOADING) and returns it to be drained.
    pub fn retire(&self, name: &str, version: i64) -> Result<Arc<Servable>> {
        let mut taken = None;
        self.change(name, |model| {
            taken = model.available.remove(&version);
            if taken.is_some() {
                let state = State::Unloading;
                model
                    .versions
                    .insert(version, VersionStatus { version, state, error: None, on_demand: false });
            }
        });
        taken.ok_or_else(|| {
            Error::new(Kind::FailedPrecondition, format!("Version {version} of model {name} is not loaded"))
        })
    }

    /// Hides an available version that no request holds (state UNLOADING): from now on it is loaded on demand. Returns
    /// whether it is hidden.
    pub fn rest(&self, name: &str, version: i64) -> bool {
        /// The present table and the one that is being made have a handle each. A reader of a former one has another,
        /// and counts as a request.
        const OWN: usize = 2;
        let mut rests = false;
        self.change(name, |model| {
            rests = model.available.get(&version).is_some_and(|servable| Arc::strong_count(servable) <= OWN);
            if rests {
                model.available.remove(&version);
                let state = State::Unloading;
                model
                    .versions
                    .insert(version, VersionStatus { version, state, error: None, on_demand: true });
            }
        });
        rests
    }

    /// Replaces the names of the models that should be served.
    pub fn set_configured(&self, names: HashSet<String>) {
        self.configured.store(Arc::new(names));
        self.changes.send_replace(());
    }

    /// Returns whether the model `name` should be served.
    pub fn is_configured(&self, name: &str) -> bool {
        self.configured.load().contains(name)
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
        let table = self.table.load_full();
        let mut model = table.get(name).map(|model| Model::clone(model)).unwrap_or_default();
        edit(&mut model);
        let dormant = model.versions.values().rev().find(|status| status.is_dormant());
        model.dormant = dormant.map(|status| status.version);
        let model = Arc::new(model);
        self.table.store(Arc::new(table.with(name, model.clone())));
        if let Some(split) = &model.split {
            split.follow(&*model);
        }
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

#[cfg(test)]
mod tests;
