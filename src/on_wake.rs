//! A future that is polled only once it has been woken.
//!
//! A task polls all its futures, whatever woke it. Without this, what a connection waits for all its life (the end of the
//! server, the end of its idle time) would be polled with every request.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The future, in a box. Polling it costs a few instructions until something wakes it.
pub(crate) struct OnWake<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The bell, as a `Waker` for the future.
    waker: Waker,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

/// Remembers that the future was woken, and wakes its task.
struct Bell {
    has_rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        let task = self.task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> OnWake<F> {
    /// Wraps `future`, whose first poll needs no wake.
    pub(crate) fn new(future: F) -> OnWake<F> {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: Mutex::new(None) });
        OnWake { future: Box::pin(future), waker: bell.clone().into(), bell, task: None }
    }
}

impl<F: Future> Future for OnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            // Before the bell is looked at: from here on, it wakes this task.
            self.bell.task().clone_from(&self.task);
        }
        if !self.bell.has_rung.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.bell.has_rung.swap(false, Ordering::AcqRel);
        let OnWake { future, waker, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_at_first_and_when_woken() {
        let (polls, inner) = (AtomicUsize::new(0), Mutex::new(None::<Waker>));
        let future = poll_fn(|cx| {
            *inner.lock().unwrap() = Some(cx.waker().clone());
            if polls.fetch_add(1, Ordering::Relaxed) == 2 { Poll::Ready(7) } else { Poll::Pending }
        });
        let (first, second) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let mut waiting = pin!(OnWake::new(future));
        let mut poll =
            |task: &Arc<Task>| waiting.as_mut().poll(&mut Context::from_waker(&task.clone().into()));
        let wake = || inner.lock().unwrap().clone().unwrap().wake();
        for _ in 0..3 {
            assert_eq!(poll(&first), Poll::Pending);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        wake();
        assert_eq!((first.0.load(Ordering::Relaxed), polls.load(Ordering::Relaxed)), (1, 1));
        // The task that polls last is the one to wake.
        for _ in 0..3 {
            assert_eq!(poll(&second), Poll::Pending);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 2);
        wake();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(poll(&second), Poll::Ready(7));
    }

    #[test]
    fn what_wakes_itself_while_it_is_polled_is_polled_again() {
        let polls = AtomicUsize::new(0);
        let future = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if polls.fetch_add(1, Ordering::Relaxed) == 1 { Poll::Ready(()) } else { Poll::Pending }
        });
        let task = Arc::new(Task::default());
        let waker = task.clone().into();
        let mut waiting = pin!(OnWake::new(future));
        assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
    }

    #[tokio::test]
    async fn no_wake_from_another_thread_is_lost() {
        for _ in 0..200 {
            let notify = Arc::new(Notify::new());
            let notified = notify.clone();
            let other = std::thread::spawn(move || notified.notify_one());
            OnWake::new(notify.notified()).await;
            other.join().unwrap();
        }
    }
}
