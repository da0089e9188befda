//! Warm-up without known requests: a call with values that are made up ([`crate::methods::sample`]).

use super::{Threads, repeat};
use crate::context::Context;
use crate::engine::Endpoint;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Kind, Result};
use crate::methods::sample::{self, SCALES, Scale};
use crate::metrics::Api;
use crate::servable::{Run, Servable};
use crate::tensor::Tensor;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time after which a call is given up.
const LONGEST: Duration = Duration::from_secs(5);

/// A signature without warm-up, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cold {
    signature: String,
    why: String,
}

/// Calls every signature that is safe to call, except those already `warm`, and returns those that stay cold. A failure
/// does not fail the load: the model may need other values.
pub(super) fn call(
    servable: &Arc<Servable>,
    threads: &dyn Fn() -> Threads,
    warm: impl Fn(&str) -> bool,
) -> Vec<Cold> {
    let callable = servable.signatures().values().filter(|signature| {
        // TensorFlow keeps the targets that initialise a model as signatures without inputs.
        !signature.inputs.is_empty() && !signature.outputs.is_empty() && !warm(&signature.name)
    });
    let cold = |signature: &Signature| {
        let why = call_one(servable, threads(), signature).err()?;
        Some(Cold { signature: signature.name.to_string(), why })
    };
    callable.filter_map(cold).collect()
}

/// Calls `signature`, at each scale until it succeeds. Fails with the reason why it stays cold.
fn call_one(servable: &Arc<Servable>, threads: Threads, signature: &Signature) -> Result<(), String> {
    if !servable.changes_nothing(&signature.name) {
        return Err("a run may change something".to_owned());
    }
    if !servable.ends(&signature.name) {
        return Err("a run may not end, and could not be stopped".to_owned());
    }
    let fetches = signature.outputs.iter().map(|spec| servable.endpoint(spec)).collect::<Result<Vec<_>>>();
    let fetches = fetches.map_err(|why| first_line(&why))?;
    let mut first = None;
    for scale in &SCALES[..if scales(servable, signature) { SCALES.len() } else { 1 }] {
        let failed = match feeds(servable, signature, *scale) {
            Ok(feeds) => {
                let (of, name, fetches) = (servable.clone(), signature.name.clone(), fetches.clone());
                let call = move || run(&of, &name, &feeds, &fetches);
                match repeat(servable, &signature.name, threads, call) {
                    Ok(()) => return Ok(()),
                    Err(why) => why,
                }
            }
            // What is too large at one scale is so at the next.
            Err(why) => return Err(first.unwrap_or(why)),
        };
        first.get_or_insert(format!("a call with made-up values failed: {}", first_line(&failed)));
        if failed.kind == Kind::DeadlineExceeded {
            break;
        }
    }
    Err(first.unwrap_or_default())
}

fn run(
    servable: &Servable,
    signature: &Arc<str>,
    feeds: &[(Endpoint, Tensor)],
    fetches: &[Endpoint],
) -> Result<()> {
    // With these values, a loop may never end.
    let context = Context { deadline: Instant::now().checked_add(LONGEST), ..Context::default() };
    let run = Run {
        api: Api::Other,
        signature: signature.clone(),
        feeds: feeds.to_vec(),
        fetches: fetches.to_vec(),
    };
    servable.run(run, &context).map(drop)
}

fn scales(servable: &Servable, signature: &Signature) -> bool {
    let content = |spec: &TensorSpec| servable.content(&signature.name, &spec.alias);
    signature.inputs.iter().any(|spec| sample::scales(spec, content(spec)))
}

/// Makes a value for every input that has no default; fails with the reason if that is impossible.
fn feeds(
    servable: &Servable,
    signature: &Signature,
    scale: Scale,
) -> Result<Vec<(Endpoint, Tensor)>, String> {
    let feed = |spec: &TensorSpec| {
        let endpoint = servable.endpoint(spec).map_err(|why| first_line(&why))?;
        if let Some(default) = signature.defaults.get(&spec.alias) {
            return Ok((endpoint, default.clone()));
        }
        let content = servable.content(&signature.name, &spec.alias);
        let made = sample::tensor(spec, content, scale);
        Ok((endpoint, made.map_err(|why| format!("input {} {why}", spec.alias))?))
    };
    signature.inputs.iter().map(feed).collect()
}

/// Returns the beginning of an error's text, which may list a whole graph.
fn first_line(why: &Error) -> String {
    const MOST: usize = 200;
    why.message.lines().next().unwrap_or_default().chars().take(MOST).collect()
}

/// Logs which signatures are `cold`, why, and what to do.
pub(super) fn tell(servable: &Servable, cold: &[Cold]) {
    if cold.is_empty() {
        return;
    }
    let each: Vec<String> =
        cold.iter().map(|Cold { signature, why }| format!("{signature} ({why})")).collect();
    tracing::info!(
        "{name} version {}: the first request may be slow, as no warm-up call could be made for {}. `servable warmup \
         record {name}` records real requests as a warm-up file, `servable warmup make PATH --request JSON` writes one",
        servable.version(),
        each.join(", "),
        name = servable.name(),
    );
}

#[cfg(test)]
mod tests;
