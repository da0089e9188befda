//! A call of a minimal protocol: how it is counted and recorded, and how it ends early.

mod batched;

use super::*;
use crate::auth::Auth;
use crate::batch;
use crate::batch::Scheduler;
use crate::config::Options;
use crate::engine::fake::{self, Fake};
use crate::engine::signature::DEFAULT_SIGNATURE;
use crate::engine::{Engine, LoadOptions, Model};
use crate::error::Kind;
use crate::methods::record::{RecordLimits, Recorder};
use crate::metrics::{Api, Metrics};
use crate::registry::{Registry, VersionChoice};
use crate::servable::Resources;
use crate::servable::placement::Policy;
use crate::tensor::{DType, Tensor};
use crate::timeline::Timeline;
use crate::traffic_split::rules::{Rules, Target};
use std::future::{pending, ready};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A call that fetches `sum` and `difference` of two equal numbers.
struct Doubling {
    spec: ModelSpec,
    small: bool,
    /// True if the signature is known before the call is decoded.
    named: bool,
    /// If set, decoding sends "decoding" here, blocks until the call is cancelled, and sends "cancelled".
    stuck: Option<Sender<&'static str>>,
    fails: bool,
    /// Name of the thread that decoded it.
    decoded_in: Option<String>,
}

/// Returns the name of the calling thread.
fn thread() -> Option<String> {
    std::thread::current().name().map(str::to_owned)
}

impl Call for Doubling {
    const PROTOCOL: Protocol = Protocol::Grpc;
    const BODY_FIRST: bool = false;
    /// The aliases; whether the call was decoded, and whether it was encoded, on a thread of the scheduler.
    type Reply = (Vec<String>, bool, bool);

    fn spec(&self) -> Result<&ModelSpec> {
        Ok(&self.spec)
    }

    fn counted(&self) -> Counted {
        Counted::Request(Api::Predict)
    }

    fn sent(_: &Self::Reply) -> usize {
        0
    }

    fn signature(&self) -> Option<&str> {
        self.named.then_some(DEFAULT_SIGNATURE)
    }

    fn is_small(&self) -> bool {
        self.small
    }

    fn decode(
        &mut self,
        _: &ServerState,
        servable: Result<&Servable, &Error>,
        context: &Context,
    ) -> Result<Request> {
        if let Some(stuck) = &self.stuck {
            stuck.send("decoding").unwrap();
            while !context.cancelled.is_set() {
                std::thread::yield_now();
            }
            stuck.send("cancelled").unwrap();
        }
        servable.map_err(Error::clone)?;
        self.decoded_in = thread();
        let one = Tensor::numbers(DType::Float, vec![1], 1_f32.to_le_bytes().to_vec().into());
        let inputs = if self.fails { vec![one] } else { vec![one.clone(), one] };
        Ok(Request::Predict { signature: DEFAULT_SIGNATURE.into(), inputs, outputs: vec![1, 0].into() })
    }

    fn record(&self, _: &Servable, _: &Request) -> Option<Bytes> {
        Some(Bytes::from_static(b"\x0a\x00"))
    }

    fn encode(
        self,
        _: &ServerState,
        servable: &Servable,
        answer: Answer<'_>,
        _: &Context,
    ) -> Result<Self::Reply> {
        assert_eq!((servable.name(), servable.version()), ("m", 3));
        let Answer::Outputs(outputs) = answer else { panic!("{answer:?}") };
        let aliases = outputs.iter().map(|(alias, _)| (*alias).to_owned()).collect();
        let on_compute = |thread: Option<String>| thread.as_deref() == Some("servable-run");
        Ok((aliases, on_compute(self.decoded_in), on_compute(thread())))
    }
}

/// The context of a call whose phases somebody asks for.
fn observed() -> Context {
    let timeline = Arc::new(Timeline::begin(None, false));
    timeline.received(0);
    Context { timeline: Some(timeline), ..Context::default() }
}

fn call(model: &str) -> Doubling {
    let spec =
        ModelSpec { name: model.to_owned(), choice: VersionChoice::Latest, signature_name: String::new() };
    Doubling { spec, small: true, named: true, stuck: None, fails: false, decoded_in: None }
}

fn stuck() -> (Doubling, Receiver<&'static str>) {
    let (stuck, told) = channel();
    (Doubling { small: false, stuck: Some(stuck), ..call("m") }, told)
}

