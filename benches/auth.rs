//! Cost of what a token adds to a request: admitted by its headers, checked for its model. `cargo bench --bench auth`

#![allow(clippy::print_stdout)] // This is a command-line program.

use servable::auth::{Auth, Need};
use servable::error::Error;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::{Duration, Instant};

const REQUESTS: u32 = 1_000_000;
const SALT: &str = "0123456789ab";
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn main() -> Result<(), Error> {
    println!("{:<44}  {:>12}", "case", "ns");
    for threads in [1, 2] {
        for (name, tokens, settings) in [
            ("one token", 1, "models=*"),
            ("ten thousand tokens", 10_000, "models=*"),
            ("models by pattern", 1, "models=resnet*,half_*,*_two"),
            ("with a rate", 1, "models=* rate=1000000/s burst=1000000"),
            ("with a limit of those in flight", 1, "models=* in_flight=1000"),
        ] {
            let auth = auth(tokens, settings)?;
            println!(
                "{:<44}  {:>12.1}",
                format!("{name}, {threads} threads"),
                nanoseconds(&auth, threads, tokens)
            );
        }
    }
    Ok(())
}

/// Makes `tokens` tokens of the same secret.
fn auth(tokens: usize, settings: &str) -> Result<Auth, Error> {
    let digest = Sha256::new().chain_update(SALT).chain_update(SECRET).finalize();
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = |index| format!("client-{index} sha256:{SALT}:{hash} scopes=predict {settings}\n");
    Auth::of_text(&(0..tokens).map(line).collect::<String>())
}

/// Returns nanoseconds per request on each of `threads` threads.
fn nanoseconds(auth: &Auth, threads: usize, tokens: usize) -> f64 {
    let shown: Vec<String> =
        (0..tokens).map(|index| format!("Bearer servable.client-{index}.{SECRET}")).collect();
    let took = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| requests(auth, &shown))).collect();
        runs.into_iter().filter_map(|run| run.join().ok()).max().unwrap_or_default()
    });
    took.as_nanos() as f64 / f64::from(REQUESTS)
}

fn requests(auth: &Auth, shown: &[String]) -> Duration {
    let begin = Instant::now();
    for index in 0..REQUESTS as usize {
        let header = black_box(shown)[index % shown.len()].as_bytes();
        let pass = auth.admit(|name| (name == "authorization").then_some(header)).ok();
        let allowed = auth.check(pass.as_ref(), Need::Predict(black_box("half_plus_two")));
        let _dropped = black_box((allowed, pass));
    }
    begin.elapsed()
}
