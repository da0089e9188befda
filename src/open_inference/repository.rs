//! The repository of models: what is there, loading and unloading.

use crate::error::Result;
use crate::methods::changes::Asker;
use crate::registry::{Registry, State, VersionStatus};
use std::sync::Arc;

/// A change of what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Serve a model again that was unloaded; load one that is served again from its files.
    Load,
    /// Serve a model no more.
    Unload,
}

impl Change {
    /// Returns the word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Change::Load => "load",
            Change::Unload => "unload",
        }
    }
}

/// Carries out a change of the model named, and returns when it is in force, or when the asker has left. Called from threads
/// that may block, possibly several at once.
pub type ModelControl = Arc<dyn Fn(Change, &str, &Asker) -> Result<()> + Send + Sync>;

/// A version in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The model.
    pub name: String,
    /// The version number.
    pub version: i64,
    /// `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is not ready; empty if it is.
    pub reason: String,
}

/// Returns every known version of every model, sorted by name, oldest version first; those that are ready alone if only
/// these are asked for.
pub fn index(registry: &Registry, ready_only: bool) -> Vec<Indexed> {
    let all = registry.states().into_iter().map(|(name, status)| indexed(name, &status));
    all.filter(|indexed| !ready_only || indexed.state == "READY").collect()
}

fn indexed(name: String, status: &VersionStatus) -> Indexed {
    let (state, reason) = match (status.state, &status.error) {
        // Its first request loads it.
        (_, None) if status.is_dormant() => ("READY", String::new()),
        (State::Available, _) => ("READY", String::new()),
        (State::Start | State::Loading, _) => ("LOADING", String::new()),
        (State::Unloading, _) => ("UNLOADING", String::new()),
        (State::End, Some(error)) => ("UNAVAILABLE", error.message.clone().into_owned()),
        (State::End, None) => ("UNAVAILABLE", "unloaded".to_owned()),
    };
    Indexed { name, version: status.version, state, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn states_have_triton_s_names() {
        let registry = Registry::default();
        registry.set_state("b", 1, State::End, None);
        registry.set_state("a", 2, State::End, Some(Error::internal("broken")));
        registry.set_state("a", 1, State::Loading, None);
        let all = index(&registry, false);
        let told: Vec<_> = all.iter().map(|one| (&*one.name, one.version, one.state, &*one.reason)).collect();
        assert_eq!(
            told,
            [("a", 1, "LOADING", ""), ("a", 2, "UNAVAILABLE", "broken"), ("b", 1, "UNAVAILABLE", "unloaded")]
        );
        assert!(index(&registry, true).is_empty());
        registry.set_on_demand("a", 1, true);
        assert_eq!(index(&registry, true).len(), 1, "what is loaded on demand can be asked");
    }
}
