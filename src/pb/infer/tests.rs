//! What is read and written is what the generated messages say.

use super::*;
use crate::pb::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::pb::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice,
};
use crate::pb::wire::Pieces;
use crate::tensor::{DType, Strings, Tensor};
use proptest::prelude::*;
use prost::Message;

const TYPED: [(DType, &str); 12] = [
    (DType::Bool, "BOOL"),
    (DType::Int8, "INT8"),
    (DType::Int16, "INT16"),
    (DType::Int32, "INT32"),
    (DType::Int64, "INT64"),
    (DType::UInt8, "UINT8"),
    (DType::UInt16, "UINT16"),
    (DType::UInt32, "UINT32"),
    (DType::UInt64, "UINT64"),
    (DType::Float, "FP32"),
    (DType::Double, "FP64"),
    (DType::String, "BYTES"),
];

/// Returns `values` as contents, each as much of it as `dtype` holds.
#[allow(clippy::wildcard_enum_match_arm)] // The other dtypes are not among those with a field.
fn contents(dtype: DType, values: &[u64]) -> InferTensorContents {
    let mut all = InferTensorContents::default();
    for &value in values {
        let signed = value.cast_signed();
        match dtype {
            DType::Bool => all.bool_contents.push(value & 1 == 1),
            DType::Int8 => all.int_contents.push((signed as i8).into()),
            DType::Int16 => all.int_contents.push((signed as i16).into()),
            DType::Int32 => all.int_contents.push(signed as i32),
            DType::Int64 => all.int64_contents.push(signed),
            DType::UInt8 => all.uint_contents.push((value as u8).into()),
            DType::UInt16 => all.uint_contents.push((value as u16).into()),
            DType::UInt32 => all.uint_contents.push(value as u32),
            DType::UInt64 => all.uint64_contents.push(value),
            DType::Float => all.fp32_contents.push(value as f32),
            DType::Double => all.fp64_contents.push(value as f64),
            _ => all.bytes_contents.push(Bytes::from(value.to_le_bytes()[..value as usize % 9].to_vec())),
        }
    }
    all
}

fn request(contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor { contents: Some(contents), ..InferInputTensor::default() };
    ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
}

/// Reads the contents of the only input of `message`.
fn read(message: Vec<u8>, dtype: DType, count: usize) -> Result<Tensor, Wrong> {
    let opened = InferRequest::open(message.into())?;
    let input = opened.inputs().next().unwrap()?;
    let contents = Contents::open(&input, dtype, count)?;
    let most = contents.allocates();
    let borrowed = most == 0 && count > 0 && dtype != DType::String;
    let tensor = contents.read(Shape::from_slice(&[count as i64]))?;
    let within = |start: *const u8| opened.message.as_ptr_range().contains(&start);
    assert!(!borrowed || within(tensor.bytes().as_ptr()), "what allocates nothing is borrowed");
    assert!(borrowed || dtype == DType::String || tensor.bytes().len() <= most);
    Ok(tensor)
}

fn written(response: &Response<'_>) -> Bytes {
    let mut out = Pieces::with_capacity(8);
    response.write(&mut out);
    let message = out.joined();
    assert_eq!(message.len(), response.len());
    message
}

const HEAD: Head<'_> = Head { model_name: "m", model_version: "3", id: "seven", streamed: false };

