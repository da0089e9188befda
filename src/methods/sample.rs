//! Values that are made up for a signature: zeros, and strings that hold what the model decodes.

mod picture;

pub(crate) use picture::Size;

use crate::engine::content::{Content, Feature as Declared};
use crate::engine::signature::TensorSpec;
use crate::pb::tensorflow::feature::Kind;
use crate::pb::tensorflow::{BytesList, Example, Feature, Features, FloatList, Int64List};
use crate::tensor::{DType, Strings, Tensor, element_count};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;

/// Most elements of an input; larger inputs are left to the first request.
const MAX_ELEMENTS: usize = 16 << 20;

/// How large the values are, where a signature leaves that open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Every unknown dimension but the first, which is 1.
    pub(crate) dimension: i64,
    pub(crate) picture: Size,
}

/// The scales to try, in order: a model may need a certain size, which its signature does not tell.
pub(crate) const SCALES: [Scale; 3] = [
    Scale { dimension: 1, picture: Size::Small },
    Scale { dimension: 32, picture: Size::Large },
    Scale { dimension: 224, picture: Size::Large },
];

/// Returns whether values for `spec` differ by scale.
pub(crate) fn scales(spec: &TensorSpec, content: Option<&Content>) -> bool {
    let open = spec.shape.iter().flatten().skip(1).any(|dim| *dim < 0);
    open || content.is_some_and(has_picture)
}

fn has_picture(content: &Content) -> bool {
    match content {
        Content::Picture(_) => true,
        Content::Base64(inner) => has_picture(inner),
        Content::Example(features) => features.values().any(|feature| {
            matches!(feature, Declared::Strings(_, Some(Content::Picture(_) | Content::Base64(_))))
        }),
        Content::Number | Content::Text => false,
    }
}

/// Makes a tensor for `spec`, whose strings hold `content`. Fails with the reason why that is impossible.
pub(crate) fn tensor(
    spec: &TensorSpec,
    content: Option<&Content>,
    scale: Scale,
) -> Result<Tensor, &'static str> {
    // Where the rank is unknown, one row is the likeliest.
    let declared = spec.shape.as_deref().unwrap_or(&[-1]);
    let shape: Vec<i64> = declared
        .iter()
        .enumerate()
        .map(|(place, dim)| {
            if *dim >= 0 {
                *dim
            } else if place == 0 {
                1
            } else {
                scale.dimension
            }
        })
        .collect();
    let elements =
        element_count(&shape).filter(|count| *count <= MAX_ELEMENTS).ok_or("is too large to be made up")?;
    if spec.dtype == DType::String {
        let string =
            string(content.ok_or("takes strings, and the model does not tell of what")?, scale.picture);
        let strings: Strings = std::iter::repeat_n(string, elements).collect();
        return Ok(Tensor::strings(shape, strings));
    }
    let size = spec.dtype.size();
    if size == 0 {
        return Err("takes neither numbers nor strings");
    }
    Ok(Tensor::numbers(spec.dtype, shape, vec![0u8; elements * size].into()))
}

/// Returns a string that holds `content`.
pub(crate) fn string(content: &Content, picture: Size) -> Bytes {
    match content {
        Content::Picture(format) => picture::encoded(*format, picture).into_owned().into(),
        Content::Example(features) => example(features, picture),
        Content::Number => "0".into(),
        Content::Text => "text".into(),
        Content::Base64(inner) => URL_SAFE.encode(string(inner, picture)).into(),
    }
}

fn example(features: &BTreeMap<String, Declared>, picture: Size) -> Bytes {
    let kind = |declared: &Declared| match declared {
        Declared::Floats(count) => Kind::FloatList(FloatList { value: vec![0.0; *count] }),
        Declared::Integers(count) => Kind::Int64List(Int64List { value: vec![0; *count] }),
        Declared::Strings(count, content) => {
            let string = content.as_ref().map_or_else(Bytes::new, |content| string(content, picture));
            Kind::BytesList(BytesList { value: vec![string; *count] })
        }
    };
    let feature = features
        .iter()
        .map(|(key, declared)| (key.clone(), Feature { kind: Some(kind(declared)) }))
        .collect();
    Example { features: Some(Features { feature }) }.encode_to_vec().into()
}
