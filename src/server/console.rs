//! Where a server has its console: on the REST port, and at the administration's address.

use super::Server;
use crate::config::ConsoleAt;
use crate::console::files::Files;
use crate::console::{Console, with_traffic};
use crate::control_plane::Handler;
use crate::rest::RestService;
use std::sync::Arc;

/// Most questions of consoles on the REST port that are answered at once. Each takes some milliseconds.
const MOST_QUESTIONS: usize = 8;

impl Server {
    /// Brings the console along: the `files` of its page, and the `handler` of what it asks on the REST port. To be called
    /// before ports are opened, once.
    pub fn bring_console(&self, files: Files, handler: Handler) {
        let desk = self.control_plane.desk(MOST_QUESTIONS);
        let console = Console::new(files, self.telling_traffic(handler), desk);
        // A second one would be a fault of the caller's code; the first counts.
        let _first = self.console.set(Arc::new(console));
    }

    /// Returns `handler`, which also answers what is asked of the traffic if there is a console.
    pub fn telling_traffic(&self, handler: Handler) -> Handler {
        match &self.history {
            Some(history) => with_traffic(history.clone(), handler),
            None => handler,
        }
    }

    /// Returns the console for the REST port, if it is there.
    pub(super) fn console_on_rest(&self) -> Option<Arc<Console>> {
        self.console.get().filter(|_| self.state.options.console == ConsoleAt::Everywhere).cloned()
    }

    /// Returns the console for the administration's address, with the API by which it calls models, if it is there.
    pub fn console_of_administration(&self) -> Option<Arc<RestService>> {
        let console = self.console.get()?.clone();
        Some(Arc::new(RestService::new(self.state.clone(), None, None, None).with_console(console)))
    }
}