/// Starts a server with the fake model as version 3 of `m`.
fn server(policy: Policy) -> Arc<ServerState> {
    server_of(policy, Fake.load(Path::new("/"), &LoadOptions::default()).unwrap())
}

/// Starts a server with `model` as version 3 of `m`.
fn server_of(policy: Policy, model: Box<dyn Model>) -> Arc<ServerState> {
    let scheduler = Scheduler::with_slots(1);
    let (servable, _drain) = Servable::new("m".to_owned(), 3, model, Resources::plain(policy, &scheduler));
    serving(servable, scheduler, None)
}

/// Starts a server of `servable`.
fn serving(
    servable: Arc<Servable>,
    scheduler: Scheduler,
    batches: Option<Arc<batch::Pool>>,
) -> Arc<ServerState> {
    let registry = Registry::default();
    registry.publish(servable);
    Arc::new(ServerState {
        registry,
        scheduler,
        batches,
        options: Options::closed(),
        metrics: Some(Metrics::default()),
        recorder: Recorder::none(),
        access: None,
        traces: None,
        changes: crate::methods::changes::Changes::default(),
        shadows: crate::methods::shadow::Shadows::default(),
        demand: None,
    })
}

/// Returns the number of calls per model and status, in Prometheus's format.
fn counted(server: &ServerState) -> Vec<String> {
    let text = server.metrics.as_ref().unwrap().tensorflow_page();
    let counts = text.lines().filter_map(|line| line.strip_prefix(":tensorflow:serving:request_count{"));
    counts.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_call_is_decoded_run_and_encoded_where_it_is_short_and_counted() {
    // Policy, small, signature known in advance; then: decoded, and run, on a thread of the scheduler.
    let cases = [
        (Policy::Caller, true, true, (false, false)),
        (Policy::Caller, true, false, (false, false)),
        (Policy::Pool, true, true, (true, true)),
        (Policy::Pool, true, false, (false, true)),
        (Policy::Caller, false, true, (true, true)),
        (Policy::Caller, false, false, (true, true)),
    ];
    for (policy, small, named, (decoded, run)) in cases {
        let server = server(policy);
        let call = Doubling { small, named, ..call("m") };
        let reply = ask(&server, call, observed(), pending()).await.unwrap();
        let aliases = vec!["sum".to_owned(), "difference".to_owned()];
        assert_eq!(reply, (aliases, decoded, run), "{policy:?} {small} {named}");
        assert_eq!(counted(&server), [r#"model_name="m",status="OK"} 1"#]);
    }
}

#[tokio::test]
async fn a_run_that_would_have_to_wait_does_so_on_a_thread_of_the_scheduler() {
    let server = server_of(Policy::Caller, fake::busy());
    let (_, decoded, run) = ask(&server, call("m"), observed(), pending()).await.unwrap();
    assert_eq!((decoded, run), (false, true));
    assert_eq!(counted(&server), [r#"model_name="m",status="OK"} 1"#]);
}

#[tokio::test]
async fn a_call_to_a_missing_model_does_not_wait_for_a_thread() {
    let server = server(Policy::Pool);
    let (stuck, told) = stuck();
    let busy = tokio::spawn({
        let server = server.clone();
        async move { ask(&server, stuck, observed(), pending()).await }
    });
    let told = tokio::task::spawn_blocking(move || (told.recv().unwrap(), told)).await.unwrap();
    let large = Doubling { small: false, ..call("other") };
    let refused = ask(&server, large, observed(), pending());
    let missing = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap().unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
    busy.abort();
    assert_eq!(tokio::task::spawn_blocking(move || told.1.recv()).await.unwrap(), Ok("cancelled"));
}

#[tokio::test]
async fn an_error_is_counted_for_the_model_that_was_named() {
    let server = server(Policy::Caller);
    let missing = ask(&server, call("other"), observed(), pending()).await.unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
    let refused = Doubling { fails: true, ..call("m") };
    let refused = ask(&server, refused, observed(), pending()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::InvalidArgument);
    assert_eq!(
        counted(&server),
        [r#"model_name="m",status="INVALID_ARGUMENT"} 1"#, r#"model_name="other",status="NOT_FOUND"} 1"#]
    );
}

#[tokio::test]
async fn a_call_that_ends_early_is_cancelled_and_its_reason_counted() {
    let server = server(Policy::Pool);
    let (call, told) = stuck();
    let (decoding, ended) = tokio::sync::oneshot::channel();
    let asked = tokio::spawn({
        let server = server.clone();
        async move {
            let ended = async {
                ended.await.unwrap();
                Error::new(Kind::DeadlineExceeded, "too late")
            };
            ask(&server, call, observed(), ended).await
        }
    });
    let told = tokio::task::spawn_blocking(move || (told.recv().unwrap(), told)).await.unwrap();
    assert_eq!(told.0, "decoding");
    decoding.send(()).unwrap();
    assert_eq!(asked.await.unwrap().unwrap_err().message, "too late");
    assert_eq!(tokio::task::spawn_blocking(move || told.1.recv()).await.unwrap(), Ok("cancelled"));
    assert_eq!(counted(&server), [r#"model_name="m",status="DEADLINE_EXCEEDED"} 1"#]);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_counted_so() {
    let server = server(Policy::Pool);
    let (call, told) = stuck();
    let asked = tokio::spawn({
        let server = server.clone();
        async move { ask(&server, call, observed(), pending()).await }
    });
    let told = tokio::task::spawn_blocking(move || (told.recv().unwrap(), told)).await.unwrap();
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert_eq!(tokio::task::spawn_blocking(move || told.1.recv()).await.unwrap(), Ok("cancelled"));
    assert_eq!(counted(&server), [r#"model_name="m",status="CANCELLED"} 1"#]);
}

#[tokio::test]
async fn what_could_be_answered_at_once_is_though_its_time_is_over() {
    let late = ready(Error::new(Kind::DeadlineExceeded, "too late"));
    assert!(ask(&server(Policy::Caller), call("m"), observed(), late).await.is_ok());
}

#[tokio::test]
async fn only_calls_that_end_well_are_recorded() {
    let server = server(Policy::Caller);
    let recording = {
        let server = server.clone();
        let limits = RecordLimits { requests: 1, every: 1, bytes: 1 << 10 };
        std::thread::spawn(move || server.recorder.record("m", limits, Duration::from_secs(60)))
    };
    while !server.recorder.is_active() {
        tokio::task::yield_now().await;
    }
    let refused = Doubling { fails: true, ..call("m") };
    ask(&server, refused, observed(), pending()).await.unwrap_err();
    ask(&server, call("m"), observed(), pending()).await.unwrap();
    assert_eq!(recording.join().unwrap().len(), 1);
}

/// Whatever a protocol forgets: without a pass that is for the model, no model is asked, or told of.
#[tokio::test]
async fn where_tokens_are_needed_no_call_goes_without_one() {
    let secret = "A".repeat(43);
    // SHA-256 of the salt and the secret.
    let hash = "sha256:0123456789ab:2cf26ca0ebf9ebdea5958f900ec1aadc8024392e07660ae3874980ccfba06350";
    let auth = Auth::of_text(&format!("me {hash} scopes=predict models=m")).unwrap();
    let mut server = Arc::into_inner(server(Policy::Caller)).unwrap();
    server.options.auth = Some(auth.clone());
    let rules = Rules { default_to: Some(Target::Version(3)), ..Rules::default() };
    server.registry.set_split("m", Some(rules), false);
    let server = Arc::new(server);
    let token = format!("servable.me.{secret}");
    let pass = auth.admit(|_| Some(token.as_bytes())).unwrap();
    let with = |pass| Context { pass, ..observed() };
    for (model, pass, expected) in [
        ("m", Some(pass.clone()), None),
        ("m", None, Some(Kind::Unauthenticated)),
        ("other", Some(pass), Some(Kind::PermissionDenied)),
        ("other", None, Some(Kind::Unauthenticated)),
    ] {
        let asked = ask(&server, call(model), with(pass), pending()).await;
        assert_eq!(asked.err().map(|error| error.kind), expected, "{model}");
    }
    assert!(counted(&server).contains(&r#"model_name="m",status="UNAUTHENTICATED"} 1"#.to_owned()));
    let (_, told) = server.registry.split("m").unwrap();
    let decisions: u64 = told[0].counts.iter().map(|(_, count)| count).sum();
    assert_eq!(decisions, 1, "only one was allowed");
}
