//! One request, without a load: for a model's metadata, and to see whether requests are answered at all.

use super::outcome::{Failed, Failure};
use super::patience::Patience;
use super::pool::Pool;
use super::target::{Target, Wanted};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Most bytes of an answer.
const MOST: usize = 64 << 20;

/// Sends a request, and returns the body or message of its answer.
pub fn ask(target: &Target, wanted: &Wanted, timeout: Duration) -> Result<Vec<u8>, Failed> {
    let none = |text| Failed::new(Failure::Connect, text);
    let pool = Pool::new(target.connector().map_err(none)?, target.wire, 1);
    let request = target.prepared(wanted).map_err(none)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| none(why.to_string()))?;
    LocalSet::new().block_on(&runtime, async {
        let asked = async {
            let (line, _) = pool.take().await?;
            pool.ask(line, &request, MOST).await
        };
        let answer = Patience::new(timeout).within(Instant::now(), asked).await?;
        Ok(answer.body)
    })
}
