//! The open connections: their limit, the choice of those that give way to new ones, and the stages of shutdown.

use crate::memory::{Account, Budget, Reservation, note_closed};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The stages of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Requests are answered.
    Serving,
    /// Requests are answered, also on new connections, but clients are told to send their next request elsewhere.
    Draining,
    /// Another server answers new connections. The clients of open ones are told to send their next request to it.
    PassedOn,
    /// No new connection is accepted. Open ones end once they have been quiet for a moment.
    Closing,
}

/// Interval between attempts to find a connection that may be closed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Every open connection of a server, on all its ports.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    budget: Arc<Budget>,
    since: Instant,
    open: Mutex<Open>,
    none_left: Condvar,
    closed: Notify,
    stage: watch::Sender<Stage>,
    /// True once the stage is later than serving.
    draining: AtomicBool,
    /// True once others have the listening sockets.
    passed_on: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
    /// Number of these that were asked to close.
    closing: usize,
}

impl Open {
    fn close_waiting(&mut self, most: usize) -> usize {
        let mut asked = 0;
        while asked < most {
            let waiting = self.connections.iter().filter(|(_, connection)| connection.waits_for_client());
            let idlest = waiting.min_by_key(|(number, connection)| (connection.last.load(Relaxed), **number));
            let Some((_, idlest)) = idlest else { break };
            idlest.is_closing.store(true, Relaxed);
            idlest.close();
            self.closing += 1;
            asked += 1;
        }
        asked
    }
}

impl Connections {
    /// Starts without connections. At most `most` are kept open; their requests share `budget`.
    pub fn new(most: usize, budget: Arc<Budget>) -> Arc<Connections> {
        Arc::new(Connections {
            most: most.max(1),
            budget,
            since: Instant::now(),
            open: Mutex::default(),
            none_left: Condvar::new(),
            closed: Notify::new(),
            stage: watch::Sender::new(Stage::Serving),
            draining: AtomicBool::new(false),
            passed_on: AtomicBool::new(false),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an accepted connection whose client has no address.
    pub fn accepted(self: &Arc<Self>) -> Slot {
        self.accepted_from(None)
    }

    /// Registers an accepted connection of the client at `peer`.
    pub fn accepted_from(self: &Arc<Self>, peer: Option<SocketAddr>) -> Slot {
        let connection = Arc::new(Connection {
            all: self.clone(),
            peer,
            account: Account::new(self.budget.clone()),
            certified: OnceLock::new(),
            opened_in: *self.stage.borrow(),
            answering: AtomicUsize::new(0),
            last: AtomicU64::new(self.microseconds()),
            is_closing: AtomicBool::new(false),
            close: Notify::new(),
        });
        let mut open = self.open();
        open.next += 1;
        let number = open.next;
        open.connections.insert(number, connection.clone());
        Slot { connection, number }
    }

    /// Waits until the number of connections is within the limit, closing those that have waited for their clients
    /// longest. Returns how many were asked to close.
    pub async fn make_room(&self) -> usize {
        let mut closed = 0;
        loop {
            let one_closed = self.closed.notified();
            if self.open().connections.len() <= self.most {
                return closed;
            }
            closed += self.close_idlest();
            // If every client waits for an answer, the next one to be answered gives way.
            let _in_time = tokio::time::timeout(LOOK_AGAIN, one_closed).await;
        }
    }

    /// Asks the connection that waits for its client for longest to close; returns when one has closed, or after a moment.
    pub async fn free_one(&self) {
        let one_closed = self.closed.notified();
        self.close_waiting(1);
        let _in_time = tokio::time::timeout(LOOK_AGAIN, one_closed).await;
    }

    /// Asks surplus connections to close; returns how many.
    fn close_idlest(&self) -> usize {
        let mut open = self.open();
        let surplus = open.connections.len().saturating_sub(open.closing + self.most);
        open.close_waiting(surplus)
    }

    /// Asks `most` of the connections that wait for their clients to close, those that have for longest first. How many
    /// it asked.
    pub fn close_waiting(&self, most: usize) -> usize {
        self.open().close_waiting(most)
    }

    /// Returns the microseconds since the server was created.
    fn microseconds(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    /// Returns the number of open connections.
    pub fn count(&self) -> usize {
        self.open().connections.len()
    }

    /// Waits until no connection is open; returns whether that happened before `deadline`.
    pub fn wait(&self, deadline: Instant) -> bool {
        let open = self.open();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.none_left.wait_timeout_while(open, left, |open| !open.connections.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.connections.is_empty()
    }

    /// Advances to `stage`; never goes back.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = (*now).max(stage);
            later
        });
        self.draining.fetch_or(stage >= Stage::Draining, Relaxed);
    }

    /// Leaves connections that are not accepted yet to others who have the listening sockets. Where requests are served,
    /// clients are told to send the next one to them; where the server drains already, only its end will differ.
    pub fn pass_on(&self) {
        self.passed_on.store(true, SeqCst);
        if *self.stage.borrow() == Stage::Serving {
            self.enter(Stage::PassedOn);
        }
    }

    /// Returns whether others have the listening sockets.
    pub fn are_ports_passed_on(&self) -> bool {
        self.passed_on.load(SeqCst)
    }

    /// Returns the stage and its changes.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}

/// Returns when the server has reached `stage`, or is gone.
pub async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    let _gone = stages.wait_for(|now| *now >= stage).await;
}

/// The place of a connection among the open ones, until dropped.
#[derive(Debug)]
pub struct Slot {
    /// The connection's state.
    pub connection: Arc<Connection>,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let all = &self.connection.all;
        let mut open = all.open();
        open.connections.remove(&self.number);
        if self.connection.is_closing.load(Relaxed) {
            open.closing -= 1;
        }
        drop(open);
        note_closed();
        all.none_left.notify_all();
        all.closed.notify_waiters();
    }
}

/// The state of an open connection: which side waits, and since when.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    peer: Option<SocketAddr>,
    account: Arc<Account>,
    /// The name in the client's certificate.
    certified: OnceLock<Arc<str>>,
    opened_in: Stage,
    /// Complete requests that have not been answered yet.
    answering: AtomicUsize,
    /// When the client last sent something or an answer was made; see [`Connections::microseconds`].
    last: AtomicU64,
    is_closing: AtomicBool,
    close: Notify,
}

