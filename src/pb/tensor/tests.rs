//! Tensors compared with the generated `TensorProto`.

use super::*;
use crate::pb::tensorflow::tensor_shape_proto::Dim;
use crate::pb::tensorflow::{DataType, TensorProto, TensorShapeProto};
use proptest::prelude::*;
use prost::Message;

fn proto(dtype: DataType, shape: &[i64]) -> TensorProto {
    let dim = shape.iter().map(|size| Dim { size: *size, name: String::new() }).collect();
    TensorProto {
        dtype: dtype as i32,
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        ..Default::default()
    }
}

fn decoded(proto: &TensorProto) -> Result<Tensor, Malformed> {
    decode(&proto.encode_to_vec().into())
}

fn values<T: bytemuck::AnyBitPattern>(tensor: &Tensor) -> Vec<T> {
    tensor.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

fn encoded(tensor: &Tensor, as_content: bool) -> Bytes {
    let encoded = Encoded::new(tensor, as_content);
    let mut pieces = Pieces::default();
    encoded.write(&mut pieces);
    let bytes = pieces.finish().into_iter().flatten().collect::<Bytes>();
    assert_eq!(bytes.len(), encoded.len());
    bytes
}

/// Every dtype that a request can carry.
fn dtypes() -> impl Strategy<Value = DType> {
    let numbers = (1..34).filter_map(DType::from_number).filter(|dtype| dtype.size() > 0);
    prop::sample::select(numbers.collect::<Vec<_>>())
}

fn number_tensors() -> impl Strategy<Value = Tensor> {
    (dtypes(), prop::collection::vec(0..4i64, 0..4)).prop_flat_map(|(dtype, shape)| {
        let length = element_count(&shape).unwrap() * dtype.size();
        prop::collection::vec(any::<u8>(), length).prop_map(move |mut bytes| {
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            Tensor::numbers(dtype, shape.clone(), bytes.into())
        })
    })
}

proptest! {
    #[test]
    fn numbers_come_back_as_they_went(tensor in number_tensors(), as_content: bool) {
        let wire = encoded(&tensor, as_content);
        let generated = TensorProto::decode(wire.clone()).unwrap();
        prop_assert_eq!(generated.dtype, tensor.dtype() as i32);
        let back = decode(&wire).unwrap();
        prop_assert_eq!(back.dtype(), tensor.dtype());
        prop_assert_eq!(back.shape(), tensor.shape());
        prop_assert_eq!(back.bytes(), tensor.bytes());
        // The generated struct writes the same values in the same form.
        let again = decoded(&generated).unwrap();
        prop_assert_eq!(again.bytes(), tensor.bytes());
    }

    #[test]
    fn strings_come_back_as_they_went(items: Vec<Vec<u8>>, as_content: bool) {
        let tensor = Tensor::strings(vec![items.len() as i64], items.iter().collect());
        let back = decode(&encoded(&tensor, as_content)).unwrap();
        prop_assert_eq!(back.as_strings().unwrap().iter().collect::<Vec<_>>(), items);
    }

    #[test]
    fn no_bytes_upset_it(bytes: Vec<u8>) {
        let _either = decode(&bytes.into());
    }

    #[test]
    fn no_damage_upsets_it(tensor in number_tensors(), at: prop::sample::Index, byte: u8) {
        let mut wire = encoded(&tensor, false).to_vec();
        let at = at.index(wire.len());
        wire[at] = byte;
        let _either = decode(&wire.clone().into());
        let _either = decode(&wire[..at].to_vec().into());
    }

    #[test]
    fn short_lists_repeat_their_last_value(given in prop::collection::vec(any::<i64>(), 0..6), count in 0..12usize) {
        let wire = TensorProto { int64_val: given.clone(), ..proto(DataType::DtInt64, &[count as i64]) };
        let last = given.last().copied().unwrap_or(0);
        let wanted: Vec<i64> = given.iter().copied().chain(std::iter::repeat(last)).take(count).collect();
        prop_assert_eq!(values::<i64>(&decoded(&wire).unwrap()), wanted);
    }

    #[test]
    fn integers_are_cut_to_their_width(given: Vec<i32>) {
        let shape = [given.len() as i64];
        let wire = |dtype| TensorProto { int_val: given.clone(), ..proto(dtype, &shape) };
        let small = decoded(&wire(DataType::DtInt8)).unwrap();
        prop_assert_eq!(values::<i8>(&small), given.iter().map(|value| *value as i8).collect::<Vec<_>>());
        let middle = decoded(&wire(DataType::DtUint16)).unwrap();
        prop_assert_eq!(values::<u16>(&middle), given.iter().map(|value| *value as u16).collect::<Vec<_>>());
        let whole = decoded(&wire(DataType::DtInt32)).unwrap();
        prop_assert_eq!(values::<i32>(&whole), given);
    }
}

#[test]
fn packed_floats_and_content_are_borrowed() {
    let given = vec![1.5f32; 5000];
    let content = bytemuck::cast_slice(&given).to_vec();
    for proto in [
        TensorProto { float_val: given.clone(), ..proto(DataType::DtFloat, &[5000]) },
        TensorProto { tensor_content: content.into(), ..proto(DataType::DtFloat, &[50, 100]) },
    ] {
        let wire = Bytes::from(proto.encode_to_vec());
        let tensor = decode(&wire).unwrap();
        assert_eq!(values::<f32>(&tensor), given);
        assert!(wire.as_ptr_range().contains(&tensor.bytes().as_ptr()), "copied");
    }
}

#[test]
fn what_is_copied_is_told() {
    let told = |proto: TensorProto| {
        let wire = Bytes::from(proto.encode_to_vec());
        let opened = open(&wire).unwrap();
        (wire.len(), opened.drawn_out(), opened.copied())
    };
    let strings = |count: usize| vec![Bytes::from(vec![b'x'; 5000]); count];
    let (sent, _, copied) = told(TensorProto { string_val: strings(2), ..proto(DataType::DtString, &[2]) });
    assert_eq!(copied, sent);
    let numbers = TensorProto { int_val: vec![1; 5000], ..proto(DataType::DtInt32, &[5000]) };
    let (_, drawn_out, copied) = told(numbers);
    assert_eq!(drawn_out + copied, 4 * 5000);
    for borrowed in [
        TensorProto { string_val: strings(1), ..proto(DataType::DtString, &[1]) },
        TensorProto { float_val: vec![1.0; 5000], ..proto(DataType::DtFloat, &[5000]) },
        TensorProto { tensor_content: vec![1; 5000].into(), ..proto(DataType::DtInt8, &[5000]) },
    ] {
        let (_, drawn_out, copied) = told(borrowed);
        assert_eq!((drawn_out, copied), (0, 0));
    }
}

#[test]
fn unpacked_and_split_fields_are_gathered() {
    // float_val twice packed, once alone; int_val alone, packed, alone.
    let floats = [&[8, 1, 18, 4, 18, 2, 8, 3][..], &[42, 4, 0, 0, 128, 63, 45, 0, 0, 0, 64, 42, 0]].concat();
    assert_eq!(values::<f32>(&decode(&floats.into()).unwrap()), [1.0, 2.0, 2.0]);
    let ints = [&[8, 3, 18, 4, 18, 2, 8, 4][..], &[56, 1, 58, 2, 2, 3, 56, 4]].concat();
    assert_eq!(values::<i32>(&decode(&ints.into()).unwrap()), [1, 2, 3, 4]);
}

#[test]
fn values_of_another_field_count_as_none() {
    let wire = TensorProto { int_val: vec![7], double_val: vec![7.0], ..proto(DataType::DtFloat, &[2]) };
    assert_eq!(values::<f32>(&decoded(&wire).unwrap()), [0.0, 0.0]);
}

#[test]
fn complex_numbers_are_pairs() {
    let wire = TensorProto { scomplex_val: vec![1.0, 2.0, 3.0], ..proto(DataType::DtComplex64, &[2]) };
    assert_eq!(values::<f32>(&decoded(&wire).unwrap()), [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn a_scalar_needs_no_shape() {
    let mut wire = TensorProto { bool_val: vec![true], ..proto(DataType::DtBool, &[]) };
    wire.tensor_shape = None;
    assert_eq!(decoded(&wire).unwrap().shape(), [0i64; 0]);
    wire.tensor_shape = Some(TensorShapeProto { dim: Vec::new(), unknown_rank: true });
    assert_eq!(decoded(&wire).unwrap().bytes(), [1]);
    assert_eq!(encoded(&decoded(&wire).unwrap(), false), &[8, 10, 18, 0, 90, 1, 1][..]);
}

#[test]
fn what_tensorflow_refuses() {
    let content = |length: usize| Bytes::from(vec![0; length]);
    for (why, wire) in [
        ("no dtype", proto(DataType::DtInvalid, &[1])),
        ("a reference", proto(DataType::DtFloatRef, &[1])),
        ("a resource", proto(DataType::DtResource, &[])),
        ("unknown dtype", TensorProto { dtype: 77, ..proto(DataType::DtFloat, &[1]) }),
        ("negative", proto(DataType::DtFloat, &[-1])),
        ("overflow", proto(DataType::DtFloat, &[i64::MAX, 2])),
        ("overflow beside a zero", proto(DataType::DtFloat, &[0, i64::MAX, 2])),
        ("bytes overflow", proto(DataType::DtFloat, &[i64::MAX])),
        ("too much of one value", proto(DataType::DtFloat, &[1 << 40])),
        ("too many strings", proto(DataType::DtString, &[1 << 40])),
        ("rank", proto(DataType::DtFloat, &[1; 255])),
        ("short content", TensorProto { tensor_content: content(4), ..proto(DataType::DtFloat, &[2]) }),
        ("long content", TensorProto { tensor_content: content(9), ..proto(DataType::DtFloat, &[2]) }),
        ("short strings", TensorProto { tensor_content: content(1), ..proto(DataType::DtString, &[2]) }),
        ("long strings", TensorProto { tensor_content: content(3), ..proto(DataType::DtString, &[2]) }),
        (
            "no truth value",
            TensorProto { tensor_content: vec![1, 2].into(), ..proto(DataType::DtBool, &[2]) },
        ),
    ] {
        assert_eq!(decoded(&wire).map(|tensor| tensor.len()), Err(Malformed), "{why}");
    }
    let empty = TensorProto { tensor_content: content(9), ..proto(DataType::DtFloat, &[0, 5]) };
    assert!(decoded(&empty).unwrap().is_empty());
}

#[test]
fn the_numbers_of_a_request_are_located_before_they_arrive() {
    use crate::pb::tensorflow::serving::{ModelSpec, PredictRequest};
    let floats = TensorProto { float_val: vec![0.5; 5000], ..proto(DataType::DtFloat, &[5000]) };
    let small = TensorProto { float_val: vec![0.5], ..proto(DataType::DtFloat, &[]) };
    let request = PredictRequest {
        model_spec: Some(ModelSpec { name: "m".to_owned(), ..Default::default() }),
        inputs: [("a", &small), ("b", &floats)]
            .map(|(alias, proto)| (alias.to_owned(), proto.encode_to_vec().into()))
            .into(),
        ..Default::default()
    };
    let wire = request.encode_to_vec();
    let at = locate_numbers(&wire[..100]).unwrap();
    assert_eq!(wire[at..at + 20000], *bytemuck::cast_slice::<f32, u8>(&[0.5; 5000]));
    assert_eq!(locate_numbers(&wire[..at - 4]), None);
    assert_eq!(locate_numbers(&[0xff; 30]), None);
    assert_eq!(
        locate_numbers(b"\x0a\xf4\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        None,
        "it ends where addresses do"
    );
}
