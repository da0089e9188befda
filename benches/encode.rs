//! Speed of encoding predict replies with 150,528 values (a picture of 224 × 224 × 3), in nanoseconds per value.
//!
//! `cargo bench --bench encode [-- PART-OF-A-CASE'S-NAME]`. Every case prints the same tensor several times; the
//! fastest and the median time are reported. The floor is copying text of the same length.

use servable::config::NonUtf8;
use servable::parallel::Alone;
use servable::rest::Format;
use servable::rest::encode::{self, Style};
use servable::tensor::{DType, Tensor};
use std::hint::black_box;
use std::time::{Duration, Instant};

const VALUES: usize = 224 * 224 * 3;
const RUNS: usize = 50;
const STYLE: Style = Style { non_utf8: NonUtf8::Raw, compact: false };

/// A fixed sequence of well-mixed numbers (SplitMix64).
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 0u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// Yields random numbers from 0 to 1.
fn units() -> impl Iterator<Item = f64> {
    numbers().map(|number| (number >> 11) as f64 / (1u64 << 53) as f64)
}

fn tensor<T: bytemuck::NoUninit>(dtype: DType, values: impl Iterator<Item = T>) -> Tensor {
    let values: Vec<T> = values.take(VALUES).collect();
    Tensor::numbers(dtype, vec![1, 224, 224, 3], bytemuck::cast_slice(&values).to_vec().into())
}

fn cases() -> Vec<(&'static str, Tensor)> {
    let floats = |values: Vec<f32>| tensor(DType::Float, values.into_iter());
    vec![
        ("float, 0 to 1", floats(units().map(|unit| unit as f32).take(VALUES).collect())),
        ("float, -1 to 1", floats(units().map(|unit| (unit * 2.0 - 1.0) as f32).take(VALUES).collect())),
        ("float, k / 255", floats(numbers().map(|bits| (bits % 256) as f32 / 255.0).take(VALUES).collect())),
        (
            "float, 3 decimals",
            floats(units().map(|unit| (unit * 1e3) as i32 as f32 / 1e3).take(VALUES).collect()),
        ),
        ("float, 0 to 255 whole", floats(numbers().map(|bits| (bits % 256) as f32).take(VALUES).collect())),
        ("float, logits", floats(units().map(|unit| ((unit - 0.5) * 40.0) as f32).take(VALUES).collect())),
        ("float, softmax", floats(units().map(|unit| (-unit * 40.0).exp() as f32).take(VALUES).collect())),
        ("float, all zero", floats(vec![0.0; VALUES])),
        ("float, any bits", floats(numbers().map(|bits| f32::from_bits(bits as u32)).take(VALUES).collect())),
        ("double, 0 to 1", tensor(DType::Double, units())),
        (
            "double, 3 decimals",
            tensor(DType::Double, units().map(|unit| f64::from((unit * 1e3) as i32) / 1e3)),
        ),
        ("double, any bits", tensor(DType::Double, numbers().map(f64::from_bits))),
        ("int32, 0 to 255", tensor(DType::Int32, numbers().map(|bits| (bits % 256) as i32))),
        ("int64, any bits", tensor(DType::Int64, numbers().map(|bits| bits as i64))),
        ("uint8", tensor(DType::UInt8, numbers().map(|bits| bits as u8))),
        ("bool", tensor(DType::Bool, numbers().map(|bits| (bits & 1) as u8))),
        ("string, 20 letters", {
            let strings = numbers().map(|bits| format!("{bits:020}")).take(VALUES).collect();
            Tensor::strings(vec![1, 224, 224, 3], strings)
        }),
    ]
}

/// Returns the fastest and the median of several runs.
fn time(mut run: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[0], times[RUNS / 2])
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 / VALUES as f64
}

#[allow(clippy::print_stdout)]
fn main() {
    println!("{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}", "case", "bytes", "ms", "ns/value", "median", "copy ns");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    for (name, tensor) in cases().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        for format in [Format::Row, Format::Columnar] {
            if format == Format::Columnar && name != "float, 0 to 1" {
                continue;
            }
            let Ok(text) = encode::predict(format, &[("y", &tensor)], STYLE, &Alone) else { continue };
            let (fastest, median) = time(|| {
                drop(black_box(encode::predict(format, &[("y", black_box(&tensor))], STYLE, &Alone)))
            });
            let (copy, _) = time(|| drop(black_box(black_box(&text).clone())));
            println!(
                "{:<28}{:>10}{:>10.2}{:>10.1}{:>10.1}{:>10.1}",
                format!("{name}{}", if format == Format::Row { "" } else { ", columnar" }),
                text.len(),
                fastest.as_secs_f64() * 1e3,
                nanoseconds(fastest),
                nanoseconds(median),
                nanoseconds(copy),
            );
        }
    }
}
