//! Memory held by requests: one budget for the server and a share of it for each connection. Also tracks large blocks
//! that were freed but may have been kept by the allocators.

use crate::error::{Error, Kind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// The memory that all requests together may hold: bodies, their decompressed and decoded forms, outputs, and replies
/// until they are taken.
#[derive(Debug, Default)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// Makes a budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, used: AtomicUsize::new(0), refused: AtomicU64::new(0) })
    }

    /// Returns the limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Returns the number of requests refused for lack of memory.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// The memory held by the requests of one connection: at most half of the budget, so that one client leaves something
/// to others.
///
/// One part in [`KEPT`] of the budget, and as much again beyond a connection's half, is reserved for small requests, so
/// that status, health and small predictions are answered however much large requests hold.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    used: AtomicUsize,
    /// Divisor of the budget: the part that it may hold.
    part: usize,
    /// Whether it may take what is reserved for small requests.
    is_of_requests: bool,
}

/// Divisor of the budget: the part reserved for small requests.
const KEPT: usize = 16;
/// Divisor of the budget: the part that a connection may hold.
const EACH: usize = 2;
/// The same for what waits to be written to logs.
const LOGS: usize = 8;
/// Most bytes that a small request holds.
const SMALL: usize = 64 << 10;

impl Account {
    /// Makes the account of a connection without requests.
    pub fn new(budget: Arc<Budget>) -> Arc<Account> {
        Arc::new(Account { budget, used: AtomicUsize::new(0), part: EACH, is_of_requests: true })
    }

    /// Makes the account of what is held for logs, which may be less than a connection holds: requests come first.
    pub fn of_logs(budget: Arc<Budget>) -> Arc<Account> {
        Arc::new(Account { budget, used: AtomicUsize::new(0), part: LOGS, is_of_requests: false })
    }

    /// Returns what the connection, and all connections together, may hold when a request is to hold `wanted` bytes.
    fn limits(&self, wanted: usize) -> [usize; 2] {
        let (all, own) = (self.budget.limit, self.budget.limit / self.part);
        let is_small = self.is_of_requests && wanted <= SMALL;
        if is_small { [own + all / KEPT, all] } else { [own, all - all / KEPT] }
    }

    fn take(&self, bytes: usize, held: usize) -> Result<()> {
        self.try_take(bytes, held).map_err(|free| {
            self.budget.refused.fetch_add(1, Relaxed);
            self.refusal(bytes, held, free)
        })
    }

    /// Returns how many bytes were free if there were not enough.
    fn try_take(&self, bytes: usize, held: usize) -> Result<(), usize> {
        let [own, all] = self.limits(held.saturating_add(bytes));
        add(&self.used, bytes, own).and_then(|()| {
            add(&self.budget.used, bytes, all).inspect_err(|_| {
                self.used.fetch_sub(bytes, Relaxed);
            })
        })
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
    }

    fn refusal(&self, bytes: usize, held: usize, free: usize) -> Error {
        let limit = self.budget.limit;
        let each = limit / self.part;
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
        let error = Error::new(Kind::ResourceExhausted, format!("{what}; {hint}")).with_status(status);
        if status == 503 { error.retry_after(Duration::ZERO) } else { error }
    }
}

/// Adds `bytes` to `used` if the sum stays within `limit`; otherwise returns how much was free.
fn add(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<(), usize> {
    let sum = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Relaxed, Relaxed, sum).map(|_| ()).map_err(|now| limit.saturating_sub(now))
}

/// Returns the bytes counted for a request that holds `bytes`: none if it is tiny. Connections and the calls on each
/// are limited, so that such requests stay within some megabytes per connection; and threads do not contend for the
/// counters.
fn counted(bytes: usize) -> usize {
    const TINY: usize = 4 << 10;
    if bytes > TINY { bytes } else { 0 }
}