proptest! {
    /// Contents of any datatype are read, and told again as they came.
    #[test]
    fn contents_come_back(index in 0..TYPED.len(), values in prop::collection::vec(any::<u64>(), 0..20)) {
        let (dtype, datatype) = TYPED[index];
        let sent = contents(dtype, &values);
        let tensor = read(request(sent.clone()).encode_to_vec(), dtype, values.len()).unwrap();
        let response = Response::new(HEAD, [("y", datatype, &tensor)].into_iter(), true);
        let told = ModelInferResponse::decode(written(&response)).unwrap();
        prop_assert_eq!(told.outputs[0].contents.as_ref(), Some(&sent));
        prop_assert_eq!(&told.outputs[0].shape, &[values.len() as i64]);
        prop_assert!(told.raw_output_contents.is_empty());
    }

    /// One element too many, or one too few, or another datatype, is seen.
    #[test]
    fn other_contents_are_refused(index in 0..TYPED.len(), values in prop::collection::vec(1u64..100, 1..20)) {
        let (dtype, _) = TYPED[index];
        let message = request(contents(dtype, &values)).encode_to_vec();
        for count in [0, values.len() - 1, values.len() + 1, usize::MAX] {
            let refused = read(message.clone(), dtype, count).unwrap_err();
            prop_assert_eq!(refused, Wrong::Count(values.len()));
        }
        let (other, _) = TYPED[(index + 3) % TYPED.len()];
        prop_assert!(matches!(read(message, other, values.len()), Err(Wrong::Field(_))));
    }

    /// No bytes make it panic, and what is accepted is as many elements as there should be.
    #[test]
    fn any_bytes_are_contents_or_refused(bytes: Vec<u8>, index in 0..TYPED.len(), count in 0usize..5) {
        let contents = [&[0x2a, bytes.len() as u8][..], &bytes].concat();
        let input = [&[0x2a, contents.len() as u8][..], &contents].concat();
        if let Ok(tensor) = read(input, TYPED[index].0, count) {
            prop_assert_eq!(tensor.len(), count);
        }
    }

    /// Names, shapes, parameters, outputs and raw contents are found.
    #[test]
    fn a_request_is_read_as_it_is_generated(
        names in prop::array::uniform3("[a-zé]{0,8}"),
        shapes in prop::collection::vec(prop::collection::vec(any::<i64>(), 0..6), 0..4),
        raw in prop::collection::vec(any::<Vec<u8>>(), 0..4),
        flag: bool, number: i64, text: String, unsigned: u64,
    ) {
        let parameters = [
            ("a", Some(ParameterChoice::BoolParam(flag))),
            ("b", Some(ParameterChoice::Int64Param(number))),
            ("c", Some(ParameterChoice::StringParam(text.clone()))),
            ("d", Some(ParameterChoice::DoubleParam(0.5))),
            ("e", Some(ParameterChoice::Uint64Param(unsigned))),
            ("f", None),
        ];
        let parameters = parameters.map(|(name, parameter_choice)| {
            (name.to_owned(), InferParameter { parameter_choice })
        });
        let input = |(index, shape): (usize, &Vec<i64>)| InferInputTensor {
            name: format!("x{index}"),
            datatype: "FP32".to_owned(),
            shape: shape.clone(),
            parameters: parameters.clone().into(),
            contents: None,
        };
        let wanted = InferRequestedOutputTensor { name: "y".to_owned(), parameters: parameters.clone().into() };
        let [model_name, model_version, id] = names.clone();
        let message = ModelInferRequest {
            model_name,
            model_version,
            id,
            parameters: parameters.clone().into(),
            inputs: shapes.iter().enumerate().map(input).collect(),
            outputs: vec![wanted],
            raw_input_contents: raw.iter().cloned().map(Bytes::from).collect(),
        };
        let read = InferRequest::open(message.encode_to_vec().into()).unwrap();
        prop_assert_eq!([read.model_name(), read.model_version(), read.id()], names.each_ref().map(String::as_str));
        let expected = vec![
            ("a", Parameter::Bool(flag)),
            ("b", Parameter::Integer(number)),
            ("c", Parameter::Text(&text)),
            ("d", Parameter::Other),
            ("e", Parameter::Unsigned(unsigned)),
            ("f", Parameter::Other),
        ];
        let found: Vec<_> = read.parameters().map(Result::unwrap).collect();
        prop_assert_eq!(&found, &expected);
        let inputs: Vec<_> = read.inputs().map(Result::unwrap).collect();
        prop_assert_eq!((inputs.len(), read.input_count()), (shapes.len(), shapes.len()));
        for (index, (input, shape)) in inputs.iter().zip(&shapes).enumerate() {
            prop_assert_eq!((input.name, input.datatype), (&*format!("x{index}"), "FP32"));
            prop_assert_eq!(&input.shape[..], &shape[..]);
            prop_assert!(!input.has_contents);
            let found: Vec<_> = input.parameters().map(Result::unwrap).collect();
            prop_assert_eq!(&found, &expected);
        }
        let output = read.outputs().next().unwrap().unwrap();
        prop_assert_eq!((output.name, output.parameters().count()), ("y", 6));
        let found: Vec<Vec<u8>> = read.raw().map(Into::into).collect();
        prop_assert_eq!((&found, read.raw_count()), (&raw, raw.len()));
    }

    #[test]
    fn any_bytes_are_a_request_or_malformed(bytes: Vec<u8>) {
        let Ok(read) = InferRequest::open(bytes.clone().into()) else { return Ok(()) };
        let _all = (read.inputs().count(), read.outputs().count(), read.parameters().count(), read.raw().count());
        prop_assert!(locate(&bytes).is_none_or(|at| at <= bytes.len()));
    }
}

