//! Memory that requests hold: one budget for the server, a share of it for each connection; and whether large blocks were
//! freed that the allocators may have kept.

use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What all requests together may hold: bodies, what they unpack and decode to, outputs, and replies until they are taken.
#[derive(Debug, Default)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// So many bytes.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0), refused: AtomicU64::new(0) })
    }

    /// How much it is.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are held now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Requests that were refused because there was too little left.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// What the requests of one connection hold: half of the budget at most, so that one client leaves something to others.
///
/// One part in [`KEPT`] of the budget, and as much beyond the half, is for small requests alone: however much large ones
/// hold, status, health and small predictions are answered.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    used: AtomicUsize,
}

/// The share of the budget that is kept for small requests.
const KEPT: usize = 16;
/// The most that a small request holds.
const SMALL: usize = 64 << 10;

impl Account {
    /// Of a connection without requests.
    pub fn new(budget: Arc<Budget>) -> Arc<Account> {
        Arc::new(Account { budget, used: AtomicUsize::new(0) })
    }

    /// What the connection, and all together, may hold when a request wants to hold so many bytes.
    fn limits(&self, wanted: usize) -> [usize; 2] {
        let all = self.budget.limit;
        if wanted <= SMALL { [all / 2 + all / KEPT, all] } else { [all / 2, all - all / KEPT] }
    }

    fn take(&self, bytes: usize, held: usize) -> Result<()> {
        let [own, all] = self.limits(held.saturating_add(bytes));
        let taken = add(&self.used, bytes, own).and_then(|()| {
            add(&self.budget.used, bytes, all).inspect_err(|_| {
                self.used.fetch_sub(bytes, Relaxed);
            })
        });
        taken.map_err(|free| {
            self.budget.refused.fetch_add(1, Relaxed);
            self.refusal(bytes, held, free)
        })
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
    }

    fn refusal(&self, bytes: usize, held: usize, free: usize) -> Error {
        let limit = self.budget.limit;
        let each = limit / 2;
        let needed = held.saturating_add(bytes);
        let (status, what) = if needed > each {
            (
                413,
                format!(
                    "The request needs {needed} bytes of memory, and {each} is the most for one connection"
                ),
            )
        } else {
            let why = format!(
                "The request needs {bytes} bytes more of memory for requests, of which {free} are free"
            );
            (503, format!("{why}: send it again later"))
        };
        let hint = format!("send less at once, or raise --max_memory_in_flight (now {limit})");
        Error::new(Kind::ResourceExhausted, format!("{what}; {hint}")).with_status(status)
    }
}

/// Adds `bytes` to what is `used`, if that stays within `limit`; else how much was free.
fn add(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<(), usize> {
    let sum = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Relaxed, Relaxed, sum).map(|_| ()).map_err(|now| limit.saturating_sub(now))
}

/// What is counted for a request that holds so many `bytes`: nothing where it is tiny. Connections and the calls of each
/// are bounded, so that such requests stay within some megabytes a connection; and threads do not wait for each other's
/// counts.
fn counted(bytes: usize) -> usize {
    const TINY: usize = 4 << 10;
    if bytes > TINY { bytes } else { 0 }
}

/// What one request holds, from its first byte until its reply is taken. Given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation {
    /// None where nothing is counted: for the server's own runs.
    account: Option<Arc<Account>>,
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Reservation {
    /// Nothing yet.
    pub fn new(account: Arc<Account>) -> Reservation {
        Reservation { account: Some(account), bytes: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// So many `bytes` more. RESOURCE_EXHAUSTED, with nothing changed, if there are not so many.
    pub fn grow(&self, bytes: usize) -> Result<()> {
        self.resize(self.bytes().saturating_add(bytes))
    }

    /// So many `bytes` from now on. RESOURCE_EXHAUSTED, with nothing changed, if there are not so many.
    pub fn resize(&self, bytes: usize) -> Result<()> {
        let (before, after) = (counted(self.bytes()), counted(bytes));
        if let Some(account) = &self.account {
            if after > before {
                account.take(after - before, before)?;
            } else if before > after {
                account.give_back(before - after);
            }
        }
        self.bytes.store(bytes, Relaxed);
        // One thread at a time has a request.
        self.most.store(self.most.load(Relaxed).max(bytes), Relaxed);
        Ok(())
    }

    /// How many it is now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            match counted(*self.bytes.get_mut()) {
                0 => {}
                bytes => account.give_back(bytes),
            }
        }
        note(*self.most.get_mut());
    }
}

