//! Tests of .npy files: both ways, and files that lie.

use super::*;
use proptest::prelude::*;

fn floats() -> Tensor {
    Tensor::numbers(DType::Float, vec![1, 2], bytemuck::cast_slice(&[1.0f32, 2.0]).to_vec().into())
}

fn written(tensor: &Tensor) -> Bytes {
    let file = File::new("y", tensor).unwrap();
    let mut out = Vec::new();
    file.write(&mut out);
    assert_eq!(Some(out.len()), file.length());
    out.into()
}

fn error(file: &[u8]) -> String {
    read(&Bytes::copy_from_slice(file), &Reservation::default()).unwrap_err().message.into_owned()
}

#[test]
fn a_file_is_as_numpy_writes_it() {
    // np.save(file, np.array([[1, 2]], np.float32))
    let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    expected.extend_from_slice(format!("{dict:<117}\n").as_bytes());
    expected.extend_from_slice(floats().bytes());
    assert_eq!(written(&floats()), expected);
}

#[test]
fn numbers_are_borrowed() {
    let file = written(&floats());
    let tensor = read(&file, &Reservation::default()).unwrap();
    assert_eq!(
        (tensor.dtype(), tensor.shape(), tensor.bytes()),
        (DType::Float, &[1, 2][..], floats().bytes())
    );
    assert_eq!(tensor.bytes().as_ptr(), file[128..].as_ptr());
}

#[test]
fn strings_are_filled_up_with_zeros() {
    let strings = Tensor::strings(vec![3], [&b"a\0b"[..], b"", b"xy"].iter().collect());
    let file = written(&strings);
    assert!(file.ends_with(b"a\0b\0\0\0xy\0"));
    let back = read(&file, &Reservation::default()).unwrap();
    let of = |tensor: &Tensor| tensor.as_strings().unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(of(&back), of(&strings));
    let empty = Tensor::strings(vec![0, 7], Strings::default());
    assert_eq!(read(&written(&empty), &Reservation::default()).unwrap().shape(), [0, 7]);
    let lost = Tensor::strings(vec![1], ["a\0"].iter().collect());
    assert!(File::new("y", &lost).unwrap_err().message.contains("zero byte"));
    let none = Tensor::numbers(DType::QInt8, vec![0], Bytes::new());
    assert!(File::new("y", &none).unwrap_err().message.contains("of dtype qint8"));
}

#[test]
fn both_versions_are_read() {
    let one = written(&floats());
    let mut two = b"\x93NUMPY\x02\x00\x76\x00\x00\x00".to_vec();
    two.extend_from_slice(&one[10..]);
    assert_eq!(read(&two.into(), &Reservation::default()).unwrap().bytes(), floats().bytes());
}

#[test]
fn files_that_lie_are_refused() {
    let good = written(&floats());
    assert!(error(b"").contains("no .npy file"));
    assert!(error(b"{\"instances\": [1]}").contains("no .npy file"));
    for end in 6..128 {
        assert!(error(&good[..end]).contains("ends in its header"), "{end}");
    }
    for end in 128..good.len() {
        assert!(error(&good[..end]).contains("takes 8 bytes"), "{end}");
    }
    assert!(error(&[&good[..], b"x"].concat()).contains("takes 8 bytes, and 9 came"));
    let mut version = good.to_vec();
    version[6] = 3;
    assert!(error(&version).contains("version 3"));
    assert!(error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("10000 at most"));
    let file = |dict: &str, data: &[u8]| {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&u16::try_from(dict.len()).unwrap().to_le_bytes());
        [&file[..], dict.as_bytes(), data].concat()
    };
    let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }";
    assert!(error(&file(huge, b"")).contains("more than there can be"));
    let many = "{'descr': '|S1', 'fortran_order': False, 'shape': (1000000000,), }";
    assert!(error(&file(many, b"ab")).contains("1000000000 bytes, and 2 came"));
    let truth = "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }";
    assert!(error(&file(truth, b"\x01\x02")).contains("neither 0 nor 1"));
}

proptest! {
    /// What is written is read as it was.
    #[test]
    fn numbers_come_back(shape in prop::collection::vec(0i64..5, 0..5), which in 0usize..6) {
        use DType::{Bool, Complex128, Half, Int64, UInt8, UInt16};
        let dtype = [Bool, Complex128, Half, Int64, UInt8, UInt16][which];
        let bytes = element_count(&shape).unwrap() * dtype.size();
        let data: Vec<u8> = (0..bytes).map(|index| index as u8 % 2).collect();
        let tensor = Tensor::numbers(dtype, shape, data.into());
        let back = read(&written(&tensor), &Reservation::default()).unwrap();
        prop_assert_eq!(back.dtype(), tensor.dtype());
        prop_assert_eq!(back.shape(), tensor.shape());
        prop_assert_eq!(back.bytes(), tensor.bytes());
    }
}