#[test]
fn raw_outputs_are_sent_as_they_lie() {
    let numbers = Tensor::numbers(DType::Half, vec![2, 1], Bytes::from_static(&[1, 2, 3, 4]));
    let strings = Tensor::strings(vec![2], ["ab", ""].into_iter().collect::<Strings>());
    let large = Tensor::numbers(DType::UInt8, vec![100_000], vec![7; 100_000].into());
    let outputs = [("h", "FP16", &numbers), ("s", "BYTES", &strings), ("l", "UINT8", &large)];
    let response = Response::new(HEAD, outputs.into_iter(), false);
    let mut out = Pieces::with_capacity(8);
    response.write(&mut out);
    let pieces = out.finish();
    assert!(pieces.iter().any(|piece| piece.as_ptr() == large.bytes().as_ptr()), "it is not copied");
    let told = ModelInferResponse::decode(pieces.into_iter().flatten().collect::<Bytes>()).unwrap();
    assert_eq!((&*told.model_name, &*told.model_version, &*told.id), ("m", "3", "seven"));
    assert_eq!(told.outputs.iter().map(|one| &*one.datatype).collect::<Vec<_>>(), ["FP16", "BYTES", "UINT8"]);
    assert_eq!(told.raw_output_contents[0], &[1, 2, 3, 4][..]);
    assert_eq!(told.raw_output_contents[1], &b"\x02\0\0\0ab\0\0\0\0"[..]);
    assert_eq!(told.raw_output_contents[2].len(), 100_000);
    assert!(told.outputs.iter().all(|one| one.contents.is_none()));
}

#[test]
fn a_response_on_a_stream_says_that_it_is_the_last_one() {
    let empty = Tensor::numbers(DType::Float, vec![0], Bytes::new());
    for typed in [false, true] {
        let head = Head { streamed: true, ..HEAD };
        let response = Response::new(head, [("y", "FP32", &empty)].into_iter(), typed);
        let told = ModelStreamInferResponse::decode(written(&response)).unwrap();
        let told = told.infer_response.unwrap();
        let last = told.parameters["triton_final_response"].parameter_choice.clone();
        assert_eq!(last, Some(ParameterChoice::BoolParam(true)));
        assert_eq!(
            (told.outputs[0].contents.is_some(), told.raw_output_contents.len()),
            (typed, usize::from(!typed))
        );
    }
}

#[test]
fn elements_beyond_their_datatype_are_refused() {
    let int = |value| request(InferTensorContents { int_contents: vec![value], ..Default::default() });
    let uint = |value| request(InferTensorContents { uint_contents: vec![value], ..Default::default() });
    assert_eq!(read(int(127).encode_to_vec(), DType::Int8, 1).unwrap().bytes(), [127]);
    assert_eq!(read(int(-128).encode_to_vec(), DType::Int8, 1).unwrap().bytes(), [128]);
    assert_eq!(read(int(128).encode_to_vec(), DType::Int8, 1).unwrap_err(), Wrong::Range(128));
    assert_eq!(read(int(-32769).encode_to_vec(), DType::Int16, 1).unwrap_err(), Wrong::Range(-32769));
    assert_eq!(read(uint(256).encode_to_vec(), DType::UInt8, 1).unwrap_err(), Wrong::Range(256));
    assert_eq!(read(uint(65536).encode_to_vec(), DType::UInt16, 1).unwrap_err(), Wrong::Range(65536));
    assert_eq!(read(int(1).encode_to_vec(), DType::Half, 1).unwrap_err(), Wrong::OnlyRaw);
}

