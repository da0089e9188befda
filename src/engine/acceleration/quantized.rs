//! Graphs whose weights and values are whole numbers of 8 bits, made by a program in a process of its own.
//!
//! The program (`python/servable/engines/quantize.py`) gets a folder with the graph and with values of its inputs, by
//! which it is calibrated, and leaves OpenVINO's `model.xml` there. It runs at the priority of the thread that calls,
//! and ends when its standard input is closed, which is when the server ends, however that happens.

use crate::error::{Error, Kind, Result};
use crate::tensor::{DType, Tensor};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The file that the program leaves.
pub(super) const MODEL: &str = "model.xml";
/// Interval at which a process is asked whether it goes on.
const WAKE: Duration = Duration::from_millis(100);
/// Longest time of a process: others wait for it.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Most bytes of its standard error that are looked at.
const MOST_SAID: u64 = 1 << 20;
/// What the program gets of the server's environment, in which there may be secrets.
const ENVIRONMENT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH"];

/// What a graph is calibrated by.
pub(super) struct Calibration<'c> {
    /// Returns values of its inputs, in their order, of several requests.
    pub(super) requests: &'c dyn Fn() -> Result<Vec<Vec<Tensor>>>,
    /// Returns whether the model is still wanted.
    pub(super) goes_on: &'c (dyn Fn() -> bool + Sync),
}

/// Makes the model in `folder`, where the graph is, with inputs of these `names`. `command`: the beginning of the command
/// line.
pub(super) fn make(
    command: &[String],
    folder: &Path,
    names: &[String],
    calibration: &Calibration<'_>,
) -> Result<()> {
    let requests = (calibration.requests)()?;
    if requests.is_empty() {
        return Err(no_requests("it is calibrated"));
    }
    let samples = folder.join("calibration");
    let unwritable = |why| Error::new(Kind::Unavailable, format!("{}: {why}", folder.display()));
    fs::create_dir(&samples).map_err(unwritable)?;
    for (request, tensors) in requests.iter().enumerate() {
        for (input, tensor) in tensors.iter().enumerate() {
            fs::write(samples.join(format!("{request}-{input}.npy")), npy(tensor)?).map_err(unwritable)?;
        }
    }
    run(command, folder, names, calibration.goes_on)?;
    // They may be a client's; the model does not need them.
    fs::remove_dir_all(&samples).map_err(unwritable)?;
    if folder.join(MODEL).is_file() { Ok(()) } else { Err(failed("it left no model")) }
}

/// Returns the error of a model without requests by which `is_done` what needs some.
pub(super) fn no_requests(is_done: &str) -> Error {
    let known = "none is known but made-up ones: add warm-up requests (servable warmup make or record)";
    Error::new(Kind::FailedPrecondition, format!("{is_done} by requests, and {known}"))
}

/// Returns whether the values of a request say something of the ranges that values have: those of a made-up one are all
/// the same.
pub(super) fn says_something(tensors: &[Tensor]) -> bool {
    let varies = |tensor: &Tensor| {
        let mut values = tensor.bytes().chunks_exact(tensor.dtype().size().max(1));
        let first = values.next();
        if tensor.len() == 1 {
            return first.is_some_and(|value| value.iter().any(|byte| *byte != 0));
        }
        values.any(|value| Some(value) != first)
    };
    tensors.iter().any(|tensor| tensor.dtype() != DType::String && varies(tensor))
}

