//! The console on a port of REST: its files are for everybody, what it asks needs a token that may read.

use super::Caller;
use crate::auth::Need;
use crate::console::{self, Console};
use crate::control_plane::Question;
use crate::error::Result;
use crate::http::head::{self, Fields};
use crate::http::reply::{Refusal, Reply};
use crate::http::target;
use crate::methods::ServerState;
use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;

/// Answers a request for something of the console's.
pub(super) async fn answer(console: &Console, server: &ServerState, head: &Parts, client: &Caller) -> Reply {
    let reply = told(console, server, head, client).await.unwrap_or_else(Reply::from);
    Reply { body: reply.body.also(console::PROTECTION), ..reply }
}

async fn told(console: &Console, server: &ServerState, head: &Parts, client: &Caller) -> Result<Reply> {
    let fields = Fields::of(&head.headers);
    if let Some(refusal) = head::refusal(head, &fields, target::of(&head.uri), false) {
        return Ok(refusal.into());
    }
    let path = head.uri.path();
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(wrong_method(&head.method, path));
    }
    if console::is_file(path) {
        return console.file(path, &head.headers);
    }
    let model = model(path);
    server.check(client.pass.as_ref(), model.as_deref().map_or(Need::ReadAll, Need::Read))?;
    let question = Question {
        method: Method::GET.as_str().to_owned(),
        path: path.to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        ..Question::default()
    };
    let _answering = client.connection.answering();
    let reply = console.ask(question, fields.accepts(false), &server.options).await?;
    let memory = Arc::new(client.connection.reserve());
    Ok(Reply { body: reply.body.counted(&memory)?, ..reply })
}

/// Returns the model whose path this is.
fn model(path: &str) -> Option<Cow<'_, str>> {
    let name = path.strip_prefix(console::MODEL)?;
    Some(percent_decode_str(name).decode_utf8_lossy())
}

fn wrong_method(method: &Method, path: &str) -> Reply {
    Refusal::new(405, format!("Method Not Allowed: {method} {path}; the console only looks, by GET")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_model_names_it() {
        assert_eq!(model("/console/api/models/a%2Fb%20c").as_deref(), Some("a/b c"));
        assert_eq!(model("/console/api/models/%FF").as_deref(), Some("\u{FFFD}"));
        assert_eq!((model("/console/api/models"), model("/console/api/server")), (None, None));
    }
}