#[test]
fn contents_in_several_pieces_are_one() {
    // Two fp32_contents, one unpacked; then an empty field of another datatype, which says nothing.
    let parts = [&b"\x35\0\0\x80?"[..], b"\x32\x04\0\0\0@", b"\x12\x00"].concat();
    let contents = [&[0x2a, parts.len() as u8][..], &parts].concat();
    let input = [&[0x2a, contents.len() as u8][..], &contents].concat();
    assert_eq!(read(input, DType::Float, 2).unwrap().bytes(), [0, 0, 128, 63, 0, 0, 0, 64]);
    // A bool that is written longer than it has to be.
    let input = b"\x2a\x06\x2a\x04\x0a\x02\x81\x00".to_vec();
    assert_eq!(read(input, DType::Bool, 1).unwrap().bytes(), [1]);
    // A varint that does not end.
    let input = b"\x2a\x05\x2a\x03\x12\x01\x80".to_vec();
    assert_eq!(read(input, DType::Int32, 1).unwrap_err(), Wrong::Malformed);
}

#[test]
fn what_is_no_string_or_has_another_wire_type_is_malformed() {
    for message in [&b"\x0a\x01\xff"[..], b"\x08\x01", b"\x1a\x02\xc3(", b"\x38\x01", b"\x2a\x05\x0a"] {
        assert!(InferRequest::open(message.to_vec().into()).is_err(), "{message:?}");
    }
    for input in
        [&b"\x2a\x03\x0a\x01\xff"[..], b"\x2a\x02\x08\x01", b"\x2a\x03\x1a\x01\x80", b"\x2a\x02\x28\x01"]
    {
        let opened = InferRequest::open(input.to_vec().into()).unwrap();
        assert!(opened.inputs().next().unwrap().is_err(), "{input:?}");
    }
}

#[test]
fn a_shape_is_not_kept_beyond_what_tensors_have() {
    let input = InferInputTensor { shape: vec![1; 100_000], ..InferInputTensor::default() };
    let message = ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() };
    let opened = InferRequest::open(message.encode_to_vec().into()).unwrap();
    assert_eq!(opened.inputs().next().unwrap().unwrap().shape.len(), MAX_DIMS);
}

#[test]
fn the_first_large_block_is_located() {
    let at = |message: &ModelInferRequest| {
        let bytes = message.encode_to_vec();
        let at = locate(&bytes[..bytes.len().min(600)])?;
        Some(bytes[at..].to_vec())
    };
    let floats = InferTensorContents { fp32_contents: vec![0.5; 2000], ..Default::default() };
    let block: Vec<u8> = 0.5f32.to_le_bytes().repeat(2000);
    let raw = |sizes: &[usize]| ModelInferRequest {
        model_name: "model".to_owned(),
        inputs: vec![InferInputTensor { name: "x".to_owned(), shape: vec![1, 2], ..Default::default() }],
        raw_input_contents: sizes.iter().map(|size| vec![7; *size].into()).collect(),
        ..Default::default()
    };
    assert!(at(&request(floats)).unwrap().starts_with(&block));
    assert!(at(&raw(&[8000])).unwrap().starts_with(&[7; 8000]));
    assert_eq!(at(&raw(&[100, 5000])).unwrap().len(), 5000);
    assert_eq!(at(&raw(&[100])), None);
    let varints = InferTensorContents { int_contents: vec![7; 5000], ..Default::default() };
    assert_eq!(at(&request(varints)), None);
    // A field that ends where addresses do.
    assert_eq!(locate(b"\x0a\xf4\xff\xff\xff\xff\xff\xff\xff\xff\x01"), None);
}
