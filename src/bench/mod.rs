//! The load generator of `servable bench`: any server of HTTP/1.1 or gRPC, closed loop or open, and what it costs itself.
//!
//! [`Plan`] is a load; [`Run`] does it, in threads of its own ([`worker`]): [`closed`] has callers that wait for their
//! answers, [`open`] sends requests at their times ([`arrivals`]). A request is made ready once ([`target`]), drawn from
//! a [`mix`], and sent over a connection of the [`pool`]: [`http1`], whose replies [`reply`] reads, or [`http2`]. What
//! became of it is counted in a [`tally`], its time in a [`histogram`]. [`ask`] is one request without a load.
//!
//! It knows nothing of the server in this very crate, and nothing of models: requests are bytes with a path.

mod arrivals;
mod ask;
mod closed;
mod context;
mod histogram;
mod http1;
mod http2;
mod mix;
mod open;
mod outcome;
mod patience;
mod plan;
mod pool;
mod reply;
mod run;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod worker;

pub use arrivals::Spacing;
pub use ask::ask;
pub use histogram::Histogram;
pub use mix::Group;
pub use outcome::{Failed, Failure};
pub use plan::{Load, Plan};
pub use run::{Outcome, Run};
pub use tally::{Seen, Tally};
pub use target::{Target, Wanted, Wire};
