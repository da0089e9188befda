//! The elements of one tensor alone, with its shape and dtype in headers.

use super::elements::{self, Elements};
use super::npy::{self, shown};
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::tensor::{DType, Shape, Strings, Tensor, element_count};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers.
pub(super) static SHAPE: HeaderName = HeaderName::from_static("x-tensor-shape");
pub(super) static DTYPE: HeaderName = HeaderName::from_static("x-tensor-dtype");
pub(super) static NAME: HeaderName = HeaderName::from_static("x-tensor-name");

/// Most dimensions, as in numpy.
const MOST_DIMENSIONS: usize = 64;

/// What the headers say of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// `None` for a string.
    elements: Option<Elements>,
    shape: Shape,
    /// The input's name, if it is given.
    pub(super) name: Option<String>,
}

impl Announced {
    /// Reads the headers; `None` if neither shape nor dtype is there.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Announced>> {
        let (shape, dtype) = match (headers.get(&SHAPE), headers.get(&DTYPE)) {
            (Some(shape), Some(dtype)) => (shape, text(dtype)?),
            (None, None) => return Ok(None),
            (shape, _) => {
                let (given, missing) = if shape.is_some() { ("Shape", "Dtype") } else { ("Dtype", "Shape") };
                return Err(Error::invalid(format!(
                    "the header X-Tensor-{given} came without X-Tensor-{missing}: send both, such as X-Tensor-Shape: \
                     1,224,224,3 and X-Tensor-Dtype: float32"
                )));
            }
        };
        let elements = (dtype != "string").then(|| Elements::named(dtype)).transpose()?;
        let name = headers.get(&NAME).map(|name| text(name).map(str::to_owned)).transpose()?;
        Ok(Some(Announced { elements, shape: dimensions(text(shape)?)?, name }))
    }

    /// Makes a tensor of `body`.
    pub(super) fn tensor(&self, body: Bytes, memory: &Reservation) -> Result<Tensor> {
        match self.elements {
            Some(elements) => npy::tensor(elements, self.shape.clone(), body, memory),
            None if element_count(&self.shape) == Some(1) => {
                let end = body.len();
                Ok(Tensor::strings(self.shape.clone(), Strings::new(body, vec![end])))
            }
            None => Err(Error::invalid(format!(
                "X-Tensor-Shape is {}, and a body is one string: expected 1, or nothing for a scalar",
                shown(&self.shape)
            ))),
        }
    }
}

fn text(value: &HeaderValue) -> Result<&str> {
    std::str::from_utf8(value.as_bytes())
        .map(str::trim_ascii)
        .map_err(|_| Error::invalid("a header X-Tensor-… is not UTF-8"))
}

