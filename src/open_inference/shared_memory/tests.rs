//! Regions over real files in `/dev/shm`: registered, read, written, shortened, removed.

use super::*;
use crate::engine::signature::{Signature, TensorSpec};
use crate::memory::{Account, Budget};
use crate::open_inference::inputs::Inputs;
use crate::open_inference::outputs::Outputs;
use crate::open_inference::parameters::OfOutput;
use crate::tensor::DType;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A file of the folder, removed at the end.
struct Shared {
    name: String,
    path: PathBuf,
}

impl Shared {
    fn new(content: &[u8]) -> Shared {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("servable_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = Path::new(FOLDER).join(&name);
        std::fs::write(&path, content).unwrap();
        Shared { name, path }
    }

    fn key(&self) -> String {
        format!("/{}", self.name)
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn cut(&self, length: u64) {
        OpenOptions::new().write(true).open(&self.path).unwrap().set_len(length).unwrap();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

fn spec(alias: &str, dtype: DType) -> TensorSpec {
    TensorSpec { alias: alias.to_owned(), tensor: format!("{alias}:0"), dtype, shape: None }
}

fn signature() -> Signature {
    Signature {
        name: "serving_default".into(),
        method_name: String::new(),
        inputs: vec![spec("b", DType::UInt8), spec("f", DType::Float), spec("s", DType::String)],
        outputs: vec![spec("p", DType::UInt8), spec("q", DType::UInt8)],
        defaults: BTreeMap::new(),
    }
}

fn at(region: &str, offset: usize, bytes: usize) -> InRegion {
    InRegion { region: Some(region.into()), bytes: Some(bytes), offset }
}

fn register(regions: Regions<'_>, name: &str, key: &str, offset: u64, bytes: u64) -> Result<()> {
    regions.register(&NewRegion { name, key, offset, bytes })
}

fn read_into(
    regions: Regions<'_>,
    input: &str,
    place: &InRegion,
    count: i64,
    memory: &Reservation,
) -> Result<Tensor> {
    let signature = signature();
    let datatype = match input {
        "b" => "UINT8",
        "f" => "FP32",
        _ => "BYTES",
    };
    let expected = Inputs::new("m", &signature).expect(input, datatype, &[count])?;
    regions.read(place, expected, memory)
}

fn read(regions: Regions<'_>, place: &InRegion) -> Result<Vec<u8>> {
    let count = i64::try_from(place.bytes.unwrap_or(0)).unwrap();
    read_into(regions, "b", place, count, &Reservation::default()).map(|tensor| tensor.bytes().to_vec())
}

fn outputs(regions: Regions<'_>, places: [Option<InRegion>; 2]) -> Result<Chosen> {
    let signature = signature();
    let mut outputs = Outputs::new("m", &signature);
    for (name, place) in ["p", "q"].into_iter().zip(places) {
        outputs.add(name, OfOutput { shared: place.map(Box::new), ..OfOutput::default() })?;
    }
    let mut chosen = outputs.finish()?;
    regions.put(&mut chosen)?;
    Ok(chosen)
}

fn uncounted() -> Reservation {
    Reservation::default()
}

fn bytes_of(values: &[u8]) -> Tensor {
    let shape = vec![i64::try_from(values.len()).unwrap()];
    Tensor::numbers(DType::UInt8, shape, Bytes::copy_from_slice(values))
}

#[test]
fn a_region_is_read_where_it_is_said() {
    let (file, memory) = (Shared::new(b"0123456789"), SharedMemory::new(""));
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 2, 8).unwrap();
    assert_eq!(read(regions, &at("r", 0, 8)).unwrap(), b"23456789");
    assert_eq!(read(regions, &at("r", 3, 2)).unwrap(), b"56");
    assert_eq!(read(regions, &at("r", 8, 0)).unwrap(), b"");
    // Inputs may overlap, and regions, too.
    register(regions, "again", &file.key(), 0, 10).unwrap();
    assert_eq!(read(regions, &at("again", 3, 2)).unwrap(), b"34");
    for (place, text) in [
        (at("r", 9, 0), "Invalid offset for"),
        (at("r", 0, 9), "Invalid offset + byte size for"),
        (at("r", usize::MAX, 1), "Invalid offset for"),
        (at("r", 1, usize::MAX), "Invalid offset + byte size for"),
        (at("none", 0, 1), "Unable to find shared memory region: 'none'"),
        (InRegion { bytes: None, ..at("r", 0, 0) }, "parameter 'shared_memory_byte_size' expects"),
        (InRegion { region: None, ..at("", 0, 1) }, "parameter 'shared_memory_region' expects"),
    ] {
        let memory = Reservation::default();
        let error = read_into(regions, "b", &place, 1, &memory).unwrap_err();
        assert!(error.message.starts_with(text), "{error}");
        assert_eq!(memory.bytes(), 0);
    }
    let wrong = read_into(regions, "b", &at("r", 0, 8), 7, &Reservation::default()).unwrap_err();
    assert!(wrong.message.contains("unexpected total byte size 8 for input 'b', expecting 7"));
}

#[test]
fn strings_are_read_after_their_lengths() {
    let (file, memory) = (Shared::new(b"\x01\0\0\0a\x02\0\0\0bc"), SharedMemory::new(""));
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 0, 11).unwrap();
    let tensor = read_into(regions, "s", &at("r", 0, 11), 2, &Reservation::default()).unwrap();
    assert!(tensor.as_strings().unwrap().iter().eq([&b"a"[..], b"bc"]));
    let error = read_into(regions, "s", &at("r", 0, 10), 2, &Reservation::default()).unwrap_err();
    assert!(error.message.contains("a length goes beyond the end"), "{error}");
}

#[test]
fn what_strings_take_until_they_are_written_is_counted() {
    const SIZE: usize = 1 << 20;
    let (file, memory) = (Shared::new(&[0; 2 * SIZE]), SharedMemory::new(""));
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 0, 2 * SIZE as u64).unwrap();
    let chosen = outputs(regions, [Some(at("r", 0, 2 * SIZE)), None]).unwrap();
    let strings = Tensor::strings(vec![1], ["x".repeat(SIZE)].into_iter().collect());
    let budget = Budget::new(SIZE);
    let small = Reservation::new(Account::new(budget.clone()));
    let error = chosen.place(0).unwrap().write("p", &strings, &small).unwrap_err();
    assert_eq!((error.kind, budget.used()), (Kind::ResourceExhausted, 0));
    assert_eq!(file.content()[..4], [0; 4], "nothing was written");
    let enough = Reservation::new(Account::new(Budget::new(8 * SIZE)));
    enough.grow(10_000).unwrap();
    assert_eq!(chosen.place(0).unwrap().write("p", &strings, &enough), Ok(SIZE + 4));
    assert_eq!(enough.bytes(), 10_000, "and no longer");
}

#[test]
fn what_vanishes_or_shrinks_is_told_and_survived() {
    let (file, memory) = (Shared::new(&[7; 8192]), SharedMemory::new(""));
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 0, 8192).unwrap();
    file.cut(100);
    assert_eq!(read(regions, &at("r", 0, 100)).unwrap(), [7; 100]);
    let error = read(regions, &at("r", 0, 8192)).unwrap_err();
    assert!(error.message.contains("its file has become shorter"), "{error}");
    let placed = outputs(regions, [Some(at("r", 4096, 8)), None]).unwrap();
    let error = placed.place(0).unwrap().write("p", &bytes_of(&[1; 8]), &uncounted()).unwrap_err();
    assert!(error.message.contains("cannot be written: its file has become shorter"), "{error}");
    assert_eq!(file.content().len(), 100, "it was not made longer");
    // A file without a name is there as long as it is registered.
    file.cut(8192);
    std::fs::remove_file(&file.path).unwrap();
    assert_eq!(read(regions, &at("r", 0, 1)).unwrap(), [7]);
    assert!(register(regions, "new", &file.key(), 0, 1).is_err());
}

