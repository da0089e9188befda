//! The console: the web page that the server brings along, on the REST port and at the administration's address.
//!
//! Its [`files`] are served from memory. What it asks of the server, below `/console/api/`, the control plane answers, but for
//! the [`traffic`] of the last hour. At the administration's address that takes the way of all its requests ([`crate::admin`]);
//! on the REST port there is a desk for it ([`Console::ask`]).

pub mod files;
mod traffic;

pub use traffic::with_traffic;

use crate::config::Options;
use crate::control_plane::{Desk, Handler, NoPlace, Question, Refused};
use crate::error::{Error, Kind, Result};
use crate::http::coding::Accepts;
use crate::http::reply::{Body, Content, Reply};
use files::Files;
use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// The beginning of the paths of what the page asks.
pub const API: &str = "/console/api/";
/// That of one model.
pub const MODEL: &str = "/console/api/models/";

/// The beginning of the paths of the console, but for its page.
const BELOW: &str = "/console/";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What every answer of the console says to browsers: the page loads nothing from elsewhere, asks nobody else, and is shown in
/// no other page.
pub(crate) const PROTECTION: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
             media-src 'self' blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (PERMISSIONS_POLICY, HeaderValue::from_static("camera=(self)")),
];

/// The console on a port of REST.
pub struct Console {
    files: Files,
    handler: Handler,
    desk: Desk,
}

impl Console {
    /// Serves `files`; `handler` answers what the page asks, at `desk`.
    pub fn new(files: Files, handler: Handler, desk: Desk) -> Console {
        Console { files, handler, desk }
    }

    /// Returns the file at `path` for a request with these `headers`.
    pub(crate) fn file(&self, path: &str, headers: &HeaderMap) -> Result<Reply> {
        self.files.reply(path, headers)
    }

    /// Answers no more questions. Returns whether none is being answered.
    pub fn close(&self) -> bool {
        self.desk.close()
    }

    /// Has the control plane answer a question, which its sender may ask.
    pub(crate) async fn ask(&self, question: Question, accepts: Accepts, options: &Options) -> Result<Reply> {
        let place = self.desk.take().map_err(|why| match why {
            NoPlace::Closed => Error::new(Kind::Unavailable, "The server is stopping"),
            NoPlace::Taken => {
                let most = self.desk.most();
                Error::new(
                    Kind::Unavailable,
                    format!("{most} requests of consoles are being answered: try again"),
                )
            }
        })?;
        let (handler, smallest) = (self.handler.clone(), options.gzip_min_bytes);
        let work = move || -> Result<_, Refused> {
            let _place = place;
            let answer = handler(&question)?;
            Ok((answer.content_type, Body::coded_from(Content::Written(answer.bytes), accepts, smallest)))
        };
        let (content_type, body) = self.desk.run(work).await?.map_err(|refused| {
            let Refused { kind, message, hint } = refused;
            Error::new(kind, if hint.is_empty() { message } else { format!("{message}: {hint}") })
        })?;
        let any = HeaderValue::from_static("application/octet-stream");
        let content_type = HeaderValue::from_str(&content_type).unwrap_or(any);
        let body = body.described(vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        Ok(Reply { status: 200, content_type, body, close: false, retry_after: None })
    }
}

/// Returns whether `path`, without a query, is one of the console's.
pub fn is_at(path: &str) -> bool {
    path == "/" || path.starts_with(BELOW)
}

/// Returns whether it is that of a file, which everybody may have: it tells nothing of the server.
pub fn is_file(path: &str) -> bool {
    is_at(path) && !path.starts_with(API)
}

/// Puts what every answer of the console says to browsers into its `headers`.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in PROTECTION {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_open_and_questions_are_not() {
        for path in ["/", "/console/index-1.js", "/console/api", "/console/"] {
            assert!(is_at(path) && is_file(path), "{path}");
        }
        for path in ["/console/api/", "/console/api/models/a"] {
            assert!(is_at(path) && !is_file(path), "{path}");
        }
        for path in ["", "/console", "/consoles/x", "/admin/models", "/v1/models/m", "//", "/Console/x"] {
            assert!(!is_at(path) && !is_file(path), "{path}");
        }
    }

    #[test]
    fn every_answer_is_protected_once() {
        let mut headers = HeaderMap::new();
        protect(&mut headers);
        protect(&mut headers);
        assert_eq!(headers.get_all(CONTENT_SECURITY_POLICY).iter().count(), 1);
        assert!(
            headers[CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; script-src 'self';")
        );
        assert_eq!(headers.len(), 4);
    }
}
