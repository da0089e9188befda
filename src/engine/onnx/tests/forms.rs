//! Models in two forms, for runs that are alone and for runs that come at once.

use super::model::{self, Dim, graph, node, value};
use super::{FLOAT, as_floats, floats, onnx, x_to_y};
use crate::engine::Model;
use crate::engine::forms::Spread;
use crate::engine::forms::tests::{has_one_core, run_at_once};
use crate::engine::onnx::load::load;
use crate::engine::onnx::session::Session;
use crate::error::Kind;
use std::path::Path;

/// Loads a model that adds a weight of its own, which lies in a file beside it, to `x`.
fn plus(folder: &Path, weight: f32) -> Option<Session> {
    let of_one = Some(&[Dim::Of(1)][..]);
    let plus = graph(
        &[node("Add", &["x", "w"], &["y"])],
        &[model::external("w", FLOAT, &[1], "weights")],
        &[value("x", FLOAT, of_one)],
        &[value("y", FLOAT, of_one)],
    );
    std::fs::write(folder.join("weights"), weight.to_le_bytes()).unwrap();
    std::fs::write(folder.join("model.onnx"), model::model(&plus)).unwrap();
    Some(load(onnx()?.runtime, folder).unwrap())
}

fn sum(session: &Session, x: f32) -> f32 {
    as_floats(&x_to_y(session, floats(&[1], &[x])).unwrap())[0]
}

#[test]
fn both_forms_answer_alike() {
    let folder = tempfile::tempdir().unwrap();
    let Some(session) = plus(folder.path(), 2.0) else { return };
    assert!((sum(&session, 1.5) - 3.5).abs() < f32::EPSILON && !session.forms.has(Spread::CoreEach));
    session.share_cores(true).unwrap();
    assert_ne!(session.forms.has(Spread::CoreEach), has_one_core());
    assert!((sum(&session, 1.5) - 3.5).abs() < f32::EPSILON);
    session.share_cores(false).unwrap();
    assert!((sum(&session, 2.5) - 4.5).abs() < f32::EPSILON && !session.forms.has(Spread::CoreEach));
}

#[test]
fn runs_that_come_at_once_get_the_second_form() {
    let folder = tempfile::tempdir().unwrap();
    let Some(session) = plus(folder.path(), 2.0).filter(|_| !has_one_core()) else { return };
    let run = |x: f32| assert!((sum(&session, x) - (x + 2.0)).abs() < f32::EPSILON);
    run_at_once(run, || session.forms.has(Spread::CoreEach));
    assert!(session.forms.has(Spread::CoreEach));
}

#[test]
fn files_that_have_changed_make_no_second_form() {
    let folder = tempfile::tempdir().unwrap();
    let Some(session) = plus(folder.path(), 2.0).filter(|_| !has_one_core()) else { return };
    // A new file, as in every upload; writing in place might keep the times of a coarse clock.
    std::fs::write(folder.path().join("new"), 3.0_f32.to_le_bytes()).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("weights")).unwrap();
    assert_eq!(session.share_cores(true).unwrap_err().kind, Kind::FailedPrecondition);
    assert!(!session.forms.has(Spread::CoreEach));
    assert!((sum(&session, 1.0) - 3.0).abs() < f32::EPSILON);
    std::fs::remove_file(folder.path().join("model.onnx")).unwrap();
    assert!(session.share_cores(true).is_err());
    assert!((sum(&session, 1.0) - 3.0).abs() < f32::EPSILON);
}
