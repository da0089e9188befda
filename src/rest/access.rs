//! Who may ask: which requests need a token, and how they are refused without a good one.
//!
//! A request is admitted by its head. What is found out of it later, such as the model, is checked where it is found out.

use super::{Caller, RestService, v2};
use crate::auth::Pass;
use crate::console;
use crate::error::{Error, Result};
use crate::exchange::Exchange;
use crate::http::body::RequestBody;
use crate::http::reply::Reply;
use crate::methods::health::Subject;
use http::request::Parts;
use http::{HeaderValue, Method};
use hyper::body::Body as _;

/// Largest announced body that is waited for when its request is refused, in bytes; the connection can then be used again.
const SMALL: u64 = 64 << 10;

/// Admits a request if it shows a valid token, needs none, or nobody does.
pub(super) fn admit(
    service: &RestService,
    client: &Caller,
    head: &Parts,
    exchange: &Exchange,
) -> Result<Option<Pass>> {
    let Some(auth) = &service.server.options.auth else { return Ok(None) };
    if client.is_admitted {
        if let (Some(entry), Some(pass)) = (exchange.entry(), &client.pass) {
            entry.shows(pass.name());
        }
        return Ok(client.pass.clone());
    }
    if is_open(service, head) {
        return Ok(None);
    }
    let pass = auth.admit(|name| head.headers.get(name).map(HeaderValue::as_bytes))?;
    if let Some(entry) = exchange.entry() {
        entry.shows(pass.name());
    }
    Ok(Some(pass))
}

/// Returns whether a request needs no token: probes of the whole server, which orchestrators send without headers; the files
/// of the console, which ask for a token themselves; and what browsers ask before they send a page's request to another origin, which never has one.
fn is_open(service: &RestService, head: &Parts) -> bool {
    match head.method {
        Method::GET | Method::HEAD => {
            let subject = Subject::at(head.uri.path());
            (service.health.is_some() && matches!(subject, Some(Subject::Process | Subject::Server)))
                || (service.open_inference.is_some() && v2::is_open(head.uri.path()))
                || (service.console.is_some() && console::is_file(head.uri.path()))
        }
        Method::OPTIONS => service.server.options.cors,
        _ => false,
    }
}

/// Makes the reply to a request that is not admitted. Its body is not read, but for a small one that is thrown away.
pub(super) async fn refused(error: Error, head: &Parts, body: RequestBody) -> Reply {
    let is_small = body.size_hint().upper().is_some_and(|bytes| bytes <= SMALL);
    if is_small {
        super::drain(head, body).await;
    }
    Reply { close: !is_small, ..error.into() }
}
