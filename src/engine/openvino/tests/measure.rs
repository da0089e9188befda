//! Measurements, to be run one at a time in the release profile: `cargo test --release --lib measure -- --ignored
//! --nocapture --test-threads 1`.

#![allow(unsafe_code)]

use super::super::model::{Loaded, Running};
use super::super::requests::Lease;
use super::super::{OpenVino, Precision, loading};
use super::{feed, fetch, floats, folder, frozen, ints, openvino, run};
use crate::engine::{Engine, LoadOptions, Model, RunOptions, Threads};
use crate::host::memory;
use crate::tensor::Tensor;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows and columns of the weights: 100 MB of floats.
const SIZE: usize = 5_000;

/// y = x times weights.
pub(super) const LARGE: &str = r#"<?xml version="1.0"?><net name="large" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,5000" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>5000</dim></port></output></layer>
<layer id="1" name="w" type="Const" version="opset1">
<data element_type="f32" shape="5000, 5000" offset="0" size="100000000"/>
<output><port id="0" precision="FP32"><dim>5000</dim><dim>5000</dim></port></output></layer>
<layer id="2" name="m" type="MatMul" version="opset1"><data transpose_a="false" transpose_b="false"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>5000</dim></port>
<port id="1" precision="FP32"><dim>5000</dim><dim>5000</dim></port></input>
<output><port id="2" precision="FP32" names="y"><dim>1</dim><dim>5000</dim></port></output></layer>
<layer id="3" name="end" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>5000</dim></port></input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>"#;

/// Returns the resident memory in MB.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096 / 1_000_000
}

/// Loads and unloads `load`'s model 20 times; returns the resident memory with it and after it, each time.
fn cycles(load: impl Fn() -> Box<dyn Model>) -> Vec<(usize, usize)> {
    let cycle = |_| {
        let model = load();
        let loaded = resident();
        drop(model);
        memory::trim();
        (loaded, resident())
    };
    (0..20).map(cycle).collect()
}

#[test]
#[ignore = "a measurement of some seconds"]
fn memory_after_twenty_loads_is_that_after_the_first() {
    let Some(openvino) = openvino() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.xml"), LARGE).unwrap();
    std::fs::write(folder.path().join("model.bin"), vec![0x3c; 4 * SIZE * SIZE]).unwrap();
    let begun = resident();
    let all = cycles(|| {
        let model = openvino.load(folder.path(), &LoadOptions::default()).unwrap();
        run(&*model, &[("x", floats(&[1, 5_000], &[1.0; SIZE]))], &["y"]).unwrap();
        model
    });
    println!("IR of 100 MB: {begun} MB, then (loaded, unloaded): {all:?}");
    assert!(all.iter().all(|(loaded, left)| loaded * 10 <= all[0].0 * 11 && left * 10 <= all[0].1 * 11));
}

#[test]
#[ignore = "a measurement of some seconds"]
fn a_frozen_graph_is_loaded_faster_the_second_time() {
    let Some(openvino) = openvino() else { return };
    let source = tempfile::tempdir().unwrap();
    let graph = frozen::mobilenet(source.path()).unwrap();
    let load = |folder: &Path| {
        let begun = Instant::now();
        let model = openvino.open_frozen(&graph, folder.to_owned(), Precision::F32).unwrap();
        (begun.elapsed(), model)
    };
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        println!("first {:?}, then {:?}", load(folder.path()).0, load(folder.path()).0);
    }
    let folder = tempfile::tempdir().unwrap();
    println!("{} MB, then (loaded, unloaded): {:?}", resident(), cycles(|| load(folder.path()).1));
}

/// Returns the shortest and the median time of `work`, done `count` times.
fn times(count: usize, mut work: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[0], times[count / 2])
}

/// Compares runs with the bare calls: set the tensors that are already made, infer, nothing else.
fn overhead(what: &str, model: &Loaded, feeds: &[(&str, Tensor)], output: &str, count: usize) {
    let options = RunOptions { threads: Threads::Caller, timeout: None };
    let fed: Vec<_> = feeds.iter().map(|(alias, tensor)| (feed(model, alias), tensor.clone())).collect();
    let fetched = [fetch(model, output)];
    let tensors: Vec<&Tensor> = feeds.iter().map(|(_, tensor)| tensor).collect();
    let running = Running::new(Lease::take(&model.forms.begin().compiled, None).unwrap(), &tensors).unwrap();
    for _ in 0..3 {
        let bare = times(count, || running.again());
        let ours = times(count, || drop(model.run(&fed, &fetched, options).unwrap()));
        println!("{what}: bare (shortest, median) {bare:?}, ours {ours:?}");
    }
}

#[test]
#[ignore = "a measurement of some seconds"]
fn what_a_run_costs_beside_openvino() {
    let Some(OpenVino { library }) = openvino() else { return };
    let pair = loading::ir(library, &folder("openvino_pair")).unwrap();
    overhead("pair", &pair, &[("a", floats(&[2], &[1.0; 2])), ("b", ints(&[2], &[1; 2]))], "sum", 5_000);
    let source = tempfile::tempdir().unwrap();
    let graph = frozen::mobilenet(source.path()).unwrap();
    let mobilenet = loading::frozen(library, &graph, source.path().to_owned(), Precision::F32).unwrap();
    let photo = floats(&[1, 224, 224, 3], &[0.5; 3 * 224 * 224]);
    overhead("MobileNetV2", &mobilenet, &[("images", photo)], "probabilities", 100);
}