#[test]
fn floats_may_be_read_where_they_are() {
    let file = Shared::new(&[0; 8192]);
    let (memory, known) = (SharedMemory::new("").read_in_place(true), ReadInPlace::default());
    register(memory.of(None), "r", &file.key(), 64, 8128).unwrap();
    let regions = memory.of(None).known_to(&known);
    let held = Reservation::new(Account::new(Budget::new(1 << 20)));
    let [one, other] = ["f", "b"].map(|input| {
        let count = if input == "f" { 2 } else { 8 };
        read_into(regions, input, &at("r", 64, 8), count, &held).unwrap()
    });
    let copied = read_into(memory.of(None), "f", &at("r", 64, 8), 2, &held).unwrap();
    assert_eq!((held.bytes(), one.bytes().as_ptr() as usize % 64), (16, 0), "only copies are counted");
    OpenOptions::new().write(true).open(&file.path).unwrap().write_all_at(&[1; 8], 128).unwrap();
    assert_eq!((one.bytes(), other.bytes(), copied.bytes()), (&[1; 8][..], &[0; 8][..], &[0; 8][..]));
    known.check().unwrap();
    file.cut(0);
    assert_eq!(one.bytes(), [0; 8]);
    for error in [known.check().unwrap_err(), read_into(regions, "f", &at("r", 0, 8), 2, &held).unwrap_err()]
    {
        assert!(error.message.contains("its file has become shorter"), "{error}");
    }
    // Registered again, it is as new.
    file.cut(8192);
    memory.of(None).unregister("r");
    register(memory.of(None), "r", &file.key(), 0, 8192).unwrap();
    assert_eq!(read_into(regions, "f", &at("r", 0, 8), 2, &held).unwrap().bytes(), [0; 8]);
}

