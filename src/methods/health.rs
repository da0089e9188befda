//! Health: whether the server, a model or a version can be asked. The same for REST, gRPC and the administration.

use super::ServerState;
use crate::auth::Need;
use crate::registry::Registry;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The health of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Requests to it are answered.
    Ready,
    /// They are not, or will not be for long.
    NotReady,
    /// There is no such model or version.
    Unknown,
}

impl Health {
    /// Returns the health of the whole server: nothing that should be served can be while no version of any model is
    /// available. `serving`: requests are answered, and the server does not drain.
    pub fn of_server(registry: &Registry, serving: bool) -> Health {
        Health::when(serving && registry.serves_what_it_should())
    }

    /// Returns the health of `name`, a model or `MODEL/VERSION`.
    pub fn of_model(registry: &Registry, serving: bool, name: &str) -> Health {
        let versioned = || {
            let (model, version) = name.rsplit_once('/')?;
            registry.is_available(model, Some(version.parse().ok()?))
        };
        match registry.is_available(name, None).or_else(versioned) {
            Some(available) => Health::when(serving && available),
            // Its folder has no version yet, or cannot be read.
            None if registry.is_configured(name) => Health::NotReady,
            None => Health::Unknown,
        }
    }

    fn when(ready: bool) -> Health {
        if ready { Health::Ready } else { Health::NotReady }
    }
}

/// What a page of health is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The process answers.
    Process,
    /// The server can be asked.
    Server,
    /// A model, or `MODEL/VERSION`, can be asked.
    Model(Cow<'a, str>),
}

impl Subject<'_> {
    /// Returns the subject of the page at `path`, which is still percent-encoded; `None` for other paths. `/livez` and
    /// `/healthz`: the process; `/readyz`: the server; `/readyz/MODEL`, `/readyz/MODEL/VERSION`: these.
    pub fn at(path: &str) -> Option<Subject<'_>> {
        match path {
            "/livez" | "/healthz" => Some(Subject::Process),
            "/readyz" => Some(Subject::Server),
            _ => {
                let name = path.strip_prefix("/readyz/").filter(|name| !name.is_empty())?;
                Some(Subject::Model(percent_decode_str(name).decode_utf8_lossy()))
            }
        }
    }
}

/// A page of health: an HTTP status and JSON.
pub type Page = (u16, &'static [u8]);

/// The health of a server by HTTP.
#[derive(Clone)]
pub struct HealthPages {
    server: Arc<ServerState>,
    /// True while requests to models are answered.
    ready: Arc<AtomicBool>,
}

impl HealthPages {
    /// Makes the pages of `server`; `ready`: true while requests to models are answered.
    pub fn new(server: Arc<ServerState>, ready: Arc<AtomicBool>) -> HealthPages {
        HealthPages { server, ready }
    }

    /// Returns the page at `path`.
    pub fn at(&self, path: &str) -> Option<Page> {
        Subject::at(path).map(|subject| self.of(&subject))
    }

    /// Returns what a request for the page about `subject` needs of its token. Probes of the whole server need none:
    /// orchestrators cannot send one.
    pub fn need<'a>(&self, subject: &'a Subject<'_>) -> Option<Need<'a>> {
        match subject {
            Subject::Process | Subject::Server => None,
            Subject::Model(name) => Some(Need::Read(self.server.registry.model_in(name))),
        }
    }

    /// Returns the page about `subject`.
    pub fn of(&self, subject: &Subject<'_>) -> Page {
        let (registry, serving) = (&self.server.registry, self.ready.load(Relaxed));
        let health = match subject {
            Subject::Process => return (200, b"{\n  \"live\": true\n}\n"),
            Subject::Server => Health::of_server(registry, serving),
            Subject::Model(name) => Health::of_model(registry, serving, name),
        };
        match health {
            Health::Ready => (200, b"{\n  \"ready\": true\n}\n"),
            Health::NotReady => (503, b"{\n  \"ready\": false\n}\n"),
            Health::Unknown => (404, b"{\n  \"ready\": false\n}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::error::Error;
    use crate::registry::State;

    #[test]
    fn a_server_is_ready_if_it_can_be_asked_something_or_should_serve_nothing() {
        let registry = Registry::default();
        let of = |serving| Health::of_server(&registry, serving);
        assert_eq!((of(true), of(false)), (Health::Ready, Health::NotReady));
        for (state, error, expected) in [
            (State::Start, None, Health::NotReady),
            (State::Loading, None, Health::NotReady),
            (State::End, Some(Error::internal("broken")), Health::NotReady),
            (State::End, None, Health::Ready),
        ] {
            registry.set_state("m", 1, state, error);
            assert_eq!(of(true), expected, "{state:?}");
        }
    }

    #[test]
    fn a_configured_model_without_versions_is_not_ready() {
        let registry = Registry::default();
        registry.set_configured(["m".to_owned()].into());
        let healths = || ["m", "m/1", "n"].map(|name| Health::of_model(&registry, true, name));
        assert_eq!(healths(), [Health::NotReady, Health::Unknown, Health::Unknown]);
        assert_eq!(Health::of_server(&registry, true), Health::NotReady);
        registry.set_state("m", 1, State::End, None);
        assert_eq!(healths(), [Health::NotReady, Health::NotReady, Health::Unknown]);
        assert_eq!(Health::of_server(&registry, true), Health::NotReady, "it has lost its versions");
        registry.set_configured([].into());
        assert_eq!(Health::of_server(&registry, true), Health::Ready, "nothing is to be served");
    }

    #[test]
    fn models_and_versions_are_looked_up_by_name() {
        let registry = Registry::default();
        registry.set_state("m", 1, State::Loading, None);
        for (name, expected) in [
            ("m", Health::NotReady),
            ("m/1", Health::NotReady),
            ("m/2", Health::Unknown),
            ("m/x", Health::Unknown),
            ("m/", Health::Unknown),
            ("n", Health::Unknown),
            ("n/1", Health::Unknown),
            ("", Health::Unknown),
        ] {
            assert_eq!(Health::of_model(&registry, true, name), expected, "{name}");
        }
        registry.set_labels("labelled", [("stable".to_owned(), 1)].into());
        assert_eq!(Health::of_model(&registry, true, "labelled"), Health::Unknown, "it has no version yet");
    }

    #[test]
    fn pages_are_found_by_their_paths() {
        let server = ServerState::for_tests(Options::closed());
        server.registry.set_state("a b", 1, State::Loading, None);
        let ready = Arc::new(AtomicBool::new(false));
        let pages = HealthPages::new(Arc::new(server), ready.clone());
        let status = |path| pages.at(path).map(|(status, _)| status);
        for (path, expected) in [
            ("/livez", Some(200)),
            ("/healthz", Some(200)),
            ("/readyz", Some(503)),
            ("/readyz/", None),
            ("/readyz/a%20b", Some(503)),
            ("/readyz/a%20b/1", Some(503)),
            ("/readyz/other", Some(404)),
            ("/livez/", None),
            ("/admin/livez", None),
            ("/", None),
        ] {
            assert_eq!(status(path), expected, "{path}");
        }
        ready.store(true, Relaxed);
        assert_eq!(status("/readyz"), Some(503), "what should be served is not");
        pages.server.registry.set_state("a b", 1, State::End, None);
        assert_eq!((status("/readyz"), status("/readyz/a%20b")), (Some(200), Some(503)));
    }
}
