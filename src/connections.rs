//! The open connections: their limits, the choice of those that give way to new ones, and the stages of shutdown.

use crate::memory::{Account, Budget, Reservation, note_closed};
use crate::metrics::{EdgeCounts, EdgeLimit};
use crate::peer::{Address, Sender};
use crate::proxies::{Proxies, ProxyProtocol, forwarded};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
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

/// The limits of connections, and what is known of who opens them.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Most connections at once.
    pub most: usize,
    /// Most of them that one peer may have, if there is a limit; trusted proxies, who have many clients, have none.
    pub most_of_peer: Option<usize>,
    /// The proxies that may say whom they speak for.
    pub proxies: Option<Arc<Proxies>>,
    /// What is counted.
    pub counts: Arc<EdgeCounts>,
}

/// Every open connection of a server, on all its ports.
#[derive(Debug)]
pub struct Connections {
    edge: Edge,
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
    /// The number of connections of each peer.
    by_peer: HashMap<IpAddr, usize>,
}

impl Open {
    fn close_waiting(&mut self, most: usize) -> usize {
        let (mut asked, crowd) = (0, self.crowd());
        while asked < most {
            let waiting = self.connections.iter().filter(|(_, connection)| connection.waits_for_client());
            let idlest = waiting.min_by_key(|(number, connection)| {
                (connection.rank(crowd), connection.last.load(Relaxed), **number)
            });
            let Some((_, idlest)) = idlest else { break };
            idlest.is_closing.store(true, Relaxed);
            idlest.close();
            self.closing += 1;
            asked += 1;
        }
        asked
    }

    /// Returns the peer that has more than half of all connections, if there is one.
    fn crowd(&self) -> Option<IpAddr> {
        let most = self.by_peer.iter().find(|(_, count)| 2 * **count > self.connections.len());
        most.map(|(peer, _)| *peer)
    }
}

impl Connections {
    /// Starts without connections. At most `most` are kept open; their requests share `budget`.
    pub fn new(most: usize, budget: Arc<Budget>) -> Arc<Connections> {
        let edge = Edge { most, most_of_peer: None, proxies: None, counts: Arc::default() };
        Connections::at(edge, budget)
    }