#[test]
fn outputs_are_written_in_parts_of_their_own() {
    let (file, memory) = (Shared::new(&[0; 8]), SharedMemory::new(""));
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 2, 6).unwrap();
    register(regions, "s", &file.key(), 0, 8).unwrap();
    let chosen = outputs(regions, [Some(at("r", 0, 3)), Some(at("r", 3, 3))]).unwrap();
    let (p, q) = (chosen.place(0).unwrap(), chosen.place(1).unwrap());
    assert_eq!(
        (p.write("p", &bytes_of(b"abc"), &uncounted()), q.write("q", &bytes_of(b"de"), &uncounted())),
        (Ok(3), Ok(2))
    );
    assert_eq!(file.content(), b"\0\0abcde\0");
    assert_eq!((q.name(), q.offset()), ("r", 3));
    let error = p.write("p", &bytes_of(b"abcd"), &uncounted()).unwrap_err();
    assert!(error.message.contains("output 'p' (3 bytes) should be at least 4 bytes"), "{error}");
    let strings = Tensor::strings(vec![1], ["a"].into_iter().collect());
    assert!(p.write("p", &strings, &uncounted()).is_err());
    let whole = outputs(regions, [Some(at("s", 0, 8)), None]).unwrap();
    assert_eq!(whole.place(0).unwrap().write("p", &strings, &uncounted()), Ok(5));
    assert_eq!(&file.content()[..5], b"\x01\0\0\0a");
    assert!(whole.place(1).is_none());
    for (one, other) in [
        (at("r", 0, 3), at("r", 2, 3)),
        (at("r", 0, 6), at("r", 5, 1)),
        (at("r", 0, 3), at("s", 0, 3)),
        (at("s", 4, 1), at("r", 0, 6)),
    ] {
        let error = outputs(regions, [Some(one), Some(other)]).unwrap_err();
        assert!(error.message.starts_with("two outputs overlap"), "{error}");
    }
    assert!(outputs(regions, [Some(at("r", 0, 0)), Some(at("r", 0, 6))]).is_ok(), "one is empty");
}

