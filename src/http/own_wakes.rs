//! Wakes that a connection's request sends to its own connection.
//!
//! hyper hands a body from the connection to the request by a channel, though one task polls both. Whoever takes from
//! the channel wakes the connection, to be sent more, even if there is no more: the task would be polled a second time,
//! in vain, for every request with a body. So a connection is polled with a waker of its own ([`OwnWaker`]), whose wakes
//! can be [`withheld`] while the request takes its body.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// The waker of a connection: wakes its task, unless that is withheld.
#[derive(Debug, Default)]
pub(super) struct OwnWaker(Option<(Arc<Bell>, Waker)>);

#[derive(Debug)]
struct Bell {
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let is_withheld = WITHHELD.with_borrow_mut(|withheld| {
            let Some(woken) = withheld else { return false };
            *woken = Some(self.clone());
            true
        });
        if !is_withheld {
            self.task.wake_by_ref();
        }
    }
}

impl OwnWaker {
    /// Returns the waker for a poll in the task that `task` wakes.
    pub(super) fn of(&mut self, task: &Waker) -> &Waker {
        let own = self.0.take().filter(|(bell, _)| bell.task.will_wake(task));
        let (_, waker) = self.0.insert(own.unwrap_or_else(|| {
            let bell = Arc::new(Bell { task: task.clone() });
            (bell.clone(), bell.into())
        }));
        waker
    }
}

thread_local! {
    /// While wakes are withheld in this thread: the last one.
    static WITHHELD: RefCell<Option<Option<Arc<Bell>>>> = const { RefCell::new(None) };
}

/// A wake that was withheld.
pub(super) struct Withheld(Option<Arc<Bell>>);

impl Withheld {
    /// Passes it on, if there was one.
    pub(super) fn wake(self) {
        if let Some(bell) = self.0 {
            bell.task.wake_by_ref();
        }
    }
}

/// Polls a body with the wake withheld that this thread sends to its connection meanwhile; those of other threads get
/// through. Also returns it, to be passed on unless it is in vain.
pub(super) fn withheld<T>(poll: impl FnOnce() -> T) -> (T, Withheld) {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            WITHHELD.set(None);
        }
    }
    WITHHELD.set(Some(None));
    let _ends = Ends;
    let polled = poll();
    (polled, Withheld(WITHHELD.with_borrow_mut(Option::take).flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arriving::Arriving;
    use crate::config::Options;
    use crate::http::body;
    use crate::memory::Reservation;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Context;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn only_wakes_of_the_same_thread_are_withheld_and_told() {
        let task = Arc::new(Task::default());
        let woken = || task.0.load(Relaxed);
        let mut own = OwnWaker::default();
        let waker = own.of(&task.clone().into()).clone();
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        let (polled, none) = withheld(|| 7);
        none.wake();
        assert_eq!((polled, woken()), (7, 1));
        let ((), one) = withheld(|| waker.wake_by_ref());
        assert_eq!(woken(), 1);
        one.wake();
        assert_eq!(woken(), 2);
        let by_another =
            || std::thread::scope(|threads| threads.spawn(|| waker.wake_by_ref()).join().unwrap());
        let ((), none) = withheld(by_another);
        assert_eq!(woken(), 3);
        none.wake();
        let panicked = std::panic::catch_unwind(|| withheld(|| panic!("of the test")));
        assert!(panicked.is_err());
        waker.wake_by_ref();
        assert_eq!(woken(), 4, "nothing is withheld after a panic");
    }

    /// Sends the pieces of a request, polling its connection only when that is woken; returns the answer, and the number
    /// of polls.
    async fn polls(pieces: &[&str]) -> (String, usize) {
        let (near, mut far) = tokio::io::duplex(4096);
        let answer = service_fn(async |request: Request<Incoming>| {
            let memory = Reservation::default();
            let body =
                body::read(Arriving::over_http1(request.into_body()).into(), &Options::closed(), &memory, 0)
                    .await
                    .unwrap();
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        });
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(near), answer));
        let (mut own, task, mut polls) = (OwnWaker::default(), Arc::new(Task::default()), 0);
        let waker = task.clone().into();
        for piece in pieces {
            far.write_all(piece.as_bytes()).await.unwrap();
            let mut woken = polls == 0 || task.0.swap(0, Relaxed) > 0;
            while std::mem::take(&mut woken) {
                polls += 1;
                assert!(connection.as_mut().poll(&mut Context::from_waker(own.of(&waker))).is_pending());
                woken = task.0.swap(0, Relaxed) > 0;
            }
        }
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(30), far.read(&mut answer)).await;
        let length = read.unwrap_or_else(|_| panic!("a wake was lost: {pieces:?}")).unwrap();
        (String::from_utf8_lossy(&answer[..length]).into_owned(), polls)
    }

    #[tokio::test]
    async fn a_body_that_has_arrived_costs_no_second_poll_and_others_are_read_to_their_end() {
        let sized = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n";
        let (answer, count) = polls(&[&format!("{sized}[12]")]).await;
        assert!(answer.ends_with("[12]") && count == 1, "{count}: {answer}");
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        for pieces in [
            &[sized, "[12]"][..],
            &[sized, "[1", "2]"],
            &[&format!("{sized}[1"), "2", "]"],
            &[&format!("{chunked}2\r\n[1\r\n2\r\n2]\r\n0\r\n\r\n")],
            &[chunked, "2\r\n[1\r\n", "2\r\n2]\r\n", "0\r\n\r\n"],
        ] {
            let (answer, _) = polls(pieces).await;
            assert!(answer.ends_with("[12]"), "{pieces:?}: {answer}");
        }
    }

    #[test]
    fn it_follows_its_task() {
        let tasks = [Arc::new(Task::default()), Arc::new(Task::default())];
        let mut own = OwnWaker::default();
        let first = own.of(&tasks[0].clone().into()).clone();
        assert!(own.of(&tasks[0].clone().into()).will_wake(&first), "the same task has the same waker");
        own.of(&tasks[1].clone().into()).wake_by_ref();
        first.wake();
        assert_eq!(tasks.map(|task| task.0.load(Relaxed)), [1, 1]);
    }
}
