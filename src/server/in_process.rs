//! Requests of the process that the server is a part of, as clients would have sent them: their futures, and the threads
//! on which those go on that have to wait.

use super::{Running, Server, cannot_start, grpc, rest};
use crate::connections::{Connection, Slot};
use crate::error::{Error, Kind, Result};
use crate::host::priority;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError};
use tokio::runtime::{Builder, Handle, Runtime};

/// What answers such requests while the server runs.
pub(super) struct InProcess {
    pub(super) rest: Arc<rest::RestService>,
    pub(super) grpc: Arc<grpc::GrpcService>,
}

/// The answer to a request once it is there, and its place among the connections: the server does not stop before both
/// are dropped, or its grace is over. To be polled with [`Server::own_threads`] entered.
pub type Answering<T> = Pin<Box<dyn Future<Output = (T, Slot)> + Send>>;

/// Returns what `answer` makes, in `slot`. No other connection needs its place: all of the request is there.
fn answering<T, F: Future<Output = T> + Send + 'static>(
    slot: Slot,
    answer: impl FnOnce(Arc<Connection>) -> F,
) -> Answering<T> {
    let (busy, answer) = (slot.connection.answering(), answer(slot.connection.clone()));
    Box::pin(async move {
        let answer = answer.await;
        drop(busy);
        (answer, slot)
    })
}

impl Server {
    /// Answers a request to REST. Fails once the server stops.
    pub fn ask_rest(
        &self,
        asked: rest::in_process::Asked<'_>,
    ) -> Result<Answering<rest::in_process::Answered>> {
        let (slot, service) = self.entered(|own| own.rest.clone())?;
        let read = rest::in_process::read(asked);
        Ok(answering(slot, |connection| async move { service.answer_own(read, connection).await }))
    }

    /// Answers a call of gRPC. Fails once the server stops.
    pub fn ask_grpc(
        &self,
        asked: grpc::in_process::Asked<'_>,
    ) -> Result<Answering<grpc::in_process::Answered>> {
        let (slot, service) = self.entered(|own| own.grpc.clone())?;
        let read = grpc::in_process::read(asked);
        Ok(answering(slot, |connection| async move { service.answer_own(read, connection).await }))
    }

    /// Counts a request as a connection, so that a server that stops waits for it.
    fn entered<T>(&self, service: impl FnOnce(&InProcess) -> T) -> Result<(Slot, T)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { connections, in_process, .. }) = &*running else {
            return Err(Error::new(Kind::Unavailable, "The server is stopping, or was not started"));
        };
        // Under the lock: whoever stops the server has taken what runs, and then waits for every slot.
        Ok((connections.accepted(), service(in_process)))
    }

    /// Returns the threads on which requests of the process itself go on, as many as serve connections.
    pub fn own_threads(&self) -> Result<&Handle> {
        self.own_threads.handle(self.state.options.io_threads)
    }
}

/// Threads that begin with the first request that needs them.
#[derive(Default)]
pub(super) struct OwnThreads(OnceLock<Runtime>);

impl OwnThreads {
    fn handle(&self, most: usize) -> Result<&Handle> {
        if self.0.get().is_none() {
            let made = Builder::new_multi_thread()
                .worker_threads(most.max(1))
                .thread_name("servable-own")
                .on_thread_start(priority::prompt)
                .enable_time()
                .build()
                .map_err(|why| cannot_start(&why))?;
            if let Err(second) = self.0.set(made) {
                second.shutdown_background();
            }
        }
        let none = || Error::internal("The threads for the process' own requests are gone");
        self.0.get().map(Runtime::handle).ok_or_else(none)
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Whoever drops the server may hold what a request waits for, such as Python's lock.
            runtime.shutdown_background();
        }
    }
}