/// Bytes that hold a reservation while they are held themselves.
#[derive(Debug)]
pub struct Held {
    /// What is held.
    pub bytes: Vec<u8>,
    /// What is counted for it.
    pub memory: Arc<Reservation>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Set when a request was over that held much, of which the allocators may have kept something.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// Bytes from which on a request counts as large.
const LARGE: usize = 1 << 20;

/// Takes note of so many `bytes` that were freed.
pub(crate) fn note(bytes: usize) {
    if bytes >= LARGE {
        LEFT_BEHIND.store(true, Relaxed);
    }
}

/// Whether the allocators may have kept something.
pub(crate) fn is_left_behind() -> bool {
    LEFT_BEHIND.load(Relaxed)
}

/// The same, to be seen to by the caller, and by every thread for itself; see [`turn`].
pub(crate) fn take_left_behind() -> bool {
    let left = LEFT_BEHIND.swap(false, Relaxed);
    TURN.fetch_add(usize::from(left), Relaxed);
    left
}

/// How often that was seen to. A thread whose heap was not looked through since it changed has something to do.
pub(crate) fn turn() -> usize {
    TURN.load(Relaxed)
}

static TURN: AtomicUsize = AtomicUsize::new(0);

/// Takes note of a connection that was closed, whose buffers are free now.
pub(crate) fn note_closed() {
    /// So many leave a megabyte or more.
    const MANY: usize = 64;
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    if CLOSED.fetch_add(1, Relaxed) % MANY == MANY - 1 {
        // For the threads that serve connections alone: their heaps have it.
        TURN.fetch_add(1, Relaxed);
    }
}

/// The allocators may have kept something.
pub(crate) fn leave_behind() {
    LEFT_BEHIND.store(true, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(limit: usize) -> (Arc<Budget>, Arc<Account>) {
        let budget = Budget::new(limit);
        (budget.clone(), Account::new(budget))
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn a_connection_has_half_of_it_and_small_requests_a_part_to_themselves() {
        let (budget, one) = account(16 * MIB);
        let request = Reservation::new(one.clone());
        request.grow(8 * MIB).unwrap();
        let refused = Reservation::new(one.clone()).grow(MIB).unwrap_err();
        assert_eq!((refused.kind, refused.http_status()), (Kind::ResourceExhausted, 503));
        let other = Reservation::new(Account::new(budget.clone()));
        other.grow(7 * MIB).unwrap();
        let third = Reservation::new(Account::new(budget.clone()));
        let refused = third.grow(100_000).unwrap_err();
        assert!(refused.message.contains("100000 bytes more of memory for requests, of which 0 are free"));
        // Small ones, on any connection.
        third.grow(SMALL).unwrap();
        let small = Reservation::new(one);
        small.grow(SMALL).unwrap();
        drop((request, other));
        third.grow(MIB).unwrap();
        drop((third, small));
        assert_eq!((budget.used(), budget.refused()), (0, 2));
    }

    #[test]
    fn what_never_fits_is_said_to() {
        let (_budget, one) = account(2 * MIB);
        let request = Reservation::new(one);
        request.grow(MIB - 1000).unwrap();
        let refused = request.grow(2000).unwrap_err();
        assert_eq!(refused.http_status(), 413);
        assert_eq!(
            refused.message,
            "The request needs 1049576 bytes of memory, and 1048576 is the most for one connection; send less at once, \
             or raise --max_memory_in_flight (now 2097152)"
        );
        assert!(request.grow(usize::MAX).is_err());
        assert_eq!(request.bytes(), MIB - 1000);
    }

    #[test]
    fn the_servers_own_runs_are_not_counted() {
        let own = Reservation::default();
        own.grow(usize::MAX / 2).unwrap();
        own.resize(7).unwrap();
    }

    #[test]
    fn threads_together_stay_within_it() {
        let budget = Budget::new(100 * 10_000);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let budget = &budget;
                scope.spawn(move || {
                    let account = Account::new(budget.clone());
                    for step in 0..2000 {
                        let request = Reservation::new(account.clone());
                        let _full = request.grow((step * 37 + seed * 101) % 400 * 1000);
                        assert!(account.used.load(Relaxed) <= 562_500);
                        let _full = request.resize(step % 300 * 1000);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        /// It is never exceeded, and everything is given back.
        #[test]
        fn the_books_balance(steps in prop::collection::vec((0usize..4, any::<bool>(), 0usize..300_000), 0..100)) {
            let (budget, one) = account(1_000_000);
            let accounts = [one, Account::new(budget.clone())];
            let requests: Vec<_> = (0..4).map(|which| Reservation::new(accounts[which % 2].clone())).collect();
            for (which, grow, bytes) in steps {
                let request = &requests[which];
                let before = request.bytes();
                let changed = if grow { request.grow(bytes) } else { request.resize(bytes) };
                let wanted = if grow { before + bytes } else { bytes };
                prop_assert_eq!(request.bytes(), if changed.is_ok() { wanted } else { before });
                let held: usize = requests.iter().map(|request| counted(request.bytes())).sum();
                prop_assert_eq!(budget.used(), held);
                prop_assert!(held <= 1_000_000);
                prop_assert!(accounts.iter().all(|account| account.used.load(Relaxed) <= 562_500));
            }
            drop(requests);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
