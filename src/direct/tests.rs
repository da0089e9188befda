//! Questions of the process itself: answered as those of clients, without a token, and in memory of the answer's own.

use super::*;
use crate::auth::Auth;
use crate::config::Options;
use crate::engine::fake;
use crate::metrics::Metrics;
use crate::registry::VersionChoice;
use crate::servable::Resources;
use crate::servable::placement::Policy;
use crate::tensor::DType;

/// A server of the fake model, as version 3 of `m`.
fn server(options: Options, policy: Policy) -> Arc<ServerState> {
    let state = ServerState { metrics: Some(Metrics::default()), ..ServerState::for_tests(options) };
    let resources = Resources::plain(policy, &state.scheduler);
    let (servable, _drain) = Servable::new("m".to_owned(), 3, fake::model(|| {}), resources);
    state.registry.publish(servable);
    Arc::new(state)
}

fn floats(values: &[f32]) -> Tensor {
    let bytes = bytemuck::cast_slice::<f32, u8>(values).to_vec();
    Tensor::numbers(DType::Float, vec![i64::try_from(values.len()).unwrap()], bytes.into())
}

fn question(model: &str, inputs: &[&str], outputs: &[&str]) -> Question {
    let spec =
        ModelSpec { name: model.to_owned(), choice: VersionChoice::Latest, signature_name: String::new() };
    let inputs = inputs.iter().map(|alias| ((*alias).to_owned(), floats(&[1.0, 2.0]))).collect();
    let outputs = outputs.iter().map(|alias| (*alias).to_owned()).collect();
    Question { spec, inputs, outputs, lent: Vec::new() }
}

#[tokio::test]
async fn a_question_is_answered_and_counted_wherever_it_runs() {
    for policy in [Policy::Caller, Policy::Pool] {
        let server = server(Options::closed(), policy);
        let reply = ask(&server, question("m", &["a", "b"], &["sum"]), None).await.unwrap();
        let outputs: Vec<_> =
            reply.outputs.iter().map(|(alias, one)| (alias.as_str(), one.bytes())).collect();
        assert_eq!((reply.version, outputs), (3, vec![("sum", floats(&[2.0, 4.0]).bytes())]));
        let page = server.metrics.as_ref().unwrap().tensorflow_page();
        assert!(page.contains(r#"request_count{model_name="m",status="OK"} 1"#), "{page}");
    }
}

#[tokio::test]
async fn the_errors_are_those_of_grpc() {
    let server = server(Options::closed(), Policy::Caller);
    let cases = [
        (question("", &[], &[]), Kind::InvalidArgument, "ModelSpec has no name specified."),
        (question("x", &[], &[]), Kind::NotFound, "Servable not found for request: Latest(x)"),
        (question("m", &["a"], &[]), Kind::InvalidArgument, "input size does not match signature: 1!=2"),
        (
            question("m", &["a", "b"], &["c"]),
            Kind::InvalidArgument,
            "output tensor alias not found in signature: c",
        ),
    ];
    for (question, kind, text) in cases {
        let why = ask(&server, question, None).await.unwrap_err();
        assert_eq!(why.kind, kind);
        assert!(why.message.starts_with(text), "{why}");
    }
}

#[tokio::test]
async fn a_question_ends_at_its_deadline() {
    for policy in [Policy::Caller, Policy::Pool] {
        let server = server(Options::closed(), policy);
        let why = ask(&server, question("m", &["a", "b"], &[]), Some(Instant::now())).await.unwrap_err();
        assert_eq!(why.kind, Kind::DeadlineExceeded);
    }
}

#[tokio::test]
async fn the_process_itself_needs_no_token() {
    let auth = Auth::of_text("# nobody\n").unwrap();
    let server = server(Options { auth: Some(auth), ..Options::closed() }, Policy::Caller);
    assert!(ask(&server, question("m", &["a", "b"], &[]), None).await.is_ok());
}

#[test]
fn no_answer_is_in_memory_that_was_lent() {
    let input = floats(&[1.0, 2.0, 3.0]);
    let start = input.bytes().as_ptr() as usize;
    let lent = start..start + 12;
    let part = input.rows(1..2);
    for output in [&input, &part] {
        let own = apart(output.clone(), std::slice::from_ref(&lent));
        assert_eq!((own.bytes(), own.shape()), (output.bytes(), output.shape()));
        assert!(!lent.contains(&(own.bytes().as_ptr() as usize)));
    }
    let other = floats(&[4.0]);
    let same = apart(other.clone(), std::slice::from_ref(&lent));
    assert_eq!(same.bytes().as_ptr(), other.bytes().as_ptr());
}
