//! Speed of decoding predict and classify bodies, in MB of text per second.
//!
//! `cargo bench --bench decode [substring]`

#![allow(clippy::print_stdout)] // This is a command-line program.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use servable::engine::signature::{Signature, TensorSpec};
use servable::parallel::Alone;
use servable::rest::decode::{DecodeLimits, predict};
use servable::rest::features::examples;
use servable::tensor::DType;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Reproducible pseudo-random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

const IMAGE: usize = 224 * 224 * 3;

fn list<T: Display>(count: usize, separator: &str, item: impl FnMut(usize) -> T) -> String {
    let items: Vec<String> = (0..count).map(item).map(|item| item.to_string()).collect();
    items.join(separator)
}

/// Formats an image as nested lists, rows × columns × channels.
fn image<T: Display>(separator: &str, mut item: impl FnMut() -> T) -> String {
    let mut pixel = |_| format!("[{}]", list(3, separator, |_| item()));
    let mut row = |_| format!("[{}]", list(224, separator, &mut pixel));
    format!("[{}]", list(224, separator, &mut row))
}

fn bodies() -> Vec<(&'static str, DType, String)> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut unit = move || random.unit();
    let mut random = Random(7);
    let mut byte = move || random.next() % 256;
    let instances = |value: String| format!("{{\"instances\": [{value}]}}");
    let photo = |len: usize| (0..len).map(|index| ((index * 7919) >> 3) as u8).collect::<Vec<u8>>();
    let photo = |len: usize| BASE64_STANDARD.encode(photo(len));
    let lines = |text: &str| {
        let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line)).collect();
        lines.join("\\n")
    };
    let object = |text: &str| format!("{{\"b64\": \"{text}\"}}");
    vec![
        ("tiny", DType::Float, instances("1.0, 2.0, 5.0".into())),
        (
            "floats of 8 characters, flat",
            DType::Float,
            instances(list(IMAGE, ",", |_| format!("{:.6}", unit()))),
        ),
        (
            "floats of 8 characters, flat, spaced",
            DType::Float,
            instances(list(IMAGE, ", ", |_| format!("{:.6}", unit()))),
        ),
        ("floats of 8 characters, image", DType::Float, instances(image(",", || format!("{:.6}", unit())))),
        ("floats of 17 digits, image, spaced", DType::Float, instances(image(", ", &mut unit))),
        ("doubles of 17 digits, flat", DType::Double, instances(list(IMAGE, ",", |_| unit() * 2.0 - 1.0))),
        ("floats of 17 digits, small", DType::Float, instances(list(IMAGE, ",", |_| unit() * 1e-6))),
        ("floats as float32 prints them", DType::Float, instances(list(IMAGE, ",", |_| unit() as f32))),
        ("pixels into float, image, spaced", DType::Float, instances(image(", ", &mut byte))),
        ("pixels into uint8, image, spaced", DType::UInt8, instances(image(", ", &mut byte))),
        ("pixels into uint8, image", DType::UInt8, instances(image(",", &mut byte))),
        ("token ids into int64, flat", DType::Int64, instances(list(IMAGE, ", ", |_| byte() * byte()))),
        (
            "a row of an object each",
            DType::Float,
            instances(list(10_000, ", ", |_| format!("{{\"x\": [{}]}}", list(4, ", ", |_| unit() as f32)))),
        ),
        ("words", DType::String, instances(list(50_000, ", ", |index| format!("\"word number {index}\"")))),
        ("base64 of 60 KB", DType::String, instances(object(&photo(60 << 10)))),
        ("base64 of 3 MB", DType::String, instances(object(&photo(3 << 20)))),
        ("base64 of 3 MB in lines", DType::String, instances(object(&lines(&photo(3 << 20))))),
        ("key to ignore", DType::Float, format!("{{\"q\": {}, \"instances\": [1]}}", image(", ", &mut unit))),
        (
            "late error",
            DType::Float,
            instances(format!("{}, \"x\"", list(IMAGE, ",", |_| format!("{:.6}", unit())))),
        ),
    ]
}

fn signatures(dtype: DType) -> BTreeMap<String, Signature> {
    let input = TensorSpec { alias: "x".into(), tensor: "x:0".into(), dtype, shape: None };
    let signature = Signature {
        name: "serving_default".into(),
        method_name: "tensorflow/serving/predict".into(),
        inputs: vec![input],
        outputs: Vec::new(),
        defaults: BTreeMap::new(),
    };
    BTreeMap::from([(signature.name.to_string(), signature)])
}

/// Returns the CPU time of the main thread as counted by the kernel; `None` if there is no such file.
fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs for a second. Prints the shortest time of a run, and the mean CPU time, which is disturbed less by other
/// processes.
fn report(name: &str, bytes: usize, mut run: impl FnMut()) {
    let (start, cpu, mut best, mut runs) = (Instant::now(), on_cpu(), Duration::MAX, 0);
    while start.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
        runs += 1;
    }
    let cpu = on_cpu().zip(cpu).map(|(end, start)| (end - start) / runs);
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let micros = best.as_secs_f64() * 1e6;
    print!("{name:40} {bytes:>9} bytes   best {micros:>9.1} µs {:>6.0} MB/s", rate(best));
    match cpu {
        Some(cpu) => println!("   mean on a CPU {:>6.0} MB/s", rate(cpu)),
        None => println!(),
    }
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, dtype, body) in bodies() {
        if !name.contains(&wanted) {
            continue;
        }
        let signatures = signatures(dtype);
        let limits = DecodeLimits { max_depth: 100 };
        report(name, body.len(), || {
            drop(black_box(predict(black_box(body.as_bytes()), Ok(&signatures), limits, &Alone)));
        });
    }
    let example =
        |index| format!("{{\"age\": {index}, \"weights\": [0.25, 1.5, 3.0], \"word\": \"name {index}\"}}");
    let body = format!("{{\"examples\": [{}]}}", list(10_000, ", ", example));
    if "examples".contains(&wanted) {
        report("examples", body.len(), || {
            drop(black_box(examples(black_box(body.as_bytes()), &Default::default())))
        });
    }
}
