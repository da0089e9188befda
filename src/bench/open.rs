//! The open loop: requests are sent at their times, whether or not earlier ones have been answered.
//!
//! Times are counted from when a request should have been sent, so that a server that stands still is charged for all
//! that would have come meanwhile, and the load generator for its own delays.

use super::arrivals::Arrivals;
use super::context::{Context, Turn, Window};
use super::outcome::{Answer, Failed, Failure};
use crate::host::alarm::Alarm;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

/// How long after the end of its time a request that was due before is still sent, if the load generator is late.
const GRACE: Duration = Duration::from_millis(100);

/// Sends requests as they arrive; returns when the time is over and the last has ended. No more than `most` are under
/// way. A load generator that cannot keep up does not go on beyond the time: what is left is counted as not sent.
pub(super) async fn run(context: Rc<Context>, mut arrivals: Arrivals, most: usize) -> Result<(), String> {
    let told = |why: std::io::Error| format!("the clock fails: {why}");
    let mut alarm = Alarm::new().map_err(told)?;
    let mut under_way = JoinSet::new();
    while let Some(at) = arrivals.next() {
        let due = context.window.begun.checked_add(at).unwrap_or(context.window.until);
        let Some(turn) = context.turn(due) else { break };
        let now = Instant::now();
        if now >= context.window.until + GRACE {
            let late = Failed::new(Failure::Unsent, "the time was over before it could be sent");
            context.ended(turn, Err(late.clone()), due.elapsed());
            let Window { begun, from, until } = context.window;
            context.never_sent(arrivals.number_in(from - begun, until - begun), &late);
            break;
        }
        if due > now {
            alarm.until(due).await.map_err(told)?;
        } else {
            // Behind the times: those that are due go first.
            tokio::task::yield_now().await;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() < most {
            under_way.spawn_local(ask(Rc::clone(&context), turn, due));
        } else {
            let text = format!("{most} requests were under way");
            context.ended(turn, Err(Failed::new(Failure::Unsent, text)), due.elapsed());
        }
    }
    if !context.is_spent() {
        // Nothing more is due; the time is over when it is over.
        alarm.until(context.window.until).await.map_err(told)?;
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

async fn ask(context: Rc<Context>, turn: Turn, due: Instant) {
    context.late(turn, due.elapsed());
    let within = timeout_at((due + context.timeout).into(), answered(&context, turn)).await;
    let late = || Err(Failed::new(Failure::Timeout, format!("no answer within {:?}", context.timeout)));
    context.ended(turn, within.unwrap_or_else(|_| late()), due.elapsed());
}

async fn answered(context: &Context, turn: Turn) -> Result<Answer, Failed> {
    let (line, _) = context.pool.take().await?;
    let gone = || Failed::new(Failure::Malformed, "there is no such request");
    context.pool.ask(line, context.mix.get(turn.drawn).ok_or_else(gone)?, 0).await
}