/// Reads whole numbers with commas between them; none for a scalar.
fn dimensions(text: &str) -> Result<Shape> {
    if text.is_empty() {
        return Ok(Shape::new());
    }
    let dimension = |part: &str| {
        let part = part.trim_ascii();
        part.parse::<i64>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let shape = text.split(',').take(MOST_DIMENSIONS + 1).map(dimension).collect::<Option<Shape>>();
    shape.filter(|shape| shape.len() <= MOST_DIMENSIONS).ok_or_else(|| {
        Error::invalid(format!(
            "X-Tensor-Shape is {:?}, expected whole numbers with commas between them, such as 1,224,224,3",
            text.chars().take(100).collect::<String>()
        ))
    })
}

/// Returns the body of an output, which is borrowed from it.
///
/// # Errors
/// INVALID_ARGUMENT for several strings, and for dtypes without a name.
pub(super) fn body(alias: &str, tensor: &Tensor) -> Result<Bytes> {
    match tensor.data() {
        crate::tensor::Data::Numbers(bytes) if elements::name(tensor.dtype()).is_some() => Ok(bytes.clone()),
        crate::tensor::Data::Strings(strings) if strings.len() == 1 => {
            Ok(Bytes::copy_from_slice(strings.get(0)))
        }
        crate::tensor::Data::Numbers(_) | crate::tensor::Data::Strings(_) => Err(Error::invalid(format!(
            "application/octet-stream cannot hold the output {alias:?}, {} of shape {}: take the reply as JSON or \
             MessagePack (Accept: application/json, application/msgpack)",
            tensor.dtype().name(),
            shown(tensor.shape())
        ))),
    }
}

/// Returns the headers of an output. A name that no header can hold is left out.
pub(super) fn headers(alias: &str, tensor: &Tensor) -> Vec<(HeaderName, HeaderValue)> {
    let shape: Vec<_> = tensor.shape().iter().map(i64::to_string).collect();
    let dtype = if tensor.dtype() == DType::String { Some("string") } else { elements::name(tensor.dtype()) };
    let values =
        [(&SHAPE, shape.join(",")), (&DTYPE, dtype.unwrap_or("").to_owned()), (&NAME, alias.to_owned())];
    let value = |value: String| HeaderValue::from_bytes(value.as_bytes()).ok();
    values.into_iter().filter_map(|(name, text)| Some((name.clone(), value(text)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(headers: &[(&'static str, &str)]) -> Result<Option<Announced>> {
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        Announced::of(&pairs.collect())
    }

    fn tensor(shape: &str, dtype: &str, body: &'static [u8]) -> Result<Tensor> {
        let announced = announced(&[("x-tensor-shape", shape), ("x-tensor-dtype", dtype)])?.unwrap();
        announced.tensor(Bytes::from_static(body), &Reservation::default())
    }

    #[test]
    fn headers_say_what_the_body_is() {
        let pair = tensor(" 1, 2 ", "float32", &[0; 8]).unwrap();
        assert_eq!((pair.dtype(), pair.shape(), pair.bytes()), (DType::Float, &[1, 2][..], &[0; 8][..]));
        assert_eq!(tensor("", "<i8", &[7; 8]).unwrap().shape(), [] as [i64; 0]);
        assert_eq!(tensor("0,3", "bool", b"").unwrap().shape(), [0, 3]);
        let text = tensor("1", "string", b"abc").unwrap();
        assert_eq!(text.as_strings().unwrap().get(0), b"abc");
        assert_eq!(announced(&[]), Ok(None));
        assert_eq!(announced(&[("x-tensor-name", "x")]), Ok(None));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        for (shape, dtype, words) in [
            ("2,2", "float32", "takes 16 bytes, and 8 came"),
            ("9223372036854775807,9", "float64", "more than there can be"),
            ("-1,2", "float32", "X-Tensor-Shape"),
            ("+2", "float32", "X-Tensor-Shape"),
            ("(2,)", "float32", "X-Tensor-Shape"),
            ("1,,2", "float32", "X-Tensor-Shape"),
            ("99999999999999999999", "float32", "X-Tensor-Shape"),
            ("2", "float", "float32"),
            ("1", ">f8", "big-endian"),
            ("2", "string", "one string"),
        ] {
            let error = tensor(shape, dtype, &[0; 8]).unwrap_err();
            assert!(error.message.contains(words), "{shape} {dtype}: {error}");
        }
        assert!(dimensions(&"1,".repeat(65)).is_err());
        assert!(
            announced(&[("x-tensor-shape", "1")]).unwrap_err().message.contains("without X-Tensor-Dtype")
        );
        assert!(
            announced(&[("x-tensor-dtype", "1")]).unwrap_err().message.contains("without X-Tensor-Shape")
        );
    }

    #[test]
    fn outputs_are_borrowed_and_described() {
        let pair = tensor("1,2", "float32", &[0; 8]).unwrap();
        assert_eq!(body("y", &pair).unwrap().as_ptr(), pair.bytes().as_ptr());
        let described = headers("y", &pair);
        let values: Vec<_> = described.iter().map(|(_, value)| value.to_str().unwrap()).collect();
        assert_eq!(values, ["1,2", "float32", "y"]);
        assert_eq!(headers("a\nb", &pair).len(), 2);
        let strings = Tensor::strings(vec![2], ["a", "b"].iter().collect());
        assert!(body("y", &strings).unwrap_err().message.contains("string of shape (2,)"));
    }
}
