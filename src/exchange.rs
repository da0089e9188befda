//! One request and its answer, whatever it asks for: identified, and observed from its head to its end.
//!
//! A protocol begins it with what its head says ([`Exchange::begin`]) and ends it with the answer ([`Exchange::end`]).
//! Then it is given to the access log and to its trace, as far as these want it. A request whose client leaves is given
//! to them, too.

use crate::access::id::{self, RequestId};
use crate::access::{AccessLog, End, Ended, Entry, Head, Traced};
use crate::peer::Sender;
use crate::telemetry::Traces;
use crate::timeline::Timeline;
use crate::trace_context::{self, TRACE_PARENT, TRACE_STATE, TraceContext};
use std::sync::Arc;

/// The identifiers that are returned with answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIds {
    /// None.
    #[default]
    Off,
    /// Those that clients sent.
    Given,
    /// Those, and others for requests that came without, if they are logged or traced: of others, nobody would know them.
    Told,
    /// Those, and others for all requests that came without.
    All,
}

/// Name of the header with the identifier of a request.
pub const REQUEST_ID: &str = "x-request-id";

/// Who wants to know of requests.
#[derive(Clone, Copy, Default)]
pub struct Observers<'a> {
    /// The access log.
    pub log: Option<&'a Arc<AccessLog>>,
    /// The traces.
    pub traces: Option<&'a Arc<Traces>>,
    /// True if metrics do.
    pub metrics: bool,
    /// Whether clients want identifiers.
    pub ids: RequestIds,
}

/// What a request asks for, in the words of its protocol.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// The client, and the proxy that named it.
    pub sender: Sender,
    /// The name in the client's certificate, which has been verified.
    pub certified: Option<&'a Arc<str>>,
    /// `GET`, `Predict`.
    pub method: &'a str,
    /// The path.
    pub path: Option<&'a str>,
    /// `http` or `https`, of what is told as a request of HTTP.
    pub scheme: Option<&'static str>,
}

/// A request that is being answered.
#[derive(Default)]
pub struct Exchange {
    /// The identifier to return with the answer, if any.
    id: Option<RequestId>,
    observed: Option<Observed>,
    /// True if metrics want to know of it.
    counted: bool,
    /// Its span, if that is recorded by anybody.
    exemplar: Option<TraceContext>,
}

/// A request that is told of once this is dropped.
struct Observed {
    entry: Arc<Entry>,
    log: Option<Arc<AccessLog>>,
    traces: Option<Arc<Traces>>,
    end: Option<End>,
}

impl Exchange {
    /// Begins a request, of which `header` returns the headers of a name.
    pub fn begin<'h, H: Iterator<Item = &'h [u8]>>(
        observers: &Observers<'_>,
        asked: Asked<'_>,
        header: impl Fn(&'static str) -> H,
    ) -> Exchange {
        let Observers { log, traces, metrics, ids } = *observers;
        let log = log.filter(|log| log.chooses());
        let parent = match (log, traces, metrics) {
            (None, None, false) => None,
            _ => TraceContext::of(header(TRACE_PARENT)),
        };
        let sampled = traces.and_then(|traces| Some((traces, traces.sample(parent)?)));
        let span = sampled.map_or(parent, |(_, (span, _))| Some(span));
        let exemplar = span.filter(|span| metrics && span.sampled);
        let is_told = log.is_some() || sampled.is_some();
        let given = if is_told || ids != RequestIds::Off { header(REQUEST_ID).next() } else { None };
        let given = given.filter(|id| id::is_sane(id)).map(RequestId::from_slice);
        let makes = ids == RequestIds::All || (is_told && ids == RequestIds::Told);
        let known = given.or_else(|| makes.then(id::made));
        let id = known.clone().filter(|_| ids != RequestIds::Off);
        let observed = is_told.then(|| {
            let head = Head {
                protocol: asked.protocol,
                sender: asked.sender,
                certified: asked.certified.cloned(),
                id: known.unwrap_or_else(id::made),
                trace: span,
                scheme: asked.scheme,
            };
            let state = |parent| if parent { trace_context::state(header(TRACE_STATE)) } else { None };
            let traced =
                |(span, parent): (_, Option<_>)| Traced { span, parent, state: state(parent.is_some()) };
            let traced = sampled.map(|(_, place)| traced(place));
            let entry = Arc::new(Entry::begin(head, asked.method, asked.path, exemplar, traced));
            Observed {
                entry,
                log: log.cloned(),
                traces: sampled.map(|(traces, _)| traces.clone()),
                end: None,
            }
        });
        Exchange { id, observed, counted: metrics, exemplar }
    }

    /// Returns what goes with the request's context.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        self.observed.as_ref().map(|observed| &observed.entry)
    }

    /// Returns the record of its phases, if anybody wants one. Asked for once: when the body is there, of `bytes` bytes.
    pub fn received(&self, bytes: usize) -> Option<Arc<Timeline>> {
        let timeline = match self.entry() {
            Some(entry) => entry.timeline.clone(),
            None if self.counted => Arc::new(Timeline::begin(self.exemplar, false)),
            None => return None,
        };
        timeline.received(bytes);
        Some(timeline)
    }

    /// Ends the request with `status`, in the terms of its protocol, and an answer of `bytes` bytes. `code`: the
    /// canonical one, where the protocol knows it; otherwise it is that with which the model's answer ended. Returns the
    /// identifier to return with the answer, if any.
    pub fn end(self, status: u16, code: Option<&'static str>, bytes: u64) -> Option<RequestId> {
        if let Some(mut observed) = self.observed {
            let code = code.or_else(|| observed.entry.code());
            observed.end = Some(End { status: Some(status), code, bytes, took: observed.entry.took() });
        }
        self.id
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let left = || End { status: None, code: Some("CANCELLED"), bytes: 0, took: self.entry.took() };
        let end = self.end.take().unwrap_or_else(left);
        let ended = Ended { entry: self.entry.clone(), end };
        if let Some(traces) = &self.traces {
            traces.offer(ended.clone());
        }
        if let Some(log) = &self.log {
            log.log(ended);
        }
    }
}
