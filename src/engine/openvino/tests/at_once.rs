//! Runs in threads that serve others meanwhile.

use super::*;
use crate::engine::openvino::loading;
use crate::engine::openvino::model::Loaded;
use crate::engine::openvino::requests::Lease;

fn loaded(name: &str) -> Option<Loaded> {
    Some(loading::ir(openvino()?.library, &folder(name)).unwrap())
}

fn at_once(model: &Loaded, feeds: &[(&str, Tensor)], output: &str) -> Option<f32> {
    let feeds: Vec<_> = feeds.iter().map(|(alias, tensor)| (feed(model, alias), tensor.clone())).collect();
    let ran = model.run_at_once(&feeds, &[fetch(model, output)], CALLER)?;
    Some(values::<f32>(&ran.unwrap()[0])[0])
}

#[test]
fn a_run_of_a_model_with_state_waits_for_no_other() {
    let Some(model) = loaded("openvino_state") else { return };
    let feeds = [("x", floats(&[1], &[1.0]))];
    assert_eq!(at_once(&model, &feeds, "total"), None, "its request is not made");
    assert_eq!(values::<f32>(&run(&model, &feeds, &["total"]).unwrap()[0]), [1.0]);
    assert_eq!(at_once(&model, &feeds, "total"), Some(2.0));
    let other = Lease::take(&model.forms.begin().compiled, None).unwrap();
    assert_eq!(at_once(&model, &feeds, "total"), None);
    drop(other);
    assert_eq!(at_once(&model, &feeds, "total"), Some(3.0), "what did not begin has changed nothing");
}

#[test]
fn a_run_of_a_model_that_runs_one_request_at_a_time_waits_for_no_other() {
    let Some(model) = loaded("openvino_pair") else { return };
    let feeds = [("a", floats(&[1], &[1.5])), ("b", ints(&[1], &[3]))];
    run(&model, &feeds, &["sum"]).unwrap();
    assert_eq!(at_once(&model, &feeds, "sum"), Some(4.5));
    let other = model.forms.begin();
    // With one core there is nothing beside it; with more, it takes the first form, too.
    assert_eq!(at_once(&model, &feeds, "sum"), None);
    drop(other);
    assert_eq!(at_once(&model, &feeds, "sum"), Some(4.5));
    // What a client does wrong is said at once.
    let bare = model.run_at_once(&[], &[fetch(&model, "sum")], CALLER);
    assert_eq!(bare.unwrap().unwrap_err().kind, Kind::InvalidArgument);
}