/// A process, which is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is none.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn run(command: &[String], folder: &Path, names: &[String], goes_on: &dyn Fn() -> bool) -> Result<()> {
    let Some((program, beginning)) = command.split_first() else {
        return Err(failed("no program is known for it"));
    };
    let kept = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let started = Command::new(program)
        .args(beginning)
        .arg(folder)
        .args(names)
        .env_clear()
        .envs(kept)
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A Ctrl-C is for the server, which ends this process.
        .process_group(0)
        .spawn();
    let mut running = Running(started.map_err(|why| failed(&format!("{program}: {why}")))?);
    let said = said(&mut running.0, goes_on)?;
    let status = running.0.wait().map_err(|why| failed(&why.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    Err(failed(&format!("the process ended with {status}{}{last}", if last.is_empty() { "" } else { ": " })))
}

/// Returns what the process writes to standard error, once it has closed it. Fails if it takes too long, or if it is not
/// wanted any more.
fn said(child: &mut Child, goes_on: &dyn Fn() -> bool) -> Result<String> {
    let (sender, closed) = mpsc::sync_channel(1);
    if let Some(mut stderr) = child.stderr.take() {
        let read = move || {
            let mut said = Vec::new();
            // What cannot be read any more was not said; what is too much has to be taken all the same.
            let _read = stderr.by_ref().take(MOST_SAID).read_to_end(&mut said);
            let _rest = std::io::copy(&mut stderr, &mut std::io::sink());
            let _gone = sender.send(String::from_utf8_lossy(&said).into_owned());
        };
        let reader = std::thread::Builder::new().name("servable-quantize".to_owned()).spawn(read);
        reader.map_err(|why| failed(&why.to_string()))?;
    }
    let begun = Instant::now();
    loop {
        match closed.recv_timeout(WAKE) {
            Ok(said) => return Ok(said),
            Err(RecvTimeoutError::Disconnected) => return Ok(String::new()),
            Err(RecvTimeoutError::Timeout) if !goes_on() => {
                return Err(failed("the version is being unloaded"));
            }
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > LONGEST => {
                return Err(failed(&format!("it took more than {} minutes", LONGEST.as_secs() / 60)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Returns the error of a moment: the next start may succeed.
fn failed(why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("it could not be quantized: {why}"))
}

/// Returns `tensor` as NumPy's file format has it, version 1.0.
#[allow(clippy::wildcard_enum_match_arm)] // All others are no inputs of a graph that is quantized, also new ones.
fn npy(tensor: &Tensor) -> Result<Vec<u8>> {
    let dtype = match tensor.dtype() {
        DType::Float => "<f4",
        DType::Half => "<f2",
        DType::Int8 => "|i1",
        DType::Int16 => "<i2",
        DType::Int32 => "<i4",
        DType::Int64 => "<i8",
        DType::UInt8 => "|u1",
        DType::Bool => "|b1",
        other => {
            return Err(Error::new(
                Kind::Unimplemented,
                format!("inputs of {} are not for calibration", other.name()),
            ));
        }
    };
    let shape: String = tensor.shape().iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The values begin at a multiple of 64 bytes.
    let padding = (header.len() + 11).next_multiple_of(64) - (header.len() + 11);
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| failed("a shape is too long"))?;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(tensor.bytes());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::numbers(DType::Float, vec![1, values.len() as i64], bytes.into())
    }

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec()
    }

    fn made(script: &str, goes_on: bool) -> (tempfile::TempDir, Result<()>) {
        let folder = tempfile::tempdir().unwrap();
        let requests = || Ok(vec![vec![floats(&[1.0, 2.0])]]);
        let calibration = Calibration { requests: &requests, goes_on: &|| goes_on };
        let done = make(&shell(script), folder.path(), &["x:0".to_owned()], &calibration);
        (folder, done)
    }

    #[test]
    fn the_program_gets_folder_names_and_values_and_leaves_a_model() {
        let (folder, done) = made(
            r#"test "$2" = x:0 && cp "$1/calibration/0-0.npy" "$1/model.xml" && test -z "$SECRET""#,
            true,
        );
        done.unwrap();
        let npy = fs::read(folder.path().join(MODEL)).unwrap();
        let text = String::from_utf8_lossy(&npy[..128]);
        assert!(text.contains("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, ), }"), "{text}");
        assert_eq!((npy.len() - 8) % 64, 0);
        assert_eq!(&npy[npy.len() - 8..], floats(&[1.0, 2.0]).bytes());
        assert!(!folder.path().join("calibration").exists());
    }

    #[test]
    fn a_program_that_fails_is_an_error_of_the_moment() {
        for (script, expected) in [
            ("echo first >&2; echo the reason >&2; exit 3", "exit status: 3: the reason"),
            ("kill -9 $$", "signal: 9"),
            ("true", "it left no model"),
        ] {
            let why = made(script, true).1.unwrap_err();
            assert_eq!(why.kind, Kind::Unavailable);
            assert!(why.message.contains(expected), "{}", why.message);
        }
        let none = Calibration { requests: &|| Ok(Vec::new()), goes_on: &|| true };
        let folder = tempfile::tempdir().unwrap();
        let why = make(&shell("true"), folder.path(), &[], &none).unwrap_err();
        assert!(why.message.contains("none is known but made-up ones"), "{}", why.message);
        let missing = make(
            &["/nowhere".to_owned()],
            folder.path(),
            &[],
            &Calibration { requests: &|| Ok(vec![vec![floats(&[1.0])]]), ..none },
        );
        assert!(missing.unwrap_err().message.contains("/nowhere"));
    }

    #[test]
    fn a_program_for_nobody_is_ended() {
        // It would wait for ever: its standard input stays open.
        let why = made("cat", false).1.unwrap_err();
        assert!(why.message.contains("is being unloaded"), "{}", why.message);
    }

    #[test]
    fn made_up_values_say_nothing() {
        for (values, expected) in [
            (&[0.0, 0.0][..], false),
            (&[0.5, 0.5], false),
            (&[0.0, 0.5], true),
            (&[0.0], false),
            (&[3.0], true),
        ] {
            assert_eq!(says_something(&[floats(values)]), expected, "{values:?}");
        }
        assert!(!says_something(&[Tensor::strings(vec![2], ["a", "b"].into_iter().collect())]));
        assert!(!says_something(&[floats(&[])]));
    }
}