    /// Starts without connections, with the limits of `edge`; their requests share `budget`.
    pub fn at(edge: Edge, budget: Arc<Budget>) -> Arc<Connections> {
        Arc::new(Connections {
            edge: Edge { most: edge.most.max(1), ..edge },
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
        self.accepted_from(Address::Unix)
    }

    /// Registers an accepted connection of the client at `peer`.
    pub fn accepted_from(self: &Arc<Self>, peer: Address) -> Slot {
        self.edge.counts.opened();
        let connection = Arc::new(Connection {
            all: self.clone(),
            peer,
            behind: OnceLock::new(),
            admitted: OnceLock::new(),
            account: Account::new(self.budget.clone()),
            certified: OnceLock::new(),
            opened_in: *self.stage.borrow(),
            answering: AtomicUsize::new(0),
            messages: AtomicU32::new(0),
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
            if self.open().connections.len() <= self.edge.most {
                return closed;
            }
            let asked = self.close_idlest();
            self.edge.counts.reached(EdgeLimit::Connections, asked as u64);
            closed += asked;
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
        let surplus = open.connections.len().saturating_sub(open.closing + self.edge.most);
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
        if let Some(Admitted::Counted(peer)) = self.connection.admitted.get()
            && let Some(count) = open.by_peer.get_mut(peer)
        {
            *count -= 1;
            if *count == 0 {
                open.by_peer.remove(peer);
            }
        }
        drop(open);
        all.edge.counts.closed();
        note_closed();
        all.none_left.notify_all();
        all.closed.notify_waiters();
    }
}

/// How a connection counts among its peer's.
#[derive(Debug)]
enum Admitted {
    /// As one of this peer's.
    Counted(IpAddr),
    /// As none: its peer has no address, or is a trusted proxy.
    Uncounted,
    /// As none: its peer has too many.
    Refused,
}

/// The state of an open connection: which side waits, and since when.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    /// Who is at the other end…
    peer: Address,
    /// … and the client that it has named before it sent anything else, as a proxy.
    behind: OnceLock<Address>,
    /// Set once the client is known.
    admitted: OnceLock<Admitted>,
    account: Arc<Account>,
    /// The name in the client's certificate.
    certified: OnceLock<Arc<str>>,
    opened_in: Stage,
    /// Complete requests that have not been answered yet.
    answering: AtomicUsize,
    /// Messages of streams that have come since [`Connection::take_messages`] was last called.
    messages: AtomicU32,
    /// When the client last sent something or an answer was made; see [`Connections::microseconds`].
    last: AtomicU64,
    is_closing: AtomicBool,
    close: Notify,
}

impl Connection {
    /// Returns where the client is, as far as the connection tells.
    pub fn client(&self) -> Address {
        self.behind.get().copied().unwrap_or(self.peer)
    }

    /// Records the client that the other end has named, as a trusted proxy.
    pub fn is_for(&self, client: Address) {
        // A connection has one header.
        let _had_one = self.behind.set(client);
    }

    /// Counts the connection among its client's, once that is known; returns false if there are too many of them.
    pub fn admit(&self) -> bool {
        let client = self.client();
        let is_proxy = self.all.edge.proxies.as_ref().is_some_and(|proxies| proxies.trust(&client));
        let Some(peer) = client.counted_as().filter(|_| !is_proxy) else {
            return self.admitted.set(Admitted::Uncounted).is_ok();
        };
        let mut open = self.all.open();
        let count = open.by_peer.entry(peer).or_default();
        if self.all.edge.most_of_peer.is_some_and(|most| *count >= most) {
            drop(open);
            self.reached(EdgeLimit::PeerConnections);
            let _first = self.admitted.set(Admitted::Refused);
            return false;
        }
        *count += 1;
        // Set under the lock, under which it is counted down.
        let _first = self.admitted.set(Admitted::Counted(peer));
        true
    }

    /// Returns whether the peer may tell by the PROXY protocol whom the connection is for.
    pub fn may_be_proxy(&self) -> bool {
        let believed =
            |proxies: &Proxies| proxies.protocol != ProxyProtocol::Off && proxies.trust(&self.client());
        self.all.edge.proxies.as_deref().is_some_and(believed)
    }

    /// Returns the proxies that are known.
    pub fn proxies(&self) -> Option<&Arc<Proxies>> {
        self.all.edge.proxies.as_ref()
    }

    /// Returns the sender of a request, of which `header` returns the values of a header: the client, unless that is a
    /// trusted proxy which names another.
    pub fn sender<'h, I>(&self, header: impl Fn(&'static str) -> I) -> Sender
    where
        I: DoubleEndedIterator<Item = &'h [u8]>,
    {
        let client = self.client();
        let proxy = self.behind.get().map(|_| self.peer);
        let Some(proxies) = self.proxies().filter(|proxies| proxies.trust(&client)) else {
            return Sender { client, proxy };
        };
        let (standard, usual) = (header(forwarded::FORWARDED), header(forwarded::X_FORWARDED_FOR));
        match forwarded::client(&proxies.trusted, standard, usual) {
            Some(named) => Sender { client: named, proxy: Some(client) },
            None => Sender { client, proxy },
        }
    }

    /// Counts that the client has reached `limit`.
    pub fn reached(&self, limit: EdgeLimit) {
        self.all.edge.counts.reached(limit, 1);
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

    /// Returns its place among those that give way: first come those that were refused, then those of `crowd`, so that it
    /// cannot crowd others out.
    fn rank(&self, crowd: Option<IpAddr>) -> u8 {
        match self.admitted.get() {
            Some(Admitted::Refused) => 0,
            Some(Admitted::Counted(peer)) if Some(*peer) == crowd => 1,
            Some(Admitted::Counted(_) | Admitted::Uncounted) | None => 2,
        }
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

    /// Records a message of a stream, for which a client may send as many frames as for a call of its own.
    pub fn message_came(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// Returns the number of messages of streams that have come since this was last called.
    pub fn take_messages(&self) -> u32 {
        // As a rule, there is none.
        if self.messages.load(Relaxed) == 0 { 0 } else { self.messages.swap(0, Relaxed) }
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
    use crate::proxies::Networks;
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

    fn from(all: &Arc<Connections>, peer: &str) -> Slot {
        all.accepted_from(Address::Socket(peer.parse().unwrap()))
    }

    fn edge(most: usize, most_of_peer: Option<usize>, trusted: &[&str]) -> Arc<Connections> {
        let trusted = Networks::read(trusted.iter().copied()).unwrap();
        let proxies = Some(Arc::new(Proxies { trusted, ..Proxies::default() }));
        let edge = Edge { most, most_of_peer, proxies, counts: Arc::default() };
        Connections::at(edge, Budget::new(1 << 20))
    }

    #[test]
    fn a_peer_has_no_more_than_its_share_and_gets_it_back() {
        let all = edge(99, Some(2), &["10.0.0.0/8", "unix"]);
        let admits = |peer| {
            let slot = from(&all, peer);
            (slot.connection.admit(), slot)
        };
        let (first, second) = (admits("192.0.2.7:1"), admits("192.0.2.7:2"));
        assert!(first.0 && second.0 && !admits("192.0.2.7:3").0);
        assert!(admits("192.0.2.8:1").0, "another peer has its own");
        drop(first);
        let third = admits("192.0.2.7:4");
        assert!(third.0 && !admits("192.0.2.7:5").0);
        let network = [admits("[2001:db8::1]:1"), admits("[2001:db8::2]:1"), admits("[2001:db8::3]:1")];
        assert_eq!(network.each_ref().map(|(admitted, _)| *admitted), [true, true, false]);
        let proxy = [admits("10.0.0.1:1"), admits("10.0.0.1:2"), admits("10.0.0.1:3")];
        assert!(proxy.iter().all(|(admitted, _)| *admitted), "trusted proxies have many clients");
        assert!(
            (0..3).map(|_| all.accepted()).collect::<Vec<_>>().iter().all(|slot| slot.connection.admit())
        );
        drop((second, third, network, proxy));
        assert!(all.open().by_peer.is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn of_a_proxys_clients_each_has_its_share() {
        let all = edge(99, Some(1), &["10.0.0.0/8"]);
        let slots: Vec<_> = [7, 8, 7]
            .map(|client| {
                let slot = from(&all, "10.0.0.1:1");
                slot.connection.is_for(Address::Socket(([192, 0, 2, client], 1).into()));
                (slot.connection.admit(), slot)
            })
            .into();
        assert_eq!(slots.iter().map(|(admitted, _)| *admitted).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn who_has_more_than_half_of_all_gives_way_first() {
        let all = edge(9, None, &[]);
        let slots = ["192.0.2.7:1", "192.0.2.8:1", "192.0.2.8:2", "192.0.2.8:3"].map(|peer| from(&all, peer));
        for (last, slot) in slots.iter().enumerate() {
            assert!(slot.connection.admit());
            slot.connection.last.store(last as u64, Relaxed);
        }
        let closing = || slots.each_ref().map(|slot| slot.connection.is_closing());
        assert_eq!(all.close_waiting(1), 1);
        assert_eq!(closing(), [false, true, false, false], "the idlest of who has most");
        let refused = from(&all, "192.0.2.9:1");
        let _first = refused.connection.admitted.set(Admitted::Refused);
        assert_eq!(all.close_waiting(1), 1);
        assert!(refused.connection.is_closing(), "who was refused has least to lose");
    }

    #[test]
    fn the_sender_is_whom_a_trusted_proxy_names() {
        let all = edge(9, None, &["10.0.0.0/8"]);
        let sender = |slot: &Slot, usual: &'static str| {
            let header = move |name| {
                let lines = if name == forwarded::X_FORWARDED_FOR { vec![usual.as_bytes()] } else { vec![] };
                lines.into_iter()
            };
            let Sender { client, proxy } = slot.connection.sender(header);
            (client.to_string(), proxy.map(|proxy| proxy.to_string()))
        };
        let (near, far) = (from(&all, "10.0.0.1:1"), from(&all, "192.0.2.7:1"));
        assert_eq!(sender(&near, "6.6.6.6, 192.0.2.9"), ("192.0.2.9".into(), Some("10.0.0.1:1".into())));
        assert_eq!(sender(&near, "unknown"), ("10.0.0.1:1".into(), None));
        assert_eq!(sender(&far, "192.0.2.9"), ("192.0.2.7:1".into(), None));
        near.connection.is_for(Address::Socket("192.0.2.8:5".parse().unwrap()));
        assert_eq!(sender(&near, "192.0.2.9"), ("192.0.2.8:5".into(), Some("10.0.0.1:1".into())));
    }
}
