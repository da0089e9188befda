//! The payload log: what is chosen, how files end and begin, and what happens when they cannot be written.

use super::*;
use crate::tfrecord::Records;
use std::path::Path;

const SOON: Duration = Duration::from_secs(60);
const NO_LIMITS: FileLimits = FileLimits { bytes: 0, age: None };

fn as_json(record: &Bytes) -> Vec<u8> {
    format!("[{}]", record.len()).into_bytes()
}

fn payloads(limits: FileLimits) -> Payloads {
    Payloads::new(limits, as_json, None)
}

fn rule(model: &str, folder: &Path, form: Form, share: f64) -> PayloadRule {
    let place = Place { form, prefix: folder.join("logs/of") };
    PayloadRule { model: model.to_owned(), place, share, sampling_config: Vec::new(), tags: Vec::new() }
}

fn log(payloads: &Payloads, model: &str, record: &'static [u8]) {
    payloads.choose(model).unwrap().log(record.into(), payloads.reserve());
}

/// Returns the files in the order they were made.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("logs")) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let number = |path: &PathBuf| -> u64 {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        stem.rsplit_once('-').unwrap().1.parse().unwrap()
    };
    files.sort_by_key(number);
    files
}

fn records(file: &Path) -> Vec<Vec<u8>> {
    Records::new(std::fs::File::open(file).unwrap()).collect::<Result<_>>().unwrap()
}

#[test]
fn records_of_several_models_with_one_place_go_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    assert!(!payloads.is_active() && payloads.choose("a").is_none());
    let of = |model| rule(model, folder.path(), Form::TfRecord, 1.0);
    payloads.configure(vec![of("a"), of("b")]).unwrap();
    assert!(payloads.is_active() && payloads.choose("c").is_none());
    log(&payloads, "a", b"one");
    log(&payloads, "b", b"two");
    assert!(payloads.finish(SOON));
    let [file] = &files(folder.path())[..] else { panic!() };
    assert_eq!((records(file), payloads.counts()), (vec![b"one".to_vec(), b"two".to_vec()], (2, 0)));
    assert!(payloads.choose("a").is_none());
}

#[test]
fn rules_are_replaced_and_what_waits_is_still_written() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
    log(&payloads, "a", b"one");
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 1.0)]).unwrap();
    log(&payloads, "a", b"two!");
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 0.0)]).unwrap();
    assert!(!payloads.is_active());
    let [first, second] = &files(folder.path())[..] else { panic!() };
    assert_eq!(records(first), [b"one"]);
    assert_eq!(std::fs::read_to_string(second).unwrap(), "[4]\n");
    assert_eq!(payloads.counts(), (2, 0));
}

#[test]
fn a_rule_that_stays_keeps_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    for record in [&b"one"[..], b"two"] {
        payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
        log(&payloads, "a", record);
    }
    payloads.finish(SOON);
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_share_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 0.5)]).unwrap();
    let chosen = (0..1000).filter(|_| payloads.choose("a").is_some()).count();
    // 15 standard deviations.
    assert!((250..750).contains(&chosen), "{chosen}");
}

#[test]
fn a_file_that_is_full_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let limits = FileLimits { bytes: 10, age: None };
    let payloads = payloads(limits);
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 1.0)]).unwrap();
    (0..6).for_each(|_| log(&payloads, "a", b"123"));
    payloads.finish(SOON);
    let sizes: Vec<_> = files(folder.path()).iter().map(|file| file.metadata().unwrap().len()).collect();
    assert_eq!(sizes, [12, 12], "three records of four bytes fill one");
}

#[test]
fn a_file_that_is_old_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(FileLimits { bytes: 0, age: Some(Duration::ZERO) });
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 1.0)]).unwrap();
    for number in 1..=2 {
        log(&payloads, "a", b"123");
        while payloads.counts().0 < number {
            std::thread::yield_now();
        }
    }
    payloads.finish(SOON);
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn what_cannot_be_written_is_counted_and_what_can_be_later_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("logs"), "a file where a folder should be").unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 1.0)]).unwrap();
    log(&payloads, "a", b"123");
    while payloads.counts() != (0, 1) {
        std::thread::yield_now();
    }
    std::fs::remove_file(folder.path().join("logs")).unwrap();
    log(&payloads, "a", b"123");
    payloads.finish(SOON);
    assert_eq!((files(folder.path()).len(), payloads.counts()), (1, (1, 1)));
}

