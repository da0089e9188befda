//! Batching without parameters: requests that come while their model runs are gathered by the scheduler, which learns
//! how many are worth running together.
//!
//! A signature takes part if its inputs and outputs share their first dimension, and if a run of two different rows was
//! seen to give what two runs give.

use super::queue::Item as _;
use super::{
    Batch, Batcher, Ends, LONG, LONGEST, MOST_BYTES, Outputs, Parameters, Run, Task, Waiting, assemble,
};
use crate::engine::content::Content;
use crate::engine::{Endpoint, RunOptions, Threads};
use crate::error::Result;
use crate::scheduler::{self, Item};
use crate::tensor::{DType, Data, Strings, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// The scheduler of requests and of what they are gathered to.
pub type Scheduler = scheduler::Scheduler<Gathered>;
/// A queue of it.
pub type Lane = scheduler::Lane<Gathered>;

/// A request that waits to be run together with others.
pub struct Gathered {
    of: Arc<Batcher>,
    ends: Ends,
    task: Task,
}

/// Most difference between a number of a run of several rows and that of a single row, relative to the largest of the
/// output's row: kernels add in another order.
const TOLERANCE: f64 = 1e-4;
/// Largest size that is run in warm-up.
const MOST_ROWS: usize = 64;

impl Item for Gathered {
    fn rows(&self) -> usize {
        self.task.rows()
    }

    fn joins(&self, other: &Gathered) -> bool {
        Arc::ptr_eq(&self.of, &other.of) && self.ends == other.ends && self.task.joins(&other.task)
    }
}

impl scheduler::Task for Gathered {
    fn run(gathered: Vec<Gathered>) -> bool {
        let mut gathered = gathered.into_iter();
        let Some(Gathered { of, ends, task }) = gathered.next() else { return false };
        let tasks = std::iter::once(task).chain(gathered.map(|other| other.task)).collect();
        Batch { of, ends, tasks }.run()
    }
}

/// Returns the parameters that limit nothing.
pub(super) fn parameters() -> Parameters {
    Parameters {
        max_batch_size: usize::MAX,
        batch_timeout: Duration::ZERO,
        max_enqueued_batches: usize::MAX,
        allowed_batch_sizes: Vec::new(),
        pad_variable_length_inputs: false,
        split_at: None,
    }
}

/// Returns the first dimension that all inputs share; 0 if there is none.
pub(super) fn rows(feeds: &[(Endpoint, Tensor)]) -> usize {
    let rows = |tensor: &Tensor| if tensor.shape().is_empty() { 0 } else { tensor.row_count() };
    let first = feeds.first().map_or(0, |(_, tensor)| rows(tensor));
    if feeds.iter().all(|(_, tensor)| rows(tensor) == first) { first } else { 0 }
}

impl Batcher {
    /// Returns whether the inputs have rows in common, and what is fed and fetched may be batched.
    pub(super) fn is_verified(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> bool {
        let fed = |known: &Ends| {
            known.feeds.len() == feeds.len()
                && feeds.iter().all(|(endpoint, _)| known.feeds.contains(endpoint))
                && fetches.iter().all(|fetch| known.fetches.contains(fetch))
        };
        rows(feeds) > 0 && self.verified.get().is_some_and(|all| all.iter().any(fed))
    }

    /// Has `run` wait in `lane` for others.
    pub(super) fn gather(self: &Arc<Self>, run: Run, lane: &Lane) -> Result<Outputs> {
        let rows = rows(&run.feeds);
        let (reply, parts) = unbounded_channel();
        let context = run.context.clone();
        let deadline = context.deadline;
        let (ends, places, task) = self.task(run, 0, reply);
        let queued = lane.queue(Gathered { of: self.clone(), ends, task }, &context)?;
        let waiting = Waiting::Scheduler(queued);
        Ok(Outputs { waiting, rows, places, deadline, parts, ended: false })
    }

    /// Finds out what may be batched, by the rows seen during warm-up, and runs larger and larger sizes of it.
    pub(super) fn verify(&self) {
        let samples = std::mem::take(&mut *self.samples());
        let verified = samples.into_iter().filter(|(ends, row)| {
            let same = self.gives_the_same(ends, row).unwrap_or(false);
            if same {
                self.warm_sizes(ends, row);
            }
            same
        });
        // Set once: warm-up ends once.
        let _known = self.verified.set(verified.map(|(ends, _)| ends).collect());
    }

    /// Returns whether two different rows give the same together, in either order, as alone.
    fn gives_the_same(&self, ends: &Ends, row: &[Tensor]) -> Result<bool> {
        let Some(other) = self.other_row(ends, row) else { return Ok(false) };
        let alone = [self.run_rows(ends, &[row])?, self.run_rows(ends, &[&other])?];
        let together = [self.run_rows(ends, &[row, &other])?, self.run_rows(ends, &[&other, row])?];
        let same = |outputs: &[Tensor], order: [usize; 2]| {
            outputs.iter().enumerate().all(|(index, output)| {
                let singles = order.map(|which| &alone[which][index]);
                output.shape().first() == Some(&2)
                    && singles.iter().all(|single| single.shape().first() == Some(&1))
                    && (0..2).all(|row| are_close(&output.rows(row..row + 1), singles[row]))
            })
        };
        Ok(same(&together[0], [0, 1]) && same(&together[1], [1, 0]))
    }

    /// Returns another row, of the same shapes; `None` if it would tell nothing: if a text cannot be varied, or nothing.
    fn other_row(&self, ends: &Ends, row: &[Tensor]) -> Option<Vec<Tensor>> {
        let contents = self.contents();
        let varied = |(endpoint, input): (&Endpoint, &Tensor)| varied(input, contents.get(endpoint).copied());
        let all: Option<Vec<_>> = ends.feeds.iter().zip(row).map(varied).collect();
        let (other, tells): (Vec<_>, Vec<_>) = all?.into_iter().unzip();
        tells.contains(&true).then_some(other)
    }

    /// Returns what the strings of inputs have to hold, as far as that is known; see [`Model::content`].
    fn contents(&self) -> BTreeMap<Endpoint, &Content> {
        let signatures = self.model.signatures().iter();
        let inputs =
            signatures.flat_map(|(name, signature)| signature.inputs.iter().map(move |one| (name, one)));
        let known = inputs.filter_map(|(name, input)| {
            let content = self.model.content(name, &input.alias)?;
            Some((self.model.endpoint(&input.tensor)?, content))
        });
        let mut contents = BTreeMap::new();
        for (endpoint, content) in known {
            // Of several signatures with the same input, the first tells.
            contents.entry(endpoint).or_insert(content);
        }
        contents
    }

    /// Runs more and more rows, as long as that takes little.
    fn warm_sizes(&self, ends: &Ends, row: &[Tensor]) {
        let bytes: usize = row.iter().map(Tensor::memory).sum();
        let mut rows = 2;
        while rows < MOST_ROWS && bytes.saturating_mul(2 * rows) <= MOST_BYTES {
            rows *= 2;
            let started = Instant::now();
            if self.run_rows(ends, &vec![row; rows]).is_err() || started.elapsed() > LONG {
                break;
            }
        }
    }

    fn run_rows(&self, ends: &Ends, rows: &[&[Tensor]]) -> Result<Vec<Tensor>> {
        let input = |index: usize| {
            let parts: Vec<&Tensor> = rows.iter().map(|row| &row[index]).collect();
            assemble::join(&parts, 0)
        };
        let feeds: Vec<_> =
            ends.feeds.iter().enumerate().map(|(index, endpoint)| (*endpoint, input(index))).collect();
        let options = RunOptions { threads: Threads::Pool, timeout: Some(LONGEST) };
        self.model.run(&feeds, &ends.fetches, options)
    }
}

/// Returns another row, and whether a run together with `row` tells anything: whether they differ, or are decoded.
/// `None` for texts that cannot be varied: a model may pad them to the longest.
fn varied(row: &Tensor, content: Option<&Content>) -> Option<(Tensor, bool)> {
    let Some(strings) = row.as_strings() else { return Some(varied_numbers(row)) };
    if strings.iter().any(|string| is_decoded(string, content)) {
        return Some((row.clone(), true));
    }
    let longer: Option<Vec<_>> = strings.iter().map(|text| varied_text(text, content)).collect();
    let longer: Strings = longer?.into_iter().collect();
    let tells = !longer.is_empty();
    Some((Tensor::strings(row.shape().to_vec(), longer), tells))
}

/// Returns whether a string is a picture, a serialized message or the like, whose size is not that of what it holds.
fn is_decoded(string: &[u8], content: Option<&Content>) -> bool {
    match content {
        Some(Content::Picture(_) | Content::Example(_)) => true,
        Some(Content::Base64(coded)) => is_decoded(string, Some(&**coded)),
        Some(Content::Number | Content::Text) => false,
        None => std::str::from_utf8(string)
            .map_or(true, |text| text.contains(|char: char| char.is_control() && !char.is_whitespace())),
    }
}

/// Returns another number, or a longer text.
fn varied_text(text: &[u8], content: Option<&Content>) -> Option<Vec<u8>> {
    /// Longer ones, unless known to be any text, are probably coded.
    const MOST: usize = 256;
    match content {
        Some(Content::Number) if text == b"1" => Some(b"2".to_vec()),
        Some(Content::Number) => Some(b"1".to_vec()),
        None if text.len() >= MOST => None,
        Some(Content::Text) | None if text.is_empty() => Some(b"a text".to_vec()),
        Some(Content::Text) | None => Some([text, text].join(&b' ')),
        Some(_) => None,
    }
}

/// Returns a row of other numbers, where these are safe, and whether they differ.
#[allow(clippy::wildcard_enum_match_arm)] // Of the dtypes, those that models are fed.
fn varied_numbers(row: &Tensor) -> (Tensor, bool) {
    let values: [&[u8]; 2] = match row.dtype() {
        DType::Float => [&0.25f32.to_ne_bytes(), &0.5f32.to_ne_bytes()],
        DType::Double => [&0.25f64.to_ne_bytes(), &0.5f64.to_ne_bytes()],
        DType::Half => [&0x3400u16.to_ne_bytes(), &0x3800u16.to_ne_bytes()],
        DType::BFloat16 => [&0x3e80u16.to_ne_bytes(), &0x3f00u16.to_ne_bytes()],
        DType::Int16 | DType::UInt16 => [&1u16.to_ne_bytes(), &[0; 2]],
        DType::Int32 | DType::UInt32 => [&1u32.to_ne_bytes(), &[0; 4]],
        DType::Int64 | DType::UInt64 => [&1u64.to_ne_bytes(), &[0; 8]],
        DType::UInt8 | DType::Int8 | DType::Bool => [&[1], &[0]],
        _ => return (row.clone(), false),
    };
    let mut filled = values.into_iter().map(|value| value.repeat(row.len()));
    let other = filled.find(|bytes| bytes != row.bytes());
    let varied = other.map(|bytes| Tensor::numbers(row.dtype(), row.shape().to_vec(), bytes.into()));
    varied.map_or_else(|| (row.clone(), false), |other| (other, true))
}

/// Returns whether two outputs are the same but for how kernels round.
fn are_close(one: &Tensor, other: &Tensor) -> bool {
    if one.dtype() != other.dtype() || one.shape() != other.shape() {
        return false;
    }
    match (one.dtype(), one.data(), other.data()) {
        (DType::Float, Data::Numbers(one), Data::Numbers(other)) => {
            let values = |bytes: &[u8]| {
                bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect::<Vec<_>>()
            };
            numbers_are_close(&values(one), &values(other))
        }
        (DType::Double, Data::Numbers(one), Data::Numbers(other)) => {
            let values = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f64>(bytes);
            numbers_are_close(&values(one), &values(other))
        }
        (_, Data::Numbers(one), Data::Numbers(other)) => one == other,
        (_, Data::Strings(one), Data::Strings(other)) => one.iter().eq(other.iter()),
        _ => false,
    }
}

fn numbers_are_close(one: &[f64], other: &[f64]) -> bool {
    /// Where all are smaller, they are what rounding left of larger ones.
    const LEAST: f64 = 1e-6;
    let finite = one.iter().chain(other).filter(|number| number.is_finite());
    let most = TOLERANCE * finite.fold(LEAST, |largest, number| largest.max(number.abs()));
    one.iter()
        .zip(other)
        .all(|(one, other)| (one.is_nan() && other.is_nan()) || one == other || (one - other).abs() <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::content::PictureFormat;
    use crate::engine::signature::{Signature, TensorSpec};
    use crate::engine::{Model, Termination};
    use crate::error::Error;
    use std::sync::mpsc;

    fn strings(strings: &[&[u8]]) -> Tensor {
        #[allow(clippy::cast_possible_wrap)] // A few.
        Tensor::strings(vec![1, strings.len() as i64], strings.iter().collect())
    }

    #[test]
    fn texts_become_longer_and_what_is_decoded_stays() {
        let picture = Content::Picture(PictureFormat::Jpeg);
        let coded = |content: Content| Content::Base64(Box::new(content));
        let (long, doubled) = ([b'a'; 256], [&[b'a'; 256][..], &[b'a'; 256]].join(&b' '));
        for (content, before, after) in [
            (None, &b"a cat"[..], Some(&b"a cat a cat"[..])),
            (None, b"", Some(b"a text")),
            (None, b"\xff\xd8\xff", Some(b"\xff\xd8\xff")),
            (None, b"\n\x05\n\x03\n\x01x\x12", Some(b"\n\x05\n\x03\n\x01x\x12")),
            (None, &long, None),
            (Some(Content::Text), &long, Some(&doubled)),
            (Some(Content::Number), b"0", Some(b"1")),
            (Some(Content::Number), b"1", Some(b"2")),
            (Some(picture.clone()), b"jpeg", Some(b"jpeg")),
            (Some(Content::Example(BTreeMap::new())), b"", Some(b"")),
            (Some(coded(picture)), b"_9j_", Some(b"_9j_")),
            (Some(coded(Content::Text)), b"dGV4dA", None),
        ] {
            let other = varied(&strings(&[before]), content.as_ref());
            let other = other.map(|(other, tells)| (other.as_strings().unwrap().get(0).to_vec(), tells));
            assert_eq!(other, after.map(|after| (after.to_vec(), true)), "{content:?} {before:?}");
        }
        assert_eq!(varied(&strings(&[b"one", &long]), None).map(drop), None);
        assert!(!varied(&strings(&[]), None).unwrap().1, "nothing to vary");
    }

    #[test]
    fn other_numbers_differ_or_are_said_not_to() {
        for dtype in (0..34).filter_map(DType::from_number).filter(|dtype| dtype.size() > 0) {
            for bytes in [vec![0; 2 * dtype.size()], varied_numbers_of(dtype)] {
                let row = Tensor::numbers(dtype, vec![1, 2], bytes.into());
                let (other, tells) = varied(&row, None).unwrap();
                assert_eq!((other.dtype(), other.shape()), (dtype, row.shape()));
                assert_eq!(other.bytes() != row.bytes(), tells, "{dtype:?}");
            }
        }
        assert!(varied(&Tensor::numbers(DType::Float, vec![1], vec![0; 4].into()), None).unwrap().1);
        assert!(!varied(&Tensor::numbers(DType::Float, vec![1, 0], vec![].into()), None).unwrap().1);
    }

    /// Returns what a row of two zeros becomes.
    fn varied_numbers_of(dtype: DType) -> Vec<u8> {
        let zeros = Tensor::numbers(dtype, vec![1, 2], vec![0; 2 * dtype.size()].into());
        varied_numbers(&zeros).0.bytes().to_vec()
    }

    #[test]
    fn close_is_relative_to_the_largest_of_a_row() {
        let close = |one: &[f64], other: &[f64]| {
            let tensor = |values: &[f64]| {
                let bytes = bytemuck::pod_collect_to_vec::<f64, u8>(values);
                Tensor::numbers(DType::Double, vec![1, 2], bytes.into())
            };
            are_close(&tensor(one), &tensor(other))
        };
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        assert!(close(&[1.0, 0.0], &[1.0, 0.9e-4]) && !close(&[1.0, 0.0], &[1.0, 1.1e-4]));
        assert!(!close(&[1e-4, 2e-4], &[2e-4, 1e-4]), "of many classes");
        assert!(close(&[1e-4, 2e-4], &[1e-4, 2.000_01e-4]));
        assert!(close(&[1e-12, 0.0], &[0.0, 1e-13]), "rounding");
        assert!(close(&[nan, inf], &[nan, inf]) && !close(&[nan, 1.0], &[1.0, 1.0]));
        assert!(!close(&[inf, 1.0], &[inf, 2.0]) && !close(&[inf, 1.0], &[1.0, 1.0]));
    }

    /// Returns for each text the length of the longest, or its own, as a probability of 1 in a million.
    struct Lengths {
        signatures: BTreeMap<String, Signature>,
        content: Option<Content>,
        pads: bool,
    }

    impl Model for Lengths {
        fn signatures(&self) -> &BTreeMap<String, Signature> {
            &self.signatures
        }

        fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
            (tensor == "x:0").then_some(Endpoint(0))
        }

        fn changes_nothing(&self, _: &str) -> bool {
            true
        }

        fn termination(&self, _: &str) -> Termination {
            Termination::ByShapes
        }

        fn content(&self, signature: &str, input: &str) -> Option<&Content> {
            self.content.as_ref().filter(|_| (signature, input) == ("lengths", "text"))
        }

        fn run(&self, feeds: &[(Endpoint, Tensor)], _: &[Endpoint], _: RunOptions) -> Result<Vec<Tensor>> {
            let texts = feeds[0].1.as_strings().ok_or_else(|| Error::invalid("no texts"))?;
            let longest = texts.iter().map(<[u8]>::len).max().unwrap_or(0);
            #[allow(clippy::cast_precision_loss)] // Some bytes.
            let length = |text: &[u8]| (if self.pads { longest } else { text.len() }) as f32 * 1e-6;
            let lengths: Vec<f32> = texts.iter().map(length).collect();
            let bytes = bytemuck::pod_collect_to_vec::<f32, u8>(&lengths);
            Ok(vec![Tensor::numbers(DType::Float, feeds[0].1.shape().to_vec(), bytes.into())])
        }
    }

    /// Returns whether `text` takes part after a warm-up with it.
    fn takes(text: &[u8], content: Option<Content>, pads: bool) -> bool {
        let input = TensorSpec {
            alias: "text".to_owned(),
            tensor: "x:0".to_owned(),
            dtype: DType::String,
            shape: None,
        };
        let signature = Signature {
            name: "lengths".into(),
            method_name: String::new(),
            inputs: vec![input],
            outputs: Vec::new(),
            defaults: BTreeMap::new(),
        };
        let model = Lengths { signatures: [("lengths".to_owned(), signature)].into(), content, pads };
        let batcher =
            Batcher::new(super::super::Batching::Automatic(None), Arc::new(model), None, mpsc::channel().0);
        let run = Run {
            feeds: vec![(Endpoint(0), Tensor::strings(vec![1], [text].into_iter().collect()))],
            fetches: vec![Endpoint(1)],
            threads: Threads::Caller,
            context: crate::context::Context::default(),
            repeatable: true,
        };
        batcher.run(run.clone()).unwrap();
        batcher.warm();
        batcher.takes(&run.feeds, &run.fetches)
    }

    #[test]
    fn texts_that_are_padded_to_the_longest_are_left_alone() {
        for content in [None, Some(Content::Text)] {
            assert!(takes(b"text", content.clone(), false));
            assert!(!takes(b"text", content, true));
        }
        assert!(!takes(&[b'a'; 300], None, false), "not varied");
        assert!(takes(b"\xff\xd8\xff", None, false), "decoded");
    }
}