impl Connection {
    /// Returns the client's address; `None` for a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Records the name in the client's certificate, which has been verified.
    pub fn certify(&self, name: &str) {
        // A connection has one handshake.
        let _had_one = self.certified.set(name.into());
    }

    /// Returns the name in the client's certificate, if it has shown one.
    pub fn certified(&self) -> Option<&Arc<str>> {
        self.certified.get()
    }

    /// Records that something has arrived from the client.
    pub fn touch(&self) {
        self.last.store(self.all.microseconds(), Relaxed);
    }

    /// Returns the time, for [`Self::since`].
    pub fn now(&self) -> u64 {
        self.all.microseconds()
    }

    /// Returns the time of the last [`Self::touch`].
    pub fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Returns how long ago `time` was.
    pub fn since(&self, time: u64) -> Duration {
        Duration::from_micros(self.now().saturating_sub(time))
    }

    /// Makes an empty reservation for a new request.
    pub fn reserve(&self) -> Reservation {
        Reservation::new(self.account.clone())
    }

    /// Records a complete request; it counts as answered when the returned value is dropped.
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Relaxed);
        Answering(self.clone())
    }

    fn waits_for_client(&self) -> bool {
        self.answering.load(Relaxed) == 0 && !self.is_closing.load(Relaxed)
    }

    /// Returns whether it was asked to close to make room.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }

    /// Returns whether the client should send its next request elsewhere.
    pub fn is_draining(&self) -> bool {
        self.all.draining.load(Relaxed)
    }

    /// Ends the connection, because its place is needed or its client takes no replies.
    pub fn close(&self) {
        self.close.notify_one();
    }

    /// Returns when the connection has to end.
    pub async fn must_close(&self) {
        self.close.notified().await;
    }

    /// Returns when the client should be told that no further request is answered here. A connection opened while the
    /// server drains stays until the server closes.
    pub async fn is_to_end(&self) {
        let last = if self.opened_in == Stage::Serving { Stage::Draining } else { Stage::Closing };
        reached(&mut self.all.stages(), last).await;
    }

    /// Returns when the server is closing and nothing has come or gone here for `pause`, so that a request on its way
    /// has arrived.
    pub async fn is_closed_and_quiet(&self, pause: Duration) {
        reached(&mut self.all.stages(), Stage::Closing).await;
        let mut left = pause;
        while !left.is_zero() {
            tokio::time::sleep(left).await;
            let quiet = self.since(self.last());
            left = if self.answering.load(Relaxed) > 0 { pause } else { pause.saturating_sub(quiet) };
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.touch();
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_now::now;

    fn connections(most: usize) -> Arc<Connections> {
        Connections::new(most, Budget::new(1 << 20))
    }

    mod futures_now {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};

        /// Returns the value of `future` if it is ready at once.
        pub(super) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
            match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_waits_for_its_client_for_longest_gives_way() {
        let all = connections(2);
        let slots = [all.accepted(), all.accepted(), all.accepted()];
        for (slot, last) in slots.iter().zip([7, 5, 6]) {
            slot.connection.last.store(last, Relaxed);
        }
        let [first, second, third] = slots;
        let closing = second.connection.clone();
        let closes = async {
            closing.must_close().await;
            drop(second);
        };
        let (asked, ()) = tokio::join!(all.make_room(), closes);
        assert_eq!((asked, all.count()), (1, 2));
        assert_eq!(now(first.connection.must_close()), None);
        assert_eq!(now(third.connection.must_close()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_being_answered_never_does() {
        let all = connections(1);
        let (old, new) = (all.accepted(), all.accepted());
        old.connection.last.store(0, Relaxed);
        new.connection.last.store(9, Relaxed);
        let answering = old.connection.answering();
        let newer = new.connection.clone();
        let closes = async {
            newer.must_close().await;
            drop(new);
        };
        tokio::join!(all.make_room(), closes);
        drop(answering);
        assert_eq!(now(old.connection.must_close()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_being_answered_the_first_that_is_done_gives_way() {
        let all = connections(1);
        let (one, other) = (all.accepted(), all.accepted());
        let (of_one, of_other) = (one.connection.answering(), other.connection.answering());
        let connection = one.connection.clone();
        let ends = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(of_one);
            connection.must_close().await;
            drop(one);
        };
        tokio::join!(all.make_room(), ends);
        assert_eq!(all.count(), 1);
        drop((of_other, other));
        assert!(all.wait(Instant::now()));
    }

    #[test]
    fn while_there_is_room_nothing_is_closed() {
        let all = connections(2);
        let slots = [all.accepted(), all.accepted()];
        assert_eq!(now(all.make_room()), Some(0));
        assert_eq!(slots.map(|slot| now(slot.connection.must_close())), [None, None]);
    }

    #[test]
    fn only_those_that_wait_for_their_clients_are_closed_on_demand() {
        let all = connections(9);
        let slots = [all.accepted(), all.accepted(), all.accepted()];
        for (slot, last) in slots.iter().zip([7, 5, 6]) {
            slot.connection.last.store(last, Relaxed);
        }
        let _answering = slots[2].connection.answering();
        assert_eq!(all.close_waiting(1), 1);
        assert_eq!(slots.each_ref().map(|slot| slot.connection.is_closing()), [false, true, false]);
        assert_eq!(all.close_waiting(usize::MAX), 1);
        assert_eq!(slots.each_ref().map(|slot| slot.connection.is_closing()), [true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_freed_without_a_pause_and_with_none_to_free_after_one() {
        let all = connections(9);
        let slot = all.accepted();
        let connection = slot.connection.clone();
        let began = tokio::time::Instant::now();
        let closes = async {
            connection.must_close().await;
            drop(slot);
        };
        tokio::join!(all.free_one(), closes);
        assert_eq!(began.elapsed(), Duration::ZERO);
        all.free_one().await;
        assert_eq!(began.elapsed(), LOOK_AGAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn stages_only_go_on() {
        let all = connections(9);
        let before = all.accepted();
        assert!(!before.connection.is_draining());
        assert_eq!(now(before.connection.is_to_end()), None);
        all.enter(Stage::Draining);
        assert!(before.connection.is_draining());
        assert_eq!(now(before.connection.is_to_end()), Some(()));
        let during = all.accepted();
        assert!(during.connection.is_draining());
        assert_eq!(now(during.connection.is_to_end()), None);
        all.enter(Stage::Closing);
        all.enter(Stage::Draining);
        assert_eq!(*all.stages().borrow(), Stage::Closing);
        assert_eq!(now(during.connection.is_to_end()), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_passes_its_ports_on_tells_its_clients_to_come_again() {
        let all = connections(9);
        let before = all.accepted();
        assert!(!all.are_ports_passed_on());
        all.pass_on();
        let during = all.accepted();
        assert_eq!((*all.stages().borrow(), all.are_ports_passed_on()), (Stage::PassedOn, true));
        assert!(before.connection.is_draining() && during.connection.is_draining());
        assert_eq!(now(before.connection.is_to_end()), Some(()));
        assert_eq!(now(during.connection.is_to_end()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_drains_already_goes_on_draining() {
        let all = connections(9);
        all.enter(Stage::Draining);
        all.pass_on();
        assert_eq!((*all.stages().borrow(), all.are_ports_passed_on()), (Stage::Draining, true));
    }
}
