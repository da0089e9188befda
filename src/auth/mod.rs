//! Tokens: who may ask for what, and how much. No HTTP, no gRPC: a protocol brings what its headers say.
//!
//! [`Auth::admit`] takes a request whose head has come: its token is looked up by its name and compared ([`token`]), its
//! limits are counted ([`limits`]). The [`Pass`] goes with the request's context; whoever knows what is asked for has it
//! checked ([`Auth::check`], [`need`]) before anything is done for it. The tokens are lines of a file ([`line`]), which is
//! followed while others change it.
//!
//! A request without a pass is refused wherever something is checked: nothing is open because it was forgotten.

mod file;
mod limits;
mod line;
mod need;
mod pattern;
mod token;

pub use line::{Entry, parse};
pub use need::{Need, Scope};

use crate::error::{Error, Kind, Result};
use crate::metrics::{Denial, Denials};
use arc_swap::ArcSwap;
use limits::{Slot, Usage};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use token::Shown;
use tokio::sync::watch;

/// Names of the headers, or of gRPC's metadata, that a token is shown in.
const AUTHORIZATION: &str = "authorization";
const API_KEY: &str = "x-api-key";

/// When a request may be sent again for which too many others are in flight.
const IN_FLIGHT_AGAIN: Duration = Duration::from_secs(1);

/// The tokens that are in force. Clones share them.
#[derive(Clone)]
pub struct Auth(Arc<Authority>);

struct Authority {
    tokens: ArcSwap<Tokens>,
    /// Told of each change of them.
    changes: watch::Sender<()>,
    denials: Arc<Denials>,
    since: Instant,
}

/// Tokens by their names.
struct Tokens(HashMap<Arc<str>, Arc<Holder>>);

/// Who holds a token.
struct Holder {
    entry: Entry,
    usage: Arc<Usage>,
}

/// What a request with a valid token carries. Its clones count as one request in flight, until the last is dropped.
#[derive(Clone)]
pub struct Pass {
    holder: Arc<Holder>,
    _slot: Option<Arc<Slot>>,
}

impl Pass {
    /// Returns the name of the token.
    pub fn name(&self) -> &Arc<str> {
        &self.holder.entry.name
    }

    /// Returns the pass of an administrator without a token of the file's, who was let in elsewhere.
    pub fn of_administrator() -> Pass {
        let entry = Entry::of_administrator("administrator".into());
        Pass { holder: Arc::new(Holder { entry, usage: Arc::default() }), _slot: None }
    }

    /// Returns the same for one who was let in by this pass, which goes on to count.
    pub fn raised(self) -> Pass {
        let entry = Entry::of_administrator(self.name().clone());
        Pass { holder: Arc::new(Holder { entry, usage: Arc::default() }), _slot: self._slot }
    }
}

impl Auth {
    /// Takes the tokens that `text`, the content of a file, lists.
    pub fn of_text(text: &str) -> Result<Auth> {
        parse(text).map(Auth::of).map_err(Error::invalid)
    }

    fn of(entries: Vec<Entry>) -> Auth {
        let tokens = ArcSwap::from_pointee(Tokens::new(entries, None));
        let (changes, denials) = (watch::Sender::new(()), Arc::default());
        Auth(Arc::new(Authority { tokens, changes, denials, since: Instant::now() }))
    }

    /// Returns the counts of refused requests.
    pub fn denials(&self) -> Arc<Denials> {
        self.0.denials.clone()
    }