#[test]
fn what_is_no_file_of_ones_own_is_not_registered() {
    let (file, memory) = (Shared::new(b"01234567"), SharedMemory::new("/servable_test_"));
    let regions = memory.of(None);
    let link = Path::new(FOLDER).join(format!("{}_link", file.name));
    symlink("/etc/passwd", &link).unwrap();
    let folder = Path::new(FOLDER).join(format!("{}_folder", file.name));
    std::fs::create_dir(&folder).unwrap();
    for key in
        [format!("{}_link", file.key()), format!("{}_folder", file.key()), format!("{}_none", file.key())]
    {
        let error = register(regions, "r", &key, 0, 1).unwrap_err();
        assert!(error.message.starts_with("Unable to open shared memory region"), "{key}: {error}");
    }
    std::fs::remove_file(&link).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    for (offset, bytes) in [(0, 9), (8, 1), (0, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let error = register(regions, "r", &file.key(), offset, bytes).unwrap_err();
        assert!(error.message.starts_with("failed to register shared memory region"), "{error}");
    }
    for name in ["", &"x".repeat(LONGEST_NAME + 1)] {
        assert!(register(regions, name, &file.key(), 0, 1).is_err());
    }
    assert_eq!(register(regions, "r", "/other", 0, 1).unwrap_err().kind, Kind::PermissionDenied);
    assert_eq!(regions.status(""), Ok(vec![]));
}

#[test]
fn regions_are_told_and_forgotten() {
    let (file, memory) = (Shared::new(&[0; 8]), SharedMemory::new(""));
    let regions = memory.of(None);
    for name in ["a", "b", "c"] {
        register(regions, name, &file.key(), 1, 7).unwrap();
    }
    let again = register(regions, "a", &file.key(), 0, 8).unwrap_err();
    assert_eq!(
        (again.kind, &*again.message),
        (Kind::AlreadyExists, "shared memory region 'a' already in manager")
    );
    let told = RegionStatus { name: "b".into(), key: file.key(), offset: 1, bytes: 7 };
    assert_eq!(regions.status("b"), Ok(vec![told]));
    let placed = regions.place(&at("b", 0, 1)).unwrap();
    regions.unregister("b");
    regions.unregister("b");
    assert_eq!(placed.write("p", &bytes_of(b"x"), &uncounted()), Ok(1), "who uses it may end");
    assert_eq!(regions.status("b").unwrap_err().kind, Kind::NotFound);
    regions.unregister("");
    assert_eq!(regions.status(""), Ok(vec![]));
}

#[test]
fn there_is_a_limit_to_them() {
    let (file, memory) = (Shared::new(&[0; 8]), SharedMemory::new(""));
    let regions = memory.of(None);
    for index in 0..MOST {
        register(regions, &index.to_string(), &file.key(), 0, 8).unwrap();
    }
    assert_eq!(register(regions, "more", &file.key(), 0, 8).unwrap_err().kind, Kind::ResourceExhausted);
    regions.unregister("7");
    register(regions, "more", &file.key(), 0, 8).unwrap();
}

#[test]
fn a_region_is_its_owners() {
    let (file, memory) = (Shared::new(b"secret"), SharedMemory::new(""));
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    register(memory.of(Some(&ann)), "r", &file.key(), 0, 6).unwrap();
    assert_eq!(read(memory.of(Some(&ann)), &at("r", 0, 6)).unwrap(), b"secret");
    for other in [memory.of(Some(&bob)), memory.of(None)] {
        assert_eq!(read(other, &at("r", 0, 6)).unwrap_err().kind, Kind::NotFound);
        assert_eq!(other.status(""), Ok(vec![]));
        other.unregister("");
    }
    assert_eq!(memory.of(Some(&ann)).status("").unwrap().len(), 1);
    // Nor may another register the file, by any name, until it is forgotten; names are everyone's own.
    for other in [memory.of(Some(&bob)), memory.of(None)] {
        let error = register(other, "mine", &file.key(), 0, 1).unwrap_err();
        assert_eq!(error.kind, Kind::PermissionDenied, "{error}");
    }
    let own = Shared::new(b"bob's");
    register(memory.of(Some(&bob)), "r", &own.key(), 0, 5).unwrap();
    assert_eq!(read(memory.of(Some(&bob)), &at("r", 0, 5)).unwrap(), b"bob's");
    // It goes with its token; what has none stays.
    let open = Shared::new(b"open");
    register(memory.of(None), "r", &open.key(), 0, 4).unwrap();
    memory.keep_owners(|_| true);
    assert_eq!(memory.of(Some(&ann)).status("").unwrap().len(), 1);
    memory.keep_owners(|name| name == "bob");
    assert_eq!(memory.of(Some(&ann)).status(""), Ok(vec![]));
    assert_eq!(memory.of(None).status("").unwrap().len(), 1);
    register(memory.of(Some(&bob)), "s", &file.key(), 0, 6).unwrap();
    assert_eq!(memory.of(Some(&bob)).status("").unwrap().len(), 2);
}

#[test]
fn an_owner_leaves_some_to_others() {
    let (file, other, memory) = (Shared::new(&[0; 8]), Shared::new(&[0; 8]), SharedMemory::new(""));
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    for index in 0..MOST_EACH {
        register(memory.of(Some(&ann)), &index.to_string(), &file.key(), 0, 8).unwrap();
    }
    let error = register(memory.of(Some(&ann)), "more", &file.key(), 0, 8).unwrap_err();
    assert_eq!(error.kind, Kind::ResourceExhausted, "{error}");
    register(memory.of(Some(&bob)), "0", &other.key(), 0, 8).unwrap();
}

#[test]
fn what_is_read_is_counted_before() {
    let (file, memory) = (Shared::new(&[0; 100]), SharedMemory::new(""));
    file.cut(64 << 20);
    let regions = memory.of(None);
    register(regions, "r", &file.key(), 0, 64 << 20).unwrap();
    let budget = Budget::new(16 << 20);
    let held = Reservation::new(Account::new(budget.clone()));
    let error = read_into(regions, "b", &at("r", 0, 64 << 20), 64 << 20, &held).unwrap_err();
    assert_eq!((error.kind, budget.used()), (Kind::ResourceExhausted, 0));
}

#[test]
fn bytes_that_json_mentions_are_added_up() {
    for (json, bytes) in [
        (r#"{"shared_memory_byte_size":12,"x":{"shared_memory_byte_size" : 30}}"#, 42),
        (r#"{"shared_memory_byte_size":"x"}"#, 0),
        (r#"{"shared_memory_byte_size":-5}"#, 0),
        (r#"{"shared_memory_byte_size"#, 0),
        (r#"{"shared_memory_byte_size":99999999999999999999999}"#, usize::MAX),
        (r#"{"shared_memory_byte_siz\u0065":9}"#, usize::MAX),
        (r#"{"id":"\n"}"#, usize::MAX),
        ("", 0),
    ] {
        assert_eq!(mentioned(json.as_bytes()), bytes, "{json}");
    }
}
