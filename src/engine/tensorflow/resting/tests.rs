//! Sessions that are let go and loaded again, made up.

use super::*;
use crate::engine::{Threads, fake};
use crate::tensor::DType;
use std::sync::atomic::AtomicUsize;

const IDLE: Duration = Duration::from_secs(60);
const OPTIONS: RunOptions = RunOptions { threads: Threads::Caller, timeout: None };

/// A model that adds.
struct Adder(Box<dyn Model>);

impl Model for Adder {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        self.0.signatures()
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        self.0.endpoint(tensor)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.0.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.0.termination(signature)
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        self.0.run(feeds, fetches, options)
    }
}

/// A version in a folder, and how often it was loaded again.
fn version() -> (tempfile::TempDir, Resting<Adder>, Arc<AtomicUsize>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("saved_model.pb"), "graph").unwrap();
    let known = Known {
        version: folder.path().to_owned(),
        meta: Arc::default(),
        endpoints: ["a", "b", "difference", "sum"].map(str::to_owned).into(),
        files: files::list(folder.path()).ok(),
    };
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let load = move || {
        counted.fetch_add(1, Relaxed);
        // Whoever asks meanwhile waits.
        std::thread::sleep(Duration::from_millis(1));
        Ok(Adder(fake::model(|| {})))
    };
    let resting = Resting::new(known, IDLE, Adder(fake::model(|| {})), load);
    (folder, resting, loads)
}

fn sum(of: &Resting<Adder>) -> Result<Vec<u8>> {
    let value = |value: f32| Tensor::numbers(DType::Float, vec![1], value.to_le_bytes().to_vec().into());
    let feeds =
        [("a", value(1.0)), ("b", value(2.0))].map(|(name, value)| (of.endpoint(name).unwrap(), value));
    Ok(of.run(&feeds, &[of.endpoint("sum").unwrap()], OPTIONS)?[0].bytes().to_vec())
}

#[test]
fn it_is_let_go_after_its_time_without_use() {
    let (_folder, resting, _) = version();
    resting.let_go_after(IDLE - Duration::from_millis(1));
    assert!(resting.has_session());
    resting.let_go_after(IDLE);
    assert!(!resting.has_session());
}

#[test]
fn runs_load_it_again_once_and_answer_the_same() {
    let (_folder, resting, loads) = version();
    let before = sum(&resting).unwrap();
    let held = resting.session().unwrap();
    resting.let_go_after(IDLE);
    assert!(!resting.has_session());
    assert_eq!(Arc::strong_count(&held), 1, "only the run that has it keeps it");
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| assert_eq!(sum(&resting).unwrap(), before));
        }
    });
    assert_eq!(loads.load(Relaxed), 1);
    assert!(resting.has_session());
}

#[test]
fn runs_that_race_with_its_going_are_all_answered() {
    let (_folder, resting, loads) = version();
    let before = sum(&resting).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let run = || {
            let mut alike = true;
            while loads.load(Relaxed) < 20 {
                alike &= sum(&resting).as_ref() == Ok(&before);
            }
            alike
        };
        let runners = [threads.spawn(run), threads.spawn(run)];
        threads.spawn(|| {
            while !ended.load(Relaxed) {
                resting.let_go_after(IDLE);
            }
        });
        let answered = runners.map(|runner| runner.join().unwrap_or(false));
        ended.store(true, Relaxed);
        assert_eq!(answered, [true, true]);
    });
}

#[test]
fn a_use_puts_it_off() {
    let (_folder, resting, _) = version();
    resting.let_go_if_idle();
    assert!(resting.has_session());
}

#[test]
fn it_stays_if_its_files_have_changed_or_gone() {
    let (folder, resting, _) = version();
    std::fs::write(folder.path().join("saved_model.pb"), "another").unwrap();
    resting.let_go_after(IDLE);
    assert!(resting.has_session());
    drop(folder);
    resting.let_go_after(IDLE);
    assert!(resting.has_session());
}

#[test]
fn a_run_for_files_that_have_gone_says_so() {
    let (folder, resting, loads) = version();
    resting.let_go_after(IDLE);
    let path = folder.path().display().to_string();
    drop(folder);
    let why = sum(&resting).unwrap_err();
    assert!(resting.0.is_told.load(Relaxed));
    assert_eq!(why.kind, Kind::Unavailable);
    assert!(why.message.contains(&path) && why.message.contains("gone or changed"), "{why}");
    assert_eq!(loads.load(Relaxed), 0);
}

#[test]
fn a_thread_that_serves_others_loads_nothing() {
    let (_folder, resting, loads) = version();
    let value = |value: f32| Tensor::numbers(DType::Float, vec![1], value.to_le_bytes().to_vec().into());
    let feeds = ["a", "b"].map(|name| (resting.endpoint(name).unwrap(), value(1.0)));
    let fetches = [resting.endpoint("sum").unwrap()];
    assert!(resting.run_at_once(&feeds, &fetches, OPTIONS).unwrap().is_ok());
    resting.let_go_after(IDLE);
    assert!(resting.run_at_once(&feeds, &fetches, OPTIONS).is_none());
    assert_eq!((loads.load(Relaxed), resting.has_session()), (0, false));
}

#[test]
fn a_run_waits_no_longer_than_it_may_and_the_load_goes_on() {
    let (folder, _, _) = version();
    let known = Known {
        version: folder.path().to_owned(),
        meta: Arc::default(),
        endpoints: ["a", "b", "difference", "sum"].map(str::to_owned).into(),
        files: files::list(folder.path()).ok(),
    };
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let load = move || {
        // Until the test has had its answer.
        let _gone = held.lock().unwrap().recv();
        Ok(Adder(fake::model(|| {})))
    };
    let resting = Resting::new(known, IDLE, Adder(fake::model(|| {})), load);
    resting.let_go_after(IDLE);
    for _ in 0..2 {
        let options = RunOptions { timeout: Some(Duration::from_millis(1)), ..OPTIONS };
        let late = resting.run(&[], &[], options).unwrap_err();
        assert_eq!(late.kind, Kind::DeadlineExceeded);
    }
    let_go.send(()).unwrap();
    // A second load would wait for ever, or fail.
    assert!(sum(&resting).is_ok() && resting.has_session());
}

#[test]
fn a_load_that_panics_fails_and_the_next_one_is_tried() {
    let (_folder, mut resting, _) = version();
    let panics = AtomicBool::new(true);
    let load = move || {
        assert!(!panics.swap(false, Relaxed), "on purpose");
        Ok(Adder(fake::model(|| {})))
    };
    Arc::get_mut(&mut resting.0).unwrap().load = Box::new(load);
    resting.let_go_after(IDLE);
    assert_eq!(sum(&resting).unwrap_err().kind, Kind::Internal);
    assert!(sum(&resting).is_ok());
}
