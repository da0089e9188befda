//! Models in two forms, for runs that are alone and for runs that come at once.

use super::*;
use crate::engine::forms::tests::{has_one_core, run_at_once};
use crate::engine::openvino::model::Loaded;
use crate::engine::openvino::{Precision, loading};

fn pair() -> Option<Loaded> {
    Some(loading::ir(openvino()?.library, &folder("openvino_pair")).unwrap())
}

fn sum(model: &Loaded, first: f32) -> f32 {
    let feeds = [("a", floats(&[2], &[first, 2.0])), ("b", ints(&[2], &[3, 5]))];
    values::<f32>(&run(model, &feeds, &["sum"]).unwrap()[0])[0]
}

#[test]
fn both_forms_answer_alike() {
    let Some(model) = pair() else { return };
    assert!((sum(&model, 1.5) - 4.5).abs() < f32::EPSILON && !model.forms.has_both());
    model.share_cores(true).unwrap();
    assert_ne!(model.forms.has_both(), has_one_core());
    assert!((sum(&model, 1.5) - 4.5).abs() < f32::EPSILON);
    let missing = model.run(&[], &[fetch(&model, "sum")], CALLER).unwrap_err();
    assert!(missing.message.contains("is missing"), "{missing}");
    model.share_cores(false).unwrap();
    assert!((sum(&model, 2.5) - 5.5).abs() < f32::EPSILON && !model.forms.has_both());
}

#[test]
fn runs_that_come_at_once_get_the_second_form() {
    let Some(model) = pair().filter(|_| !has_one_core()) else { return };
    let run = |first| assert!((sum(&model, first) - (first + 3.0)).abs() < f32::EPSILON);
    run_at_once(run, || model.forms.has_both());
    assert!(model.forms.has_both());
}

#[test]
fn a_model_that_may_have_one_request_has_one_form() {
    let Some(openvino) = openvino() else { return };
    for name in ["openvino_state", "openvino_loop"] {
        let model = loading::ir(openvino.library, &folder(name)).unwrap();
        model.share_cores(true).unwrap();
        assert!(!model.forms.has_both(), "{name}");
    }
}

#[test]
fn a_second_form_that_cannot_be_made_leaves_the_first() {
    let Some(openvino) = openvino().filter(|_| !has_one_core()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let model = loading::frozen(openvino.library, &super::frozen::small(), path, Precision::F32).unwrap();
    // Neither the graph nor what was compiled of it.
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(model.share_cores(true).unwrap_err().kind, Kind::Unimplemented);
    let out = run(&model, &[("x", floats(&[1, 2], &[1.0, 1.0]))], &["sum"]).unwrap();
    assert!(values::<f32>(&out[0]) == [2.0, 3.0]);
    model.share_cores(false).unwrap();
}