/// The memory held by one request, from its first byte until its reply is taken. Given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation {
    /// `None` if nothing is counted, as for the server's own runs.
    account: Option<Arc<Account>>,
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Reservation {
    /// Makes an empty reservation.
    pub fn new(account: Arc<Account>) -> Reservation {
        Reservation { account: Some(account), bytes: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }

    /// Makes an empty reservation of the same connection.
    pub fn beside(&self) -> Reservation {
        self.account.clone().map(Reservation::new).unwrap_or_default()
    }

    /// Adds `bytes`. Fails with RESOURCE_EXHAUSTED, and changes nothing, if there are not enough.
    pub fn grow(&self, bytes: usize) -> Result<()> {
        self.resize(self.bytes().saturating_add(bytes))
    }

    /// Adds `bytes` for what nobody waits for. Returns false, changes nothing and counts no refusal, if there are not enough.
    pub fn try_grow(&self, bytes: usize) -> bool {
        let after = self.bytes().saturating_add(bytes);
        let (before, counted) = (counted(self.bytes()), counted(after));
        let taken = match &self.account {
            Some(account) if counted > before => account.try_take(counted - before, before).is_ok(),
            Some(_) | None => true,
        };
        if taken {
            self.bytes.store(after, Relaxed);
            self.most.store(self.most.load(Relaxed).max(after), Relaxed);
        }
        taken
    }

    /// Sets the reservation to `bytes`. Fails with RESOURCE_EXHAUSTED, and changes nothing, if there are not enough.
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
        // A request is handled by one thread at a time.
        self.most.store(self.most.load(Relaxed).max(bytes), Relaxed);
        Ok(())
    }

    /// Returns the bytes reserved now.
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

/// Bytes together with the reservation that counts them.
#[derive(Debug)]
pub struct Held<B> {
    /// The bytes.
    pub bytes: B,
    /// The reservation, held as long as the bytes.
    pub memory: Arc<Reservation>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Set after work that held much memory, some of which the allocators may have kept.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// The end of the last such work, in milliseconds since [`BEGIN`].
static LAST_WORK: AtomicU64 = AtomicU64::new(0);
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Size in bytes from which a request counts as large.
const LARGE: usize = 1 << 20;

/// Records that `bytes` were freed.
pub(crate) fn note(bytes: usize) {
    if bytes >= LARGE {
        leave_behind();
    }
}

/// Returns whether the allocators may have kept something that no work needs soon: the last ended at least [`REST`]
/// ago. Until then, the next run would only fetch from the kernel what was returned before it.
pub(crate) fn is_left_behind() -> bool {
    /// In milliseconds.
    const REST: u64 = 3000;
    LEFT_BEHIND.load(Relaxed) && now().saturating_sub(LAST_WORK.load(Relaxed)) >= REST
}

/// Returns the milliseconds since [`BEGIN`].
fn now() -> u64 {
    u64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Returns whether the allocators may have kept something, whenever the last work ended, and forgets it: the caller
/// cleans up, and so does every thread for itself; see [`turn`].
pub(crate) fn take_left_behind() -> bool {
    let left = LEFT_BEHIND.swap(false, Relaxed);
    TURN.fetch_add(usize::from(left), Relaxed);
    left
}

/// Returns the number of clean-ups so far. A thread has to clean its own heap when this has changed since it last did.
pub(crate) fn turn() -> usize {
    TURN.load(Relaxed)
}

static TURN: AtomicUsize = AtomicUsize::new(0);

/// Records that a connection was closed and its buffers were freed.
pub(crate) fn note_closed() {
    /// Closed connections that together leave a megabyte or more.
    const MANY: usize = 64;
    static CLOSED: AtomicUsize = AtomicUsize::new(0);
    if CLOSED.fetch_add(1, Relaxed) % MANY == MANY - 1 {
        // Only for the threads that serve connections: the memory is in their heaps.
        TURN.fetch_add(1, Relaxed);
    }
}

/// Records the end of work whose memory the allocators may have kept.
pub(crate) fn leave_behind() {
    LAST_WORK.store(now(), Relaxed);
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
        // Small ones fit, on any connection.
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
    fn logs_have_an_eighth_and_are_refused_nothing_that_counts() {
        let budget = Budget::new(16 * MIB);
        let logs = Account::of_logs(budget.clone());
        let [one, other] = [Reservation::new(logs.clone()), Reservation::new(logs)];
        assert!(one.try_grow(MIB) && other.try_grow(MIB / 2) && !one.try_grow(MIB));
        assert_eq!((one.bytes(), budget.used(), budget.refused()), (MIB, 3 * MIB / 2, 0));
        drop(one);
        assert!(other.try_grow(MIB) && !other.try_grow(usize::MAX));
        drop(other);
        assert_eq!(budget.used(), 0);
        assert!(Reservation::default().try_grow(usize::MAX));
    }

    #[test]
    fn logs_leave_small_requests_their_part() {
        let budget = Budget::new(16 * MIB);
        let logs = Account::of_logs(budget.clone());
        let own: Vec<_> = (0..32).map(|_| Reservation::new(logs.clone())).collect();
        assert!(own.iter().all(|one| one.try_grow(SMALL)));
        assert!(!Reservation::new(logs.clone()).try_grow(SMALL), "an eighth is held");
        drop(own);
        let requests = [8 * MIB, 7 * MIB].map(|bytes| {
            let request = Reservation::new(Account::new(budget.clone()));
            request.grow(bytes).unwrap();
            request
        });
        assert!(!Reservation::new(logs).try_grow(SMALL), "a sixteenth is left");
        requests[0].resize(0).unwrap();
        requests[1].grow(SMALL).unwrap();
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
        /// The budget is never exceeded, and everything is given back.
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
