//! A bounded queue whose items a thread of its own writes: nobody who offers one ever waits for a disk, a terminal or a
//! network.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is written, in the queue's thread.
pub trait Sink<T>: Send + 'static {
    /// Writes `items`, in order. `dropped` were not accepted since the last call. `items` may be empty.
    fn write(&mut self, items: Vec<T>, dropped: u64);

    /// Returns when [`Self::write`] is to be called again although nothing has come; `None`: not at all.
    fn next_call(&self) -> Option<Instant> {
        None
    }
}

/// The queue. Dropping it ends the thread after what was accepted.
pub struct LogQueue<T> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T> {
    limits: Limits,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of items.
    pub items: usize,
    /// Sum of their sizes, in bytes or whatever their owner measures.
    pub bytes: usize,
    /// Pause after a write, so that what comes meanwhile is written at once, and offering it wakes nobody.
    pub pause: Duration,
    /// The part of either, one of so many, that ends the pause early once it is taken.
    pub hurry: usize,
}

impl Limits {
    /// Nothing waits, and that not for long.
    pub const NONE: Limits = Limits { items: 0, bytes: 0, pause: Duration::from_millis(10), hurry: 4 };
}

struct State<T> {
    items: Vec<T>,
    bytes: usize,
    /// Since the last write, and in all.
    dropped: [u64; 2],
    /// True while the thread waits for an item, and has to be woken.
    idle: bool,
    ended: bool,
    /// True once the thread has written everything and is gone.
    written: bool,
}

impl<T> State<T> {
    /// Returns whether enough waits to be written without a pause.
    fn is_much(&self, limits: Limits) -> bool {
        self.items.len() > limits.items / limits.hurry || self.bytes > limits.bytes / limits.hurry
    }
}

impl<T: Send + 'static> LogQueue<T> {
    /// Starts the thread `name`, which writes to `sink`.
    pub fn start(name: &str, limits: Limits, sink: impl Sink<T>) -> std::io::Result<LogQueue<T>> {
        let state =
            State { items: Vec::new(), bytes: 0, dropped: [0; 2], idle: false, ended: false, written: false };
        let shared = Arc::new(Shared { limits, state: Mutex::new(state), changed: Condvar::new() });
        let of = shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || of.run(sink))?;
        Ok(LogQueue { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues an item of `bytes` bytes; drops and counts it if the queue is full, and returns false. Never waits.
    pub fn offer(&self, item: T, bytes: usize) -> bool {
        let Limits { items: most, bytes: most_bytes, .. } = self.shared.limits;
        let mut state = self.shared.state();
        if state.ended || state.items.len() >= most || bytes > most_bytes.saturating_sub(state.bytes) {
            state.dropped.iter_mut().for_each(|count| *count += 1);
            return false;
        }
        let was_much = state.is_much(self.shared.limits);
        state.items.push(item);
        state.bytes += bytes;
        let hurry = !was_much && state.is_much(self.shared.limits);
        let wake = std::mem::take(&mut state.idle) || hurry;
        drop(state);
        if wake {
            self.shared.changed.notify_all();
        }
        true
    }

    /// Returns the number of items that were not accepted.
    pub fn dropped(&self) -> u64 {
        self.shared.state().dropped[1]
    }

    /// Accepts nothing any more, and waits until everything is written, `within` at most. Returns whether it is.
    pub fn finish(&self, within: Duration) -> bool {
        let mut state = self.shared.state();
        state.ended = true;
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, within, |state| !state.written);
        let written = waited.unwrap_or_else(PoisonError::into_inner).0.written;
        if written && let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It has nothing left to do; a panic would have been reported.
            let _panicked = thread.join();
        }
        written
    }
}

impl<T> Drop for LogQueue<T> {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut sink: impl Sink<T>) {
        let _written = Written(self);
        loop {
            let mut state = self.wait(sink.next_call());
            let ended = state.ended;
            let (items, dropped) = (std::mem::take(&mut state.items), std::mem::take(&mut state.dropped[0]));
            state.bytes = 0;
            drop(state);
            sink.write(items, dropped);
            if ended {
                return;
            }
            let state = self.state();
            let may_wait = |state: &mut State<T>| !state.ended && !state.is_much(self.limits);
            drop(self.changed.wait_timeout_while(state, self.limits.pause, may_wait));
        }
    }

    /// Waits for something to write, until `next` at most.
    fn wait(&self, next: Option<Instant>) -> MutexGuard<'_, State<T>> {
        let mut state = self.state();
        loop {
            if state.ended || !state.items.is_empty() || state.dropped[0] > 0 {
                state.idle = false;
                return state;
            }
            state.idle = true;
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.idle = false;
                    return state;
                }
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Tells that the thread has ended, however it does.
struct Written<'a, T>(&'a Shared<T>);

