//! The closed loop: each caller sends its next request when it has the answer to the one before.

use super::context::Context;
use super::patience::Patience;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Pauses after a connection that could not be opened: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Starts this thread's callers.
pub(super) fn start(context: &Rc<Context>, callers: usize, tasks: &mut JoinSet<()>) {
    for _ in 0..callers {
        tasks.spawn_local(caller(Rc::clone(context)));
    }
}

async fn caller(context: Rc<Context>) {
    let mut patience = Patience::new(context.timeout);
    let mut pause = PAUSES.0;
    let mut now = Instant::now();
    while let Some(turn) = context.turn(now) {
        let Some(request) = context.mix.get(turn.drawn) else { break };
        let line = patience.within(now, context.pool.take()).await;
        let outcome = match line {
            Ok((line, is_new)) => {
                pause = PAUSES.0;
                if is_new {
                    // A caller is a client that has its connection: opening it is no part of a request.
                    now = Instant::now();
                }
                patience.within(now, context.pool.ask(line, request, 0)).await
            }
            Err(failed) => {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSES.1);
                Err(failed)
            }
        };
        let then = std::mem::replace(&mut now, Instant::now());
        context.ended(turn, outcome, now - then);
    }
}