/// A limit on the size of files holds for a whole process, so this test runs itself in one of its own.
#[test]
fn the_records_before_the_end_of_the_disk_are_kept() {
    if std::env::var_os("SERVABLE_TEST_SMALL_FILES").is_none() {
        let name = "payload::tests::the_records_before_the_end_of_the_disk_are_kept";
        let limited = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact \"$1\"";
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", limited]).arg(std::env::current_exe().unwrap()).arg(name);
        let output = sh.env("SERVABLE_TEST_SMALL_FILES", "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = Place { form: Form::TfRecord, prefix: folder.path().join("logs/of") };
    let counts = Arc::<Counts>::default();
    let mut files = Files::new(place, NO_LIMITS, as_json, (counts.clone(), Arc::default()));
    let of = |bytes: &[u8]| Record { bytes: Bytes::copy_from_slice(bytes), _memory: Reservation::default() };
    // A kilobyte, or two where the shell counts so, has room for some records of ten, and for none of the last two.
    let small: Vec<_> = (0..10u8).map(|number| of(&[number; 300])).collect();
    crate::log_queue::Sink::write(&mut files, small, 0);
    crate::log_queue::Sink::write(&mut files, vec![of(&[7; 3000]), of(b"8")], 0);
    let [file] = &self::files(folder.path())[..] else { panic!() };
    let kept = records(file);
    assert!((3..10).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().zip(0u8..).all(|(record, number)| *record == [number; 300]));
    let (written, lost) = (counts.written.load(Relaxed), counts.lost.load(Relaxed));
    assert_eq!((written as usize, lost as usize), (kept.len(), 12 - kept.len()));
}

#[test]
fn files_are_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::Json, 1.0)]).unwrap();
    log(&payloads, "a", b"123");
    payloads.finish(SOON);
    let [file] = &files(folder.path())[..] else { panic!() };
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o007, 0);
}

fn until_written(payloads: &Payloads, records: u64) {
    while payloads.counts().0 < records {
        std::thread::yield_now();
    }
}

#[test]
fn a_file_that_is_renamed_or_removed_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
    log(&payloads, "a", b"one");
    until_written(&payloads, 1);
    let [first] = &files(folder.path())[..] else { panic!() };
    let taken = folder.path().join("taken");
    std::fs::rename(first, &taken).unwrap();
    log(&payloads, "a", b"two");
    until_written(&payloads, 2);
    let [second] = &files(folder.path())[..] else { panic!() };
    assert_eq!((records(&taken), records(second)), (vec![b"one".to_vec()], vec![b"two".to_vec()]));
    std::fs::remove_file(second).unwrap();
    log(&payloads, "a", b"three");
    payloads.finish(SOON);
    let [third] = &files(folder.path())[..] else { panic!() };
    assert_eq!((records(third), payloads.counts()), (vec![b"three".to_vec()], (3, 0)));
}

#[test]
fn new_files_begin_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
    for number in 1..=3 {
        log(&payloads, "a", b"one");
        until_written(&payloads, number);
        if number == 1 {
            payloads.reopen();
        }
    }
    payloads.finish(SOON);
    let sizes: Vec<_> = files(folder.path()).iter().map(|file| records(file).len()).collect();
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn records_count_as_memory_until_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let budget = crate::memory::Budget::new(16 << 20);
    let payloads = Payloads::new(NO_LIMITS, as_json, Some(Account::of_logs(budget.clone())));
    payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
    let (memory, more) = (payloads.reserve(), payloads.reserve());
    assert!(memory.try_grow(1 << 20) && !more.try_grow(2 << 20));
    assert_eq!(budget.used(), 1 << 20);
    let chosen = payloads.choose("a").unwrap();
    chosen.log(vec![0; 1 << 20].into(), memory);
    chosen.lose();
    payloads.finish(SOON);
    assert_eq!((budget.used(), payloads.counts()), (0, (1, 1)));
}

#[test]
fn a_record_that_is_not_accepted_is_counted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    payloads.configure(vec![rule("a", folder.path(), Form::TfRecord, 1.0)]).unwrap();
    let chosen = payloads.choose("a").unwrap();
    chosen.log(vec![0; LIMITS.bytes + 1].into(), payloads.reserve());
    assert_eq!(payloads.counts(), (0, 1));
    payloads.finish(SOON);
    chosen.log(vec![0].into(), payloads.reserve());
    assert_eq!(payloads.counts(), (0, 2), "its place has ended");
}

#[test]
fn places_are_limited_since_each_has_a_thread() {
    let folder = tempfile::tempdir().unwrap();
    let payloads = payloads(NO_LIMITS);
    let rules = |count: usize, share| {
        let of = |number: usize| {
            let place = Place { form: Form::Json, prefix: folder.path().join(format!("{number}")) };
            PayloadRule { place, ..rule(&format!("m{number}"), folder.path(), Form::Json, share) }
        };
        (0..count).map(of).collect::<Vec<_>>()
    };
    payloads.configure(rules(1, 1.0)).unwrap();
    let refused = payloads.configure(rules(MOST_PLACES + 1, 1.0)).unwrap_err();
    assert_eq!(refused.message, "at most 64 payload logs can be written, got 65");
    assert!(payloads.choose("m0").is_some(), "the former rules hold");
    payloads.configure(rules(MOST_PLACES + 1, 0.0)).unwrap();
    assert!(payloads.choose("m0").is_none());
}