impl<T> Drop for Written<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        state.written = true;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LIMITS: Limits = Limits { items: 8, bytes: 100, ..Limits::NONE };
    const SOON: Duration = Duration::from_secs(60);

    /// Passes on what it is to write, each time once it is let.
    struct Slow {
        let_through: mpsc::Receiver<()>,
        written: mpsc::Sender<(Vec<u32>, u64)>,
    }

    impl Sink<u32> for Slow {
        fn write(&mut self, items: Vec<u32>, dropped: u64) {
            let _let = self.let_through.recv();
            let _gone = self.written.send((items, dropped));
        }
    }

    struct Kept(mpsc::Sender<(Vec<u32>, u64)>, Option<Instant>);

    impl Sink<u32> for Kept {
        fn write(&mut self, items: Vec<u32>, dropped: u64) {
            self.1 = None;
            let _gone = self.0.send((items, dropped));
        }

        fn next_call(&self) -> Option<Instant> {
            self.1
        }
    }

    #[test]
    fn what_is_offered_is_written_in_order_to_the_end() {
        let (sender, written) = mpsc::channel();
        let queue = LogQueue::start("test", Limits { items: 1000, ..LIMITS }, Kept(sender, None)).unwrap();
        (0..100).for_each(|number| assert!(queue.offer(number, 1)));
        assert!(queue.finish(SOON));
        let all: Vec<u32> = written.iter().flat_map(|(items, _)| items).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        queue.offer(100, 1);
        assert_eq!(queue.dropped(), 1, "it has ended");
    }

    #[test]
    fn a_sink_that_stands_still_holds_nobody_up_and_is_told_what_it_missed() {
        let (let_one, let_through) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let queue = LogQueue::start("test", LIMITS, Slow { let_through, written: sender }).unwrap();
        queue.offer(0, 1);
        // The thread takes the first and stands; then eight fit.
        while !queue.shared.state().items.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!((1..=10).filter(|number| queue.offer(*number, 1)).count(), 8);
        assert_eq!(queue.dropped(), 2);
        (0..3).for_each(|_| let_one.send(()).unwrap());
        assert!(queue.finish(SOON));
        drop(queue);
        let all: Vec<_> = written.iter().filter(|(items, _)| !items.is_empty()).collect();
        assert_eq!(all, [(vec![0], 0), ((1..=8).collect(), 2)]);
    }

    #[test]
    fn sizes_count_too() {
        let (let_one, let_through) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let queue = LogQueue::start("test", LIMITS, Slow { let_through, written: sender }).unwrap();
        queue.offer(0, 1);
        while !queue.shared.state().items.is_empty() {
            std::thread::yield_now();
        }
        queue.offer(1, 101);
        queue.offer(2, 60);
        queue.offer(3, 60);
        queue.offer(4, 40);
        assert_eq!(queue.dropped(), 2);
        drop(let_one);
        assert!(queue.finish(SOON));
        drop(queue);
        assert_eq!(written.iter().flat_map(|(items, _)| items).collect::<Vec<_>>(), [0, 2, 4]);
    }

    #[test]
    fn one_that_never_ends_is_not_waited_for_longer_than_allowed() {
        let (_let_one, let_through) = mpsc::channel();
        let (sender, _written) = mpsc::channel();
        let queue = LogQueue::start("test", LIMITS, Slow { let_through, written: sender }).unwrap();
        queue.offer(0, 1);
        assert!(!queue.finish(Duration::from_millis(1)));
    }

    #[test]
    fn a_sink_is_called_at_its_time() {
        let (sender, written) = mpsc::channel();
        let queue = LogQueue::<u32>::start("test", LIMITS, Kept(sender, Some(Instant::now()))).unwrap();
        assert_eq!(written.recv_timeout(SOON).unwrap(), (Vec::new(), 0));
        assert!(queue.finish(SOON));
    }
}
