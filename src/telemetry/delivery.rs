//! Delivers messages from a thread of its own: tries again as long as that may help and there is time.

use super::client::{Client, Refusal};
use super::settings::Destination;
use crate::chance::random;
use crate::throttled::Throttled;
use bytes::Bytes;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

/// Pauses between tries: the first, which doubles each time, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// Interval, in seconds, at which it is told that something is lost.
const QUIET_SECONDS: u64 = 60;

/// The way to a collector.
pub(super) struct Delivery {
    /// Always there until this is dropped.
    runtime: Option<Runtime>,
    client: Client,
    within: Duration,
    /// What is lost if it cannot be delivered.
    what: &'static str,
    to: String,
    lost: Throttled,
    /// For what waits: it comes of a collector that is away or slow, and is not to hide that.
    too_many: Throttled,
}

impl Delivery {
    /// Prepares for messages of `what`. Nothing is connected yet.
    pub(super) fn new(to: &Destination, what: &'static str) -> Result<Delivery, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
        let client = Client::new(to.clone())?;
        let (lost, too_many) = (Throttled::new(QUIET_SECONDS), Throttled::new(QUIET_SECONDS));
        let (runtime, within, to) = (Some(runtime), to.within, to.to_string());
        Ok(Delivery { runtime, client, within, what, to, lost, too_many })
    }

    /// Delivers `message` and returns the answer; `None` if that fails, of which a line tells.
    pub(super) fn deliver(&mut self, message: &[u8]) -> Option<Bytes> {
        let Delivery { runtime, client, within, .. } = self;
        let delivered = runtime.as_ref()?.block_on(delivered(client, message, *within));
        delivered.inspect_err(|why| self.tell(why)).ok()
    }

    /// Tells, now and then, that something is lost.
    pub(super) fn tell(&self, why: &str) {
        self.warn(&self.lost, why);
    }

    /// Tells, now and then, that what comes of so many requests did not wait to be sent.
    pub(super) fn tell_too_many(&self, requests: u64) {
        self.warn(&self.too_many, &format!("too many wait to be sent: those of {requests} requests"));
    }

    fn warn(&self, throttled: &Throttled, why: &str) {
        if let Some(more) = throttled.pass() {
            let more = if more == 0 {
                String::new()
            } else {
                format!(" ({more} times more since this was said last)")
            };
            tracing::warn!("{} for {} are lost: {why}{more}", self.what, self.to);
        }
    }
}

impl Drop for Delivery {
    /// Leaves a name that is still being looked up to itself: that may take long, and the end of a server has a limit.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn delivered(client: &mut Client, message: &[u8], within: Duration) -> Result<Bytes, String> {
    let until = Instant::now() + within;
    let mut pause = PAUSES[0];
    let mut before = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(answer) = timeout(left, client.send(message)).await else {
            let hangs = || format!("there was no answer within {} s", within.as_secs_f64());
            return Err(before.unwrap_or_else(hangs));
        };
        let Refusal { why, again } = match answer {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let Some(least) = again else { return Err(why) };
        // Those that were refused at the same time do not come back at the same time.
        let wait = pause.mul_f64(0.5 + (random() >> 12) as f64 / (1_u64 << 53) as f64).max(least);
        // A collector may ask for any wait, also for one that no clock has.
        if wait >= until.saturating_duration_since(Instant::now()) {
            return Err(why);
        }
        before = Some(why);
        sleep(wait).await;
        pause = PAUSES[1].min(2 * pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::settings::Settings;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    fn delivery(endpoint: &str) -> Delivery {
        let variable = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.to_owned());
        let traces = Settings::read(&variable).0.unwrap().traces.unwrap();
        Delivery::new(&traces.to, "spans").unwrap()
    }

    #[test]
    fn a_wait_that_no_clock_has_is_not_waited_for() {
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", collector.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = collector.accept().unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).unwrap() > 0);
            let answer =
                format!("HTTP/1.1 503 Busy\r\nretry-after: {}\r\ncontent-length: 0\r\n\r\n", u64::MAX);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_eq!(delivery(&endpoint).deliver(b""), None);
        answering.join().unwrap();
    }

    #[test]
    fn any_success_is_one() {
        for status in ["200 OK", "202 Accepted", "204 No Content"] {
            let collector = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", collector.local_addr().unwrap());
            let answering = std::thread::spawn(move || {
                let (mut stream, _) = collector.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
                stream.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes()).unwrap();
            });
            assert_eq!(delivery(&endpoint).deliver(b""), Some(Bytes::new()), "{status}");
            answering.join().unwrap();
        }
    }

    #[test]
    fn its_end_does_not_wait_for_what_blocks() {
        let delivery = delivery("http://localhost:1");
        let (begins, begun) = mpsc::channel();
        let (let_go, held) = mpsc::channel::<()>();
        delivery.runtime.as_ref().unwrap().spawn_blocking(move || {
            begins.send(()).unwrap();
            let _gone = held.recv();
        });
        begun.recv().unwrap();
        // It would not return before the other ends, which is let go only afterwards.
        drop(delivery);
        drop(let_go);
    }
}