    /// Returns whether a request, of which `header` returns the headers, shows a token, valid or not.
    pub fn is_shown<'h>(header: impl Fn(&'static str) -> Option<&'h [u8]>) -> bool {
        credential(header).is_some()
    }

    /// Admits a request, of which `header` returns the headers, if it shows a valid token whose limits are not reached.
    /// An unknown name and a wrong secret take the same time and get the same answer.
    pub fn admit<'h>(&self, header: impl Fn(&'static str) -> Option<&'h [u8]>) -> Result<Pass> {
        let Authority { tokens, since, .. } = &*self.0;
        let Some(shown) = credential(header) else { return Err(self.denied(Denial::Missing, missing())) };
        let shown = Shown::read(shown);
        let tokens = tokens.load();
        let named = shown.as_ref().and_then(|shown| tokens.0.get(shown.name));
        let expected = named.map_or(&token::NOBODY, |holder| &holder.entry.hashed);
        let holder = match shown {
            Some(shown) if expected.is_of(&shown) => named,
            _ => None,
        };
        let holder = holder.ok_or_else(|| self.denied(Denial::Invalid, invalid()))?;
        let limits = &holder.entry.limits;
        let slot = limits.in_flight.map(|most| Slot::take(&holder.usage, most).ok_or(most)).transpose();
        let slot = slot.map_err(|most| self.denied(Denial::InFlight, too_many(&holder.entry, most)))?;
        if let Some(rate) = &limits.rate {
            let now = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let taken = holder.usage.take(rate, now);
            taken.map_err(|wait| self.denied(Denial::Rate, too_fast(&holder.entry, wait)))?;
        }
        Ok(Pass { holder: holder.clone(), _slot: slot.map(Arc::new) })
    }

    /// Checks whether a request with this pass has what it needs; without one, it has not.
    pub fn check(&self, pass: Option<&Pass>, need: Need<'_>) -> Result<()> {
        let Some(pass) = pass else { return Err(self.denied(Denial::Missing, missing())) };
        let Entry { grant, name, .. } = &pass.holder.entry;
        grant.has(need).map_err(|unmet| self.denied(unmet.denial(), unmet.error(name)))
    }

    /// Checks whether a request that was admitted long ago would be allowed today: its token may have been taken away, or have
    /// become one for something else.
    pub fn check_again(&self, pass: &Pass, need: Need<'_>) -> Result<()> {
        let Entry { name, hashed, .. } = &pass.holder.entry;
        let tokens = self.0.tokens.load();
        let now = tokens.0.get(name).map(|holder| &holder.entry).filter(|entry| entry.hashed == *hashed);
        let now = now.ok_or_else(|| self.denied(Denial::Invalid, invalid()))?;
        now.grant.has(need).map_err(|unmet| self.denied(unmet.denial(), unmet.error(name)))
    }

    /// Returns whether there is a token of this name.
    pub fn lists(&self, name: &str) -> bool {
        self.0.tokens.load().0.contains_key(name)
    }

    /// Returns what tells of changes of the tokens.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn denied(&self, why: Denial, error: Error) -> Error {
        self.0.denials.count(why);
        error
    }
}

impl Authority {
    /// Puts `entries` into force. Tokens that stay keep what they have used of their limits.
    fn renew(&self, entries: Vec<Entry>) {
        let tokens = Tokens::new(entries, Some(&self.tokens.load()));
        self.tokens.store(Arc::new(tokens));
        self.changes.send_replace(());
    }
}

impl Tokens {
    fn new(entries: Vec<Entry>, before: Option<&Tokens>) -> Tokens {
        let holder = |entry: Entry| {
            let known = before.and_then(|before| before.0.get(&entry.name));
            let usage = known.map(|known| known.usage.clone()).unwrap_or_default();
            if known.is_some_and(|known| known.entry.limits.rate != entry.limits.rate) {
                usage.forget_rate();
            }
            (entry.name.clone(), Arc::new(Holder { entry, usage }))
        };
        Tokens(entries.into_iter().map(holder).collect())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({} tokens)", self.0.tokens.load().0.len())
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({})", self.name())
    }
}

/// Returns what the headers show: `Authorization: Bearer TOKEN`, or else `X-API-Key: TOKEN`. Another scheme of
/// `Authorization` is for somebody else.
fn credential<'h>(header: impl Fn(&'static str) -> Option<&'h [u8]>) -> Option<&'h [u8]> {
    header(AUTHORIZATION).and_then(bearer).or_else(|| header(API_KEY).map(<[u8]>::trim_ascii))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let is_ours = scheme.eq_ignore_ascii_case(SCHEME) && rest.first() == Some(&b' ');
    is_ours.then(|| rest.trim_ascii())
}

fn missing() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "A token is needed: send it as 'Authorization: Bearer TOKEN' or as 'X-API-Key: TOKEN'",
    )
}

fn invalid() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "The token is not valid here: expected one that 'servable token new' made for a line of this server's \
         --auth_file",
    )
}

fn too_many(entry: &Entry, most: usize) -> Error {
    let message = format!(
        "Token {} has {most} requests in flight, as many as its in_flight= allows: wait for one of these",
        entry.name
    );
    Error::new(Kind::ResourceExhausted, message).retry_after(IN_FLIGHT_AGAIN)
}

fn too_fast(entry: &Entry, wait: Duration) -> Error {
    let message = format!(
        "Token {} sends more requests than its rate= allows: the next one may come in {wait:.1?}",
        entry.name
    );
    Error::new(Kind::ResourceExhausted, message).retry_after(wait)
}

#[cfg(test)]
mod tests;
