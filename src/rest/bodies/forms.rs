//! The forms of bodies, and which of them a request has and wants, by its headers.

use super::raw::Announced;
use crate::error::{Error, Result};
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};

/// Names the signature of a body that has no place for it.
static SIGNATURE: HeaderName = HeaderName::from_static("x-signature-name");

/// A form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rest) enum Form {
    Json,
    /// One array.
    Npy,
    /// Arrays by name.
    Npz,
    /// The elements of one tensor.
    Raw,
    MessagePack,
    /// A picture, which is a string for the model.
    Picture,
}

/// Media types with their forms; of those of one form, replies have the first.
const MEDIA_TYPES: [(&str, Form); 7] = [
    ("application/json", Form::Json),
    ("application/x-npy", Form::Npy),
    ("application/x-npz", Form::Npz),
    ("application/octet-stream", Form::Raw),
    ("application/msgpack", Form::MessagePack),
    ("application/vnd.msgpack", Form::MessagePack),
    ("application/x-msgpack", Form::MessagePack),
];

/// The value of `Accept-Post`, which tells clients what they may send.
pub(in crate::rest) const OFFERED: HeaderValue = HeaderValue::from_static(
    "application/json, application/x-npy, application/x-npz, application/octet-stream, application/msgpack, image/*",
);

/// What there is beside JSON in one predict.
#[derive(Debug)]
pub(in crate::rest) struct Forms {
    pub(super) sent: Form,
    /// The form that the reply should have, if one is named.
    pub(super) wanted: Option<Form>,
    /// What is said of a body of the form [`Form::Raw`].
    pub(super) announced: Option<Announced>,
    /// The signature's name, if a header names one.
    pub(super) signature: String,
    /// Whether arrays in MessagePack are msgpack-numpy's; found out when the body is read.
    pub(super) is_numpy: bool,
}

impl Forms {
    /// Returns the forms of a predict, if its body or its reply is not JSON. `content_type` and `accept` are the first headers
    /// of these names.
    pub(in crate::rest) fn of(
        content_type: Option<&HeaderValue>,
        accept: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<Option<Box<Forms>>> {
        let mut sent = content_type.map_or(Form::Json, |value| form_of(value.as_bytes()));
        let (mut wanted, takes_any) =
            accept.filter(|first| *first != "*/*").map_or((None, true), |_| wanted(headers));
        let announced = if sent == Form::Raw { Announced::of(headers)? } else { None };
        if sent == Form::Raw && announced.is_none() {
            // Clients say this of JSON, too.
            sent = Form::Json;
        }
        if sent == Form::Json && wanted == Some(Form::Raw) && takes_any {
            // So do clients that read bytes, whatever they are.
            wanted = None;
        }
        if sent == Form::Json && wanted.is_none_or(|wanted| wanted == Form::Json) {
            return Ok(None);
        }
        let signature = headers.get(&SIGNATURE).map_or(Ok(""), |name| {
            std::str::from_utf8(name.as_bytes())
                .map_err(|_| Error::invalid("the header X-Signature-Name is not UTF-8"))
        })?;
        Ok(Some(Box::new(Forms {
            sent,
            wanted,
            announced,
            signature: signature.to_owned(),
            is_numpy: false,
        })))
    }

    /// Returns whether the body is JSON, and only the reply is not.
    pub(in crate::rest) fn are_json(&self) -> bool {
        self.sent == Form::Json
    }

    /// Returns whether the body is borrowed by the tensor, so that it takes no time to decode.
    pub(in crate::rest) fn are_borrowed(&self) -> bool {
        matches!(self.sent, Form::Npy | Form::Raw | Form::Picture)
    }

    /// Returns the form of the reply with so many outputs.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if it cannot hold them.
    pub(in crate::rest) fn reply(&self, outputs: usize) -> Result<Form> {
        let form = self.wanted.unwrap_or(match self.sent {
            Form::Json | Form::Picture => Form::Json,
            Form::Npy if outputs != 1 => Form::Npz,
            form @ (Form::Npy | Form::Npz | Form::Raw | Form::MessagePack) => form,
        });
        if outputs != 1 && matches!(form, Form::Npy | Form::Raw) {
            return Err(Error::invalid(format!(
                "a reply of type {} holds one output, and there are {outputs}: name one (?outputs=NAME), or take them as \
                 application/x-npz, application/msgpack or application/json (Accept)",
                media_type(form)
            )));
        }
        Ok(form)
    }
}

/// Returns the media type of replies of `form`.
pub(super) fn media_type(form: Form) -> &'static str {
    MEDIA_TYPES.iter().find(|(_, known)| *known == form).map_or("", |(name, _)| name)
}

/// Returns the form of a body that is described by `content_type`: JSON for all that is not known, as in TensorFlow Serving.
fn form_of(content_type: &[u8]) -> Form {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let name = content_type[..end].trim_ascii();
    if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"image/")) {
        return Form::Picture;
    }
    known(name).unwrap_or(Form::Json)
}

fn known(name: &[u8]) -> Option<Form> {
    MEDIA_TYPES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, form)| *form)
}

/// Returns the form that `Accept` names with the highest quality, the first of several; `None` if that is any, or unknown.
/// And whether any is accepted as well.
fn wanted(headers: &HeaderMap) -> (Option<Form>, bool) {
    let (mut best, mut form, mut takes_any) = (0.0, None, false);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
        let named = known(name.as_bytes());
        let is_any = matches!(name, "*/*" | "application/*");
        takes_any |= is_any && quality.is_some_and(|quality| quality > 0.0);
        if let Some(quality) = quality.filter(|quality| *quality > best && (named.is_some() || is_any)) {
            (best, form) = (quality, named);
        }
    }
    (form, takes_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(headers: &[(&'static str, &'static str)]) -> Option<(Form, Option<Form>)> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let map: HeaderMap = pairs.collect();
        let forms = Forms::of(map.get("content-type"), map.get("accept"), &map).unwrap();
        forms.map(|forms| (forms.sent, forms.wanted))
    }

    #[test]
    fn what_is_not_known_is_json() {
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "application/x-www-form-urlencoded",
            "text/plain",
            "application/octet-stream",
            "image",
            "",
        ] {
            assert_eq!(forms(&[("content-type", content_type)]), None, "{content_type}");
        }
        for accept in
            ["*/*", "text/html, */*", "application/json", "application/json, application/x-npy", "image/png"]
                .into_iter()
                // Clients that read bytes, whatever they are.
                .chain(["application/octet-stream, */*", "application/octet-stream, application/*;q=0.1"])
        {
            assert_eq!(forms(&[("accept", accept)]), None, "{accept}");
        }
        assert_eq!(forms(&[]), None);
    }

    #[test]
    fn the_body_says_what_it_is() {
        for (content_type, form) in [
            ("application/x-npy", Form::Npy),
            ("Application/X-NPZ", Form::Npz),
            ("application/msgpack", Form::MessagePack),
            ("application/vnd.msgpack ; v=1", Form::MessagePack),
            ("application/x-msgpack", Form::MessagePack),
            ("image/jpeg", Form::Picture),
            ("IMAGE/webp", Form::Picture),
        ] {
            assert_eq!(forms(&[("content-type", content_type)]), Some((form, None)), "{content_type}");
        }
        let raw = [
            ("content-type", "application/octet-stream"),
            ("x-tensor-shape", "1"),
            ("x-tensor-dtype", "int8"),
        ];
        assert_eq!(forms(&raw), Some((Form::Raw, None)));
    }

    #[test]
    fn the_reply_is_what_is_wanted_most() {
        for (accept, form) in [
            ("application/x-npy", Some(Form::Npy)),
            ("application/x-npz;q=0.5, application/msgpack", Some(Form::MessagePack)),
            ("application/x-npz, application/msgpack", Some(Form::Npz)),
            ("application/octet-stream, */*;q=0.1", Some(Form::Raw)),
            ("application/json;q=0.9, application/x-npy;q=0.8", Some(Form::Json)),
            ("application/x-npy;q=0", None),
            ("application/x-npy;q=x", None),
            ("*/*, application/x-npy", None),
            ("text/html, application/x-npy;q=0.1", Some(Form::Npy)),
        ] {
            let found = forms(&[("content-type", "application/x-npz"), ("accept", accept)]);
            assert_eq!(found, Some((Form::Npz, form)), "{accept}");
        }
        assert_eq!(forms(&[("accept", "application/x-npy")]), Some((Form::Json, Some(Form::Npy))));
    }

    #[test]
    fn replies_have_the_form_of_the_request_where_they_can() {
        let reply = |sent, wanted, outputs| {
            let (announced, signature) = (None, String::new());
            Forms { sent, wanted, announced, signature, is_numpy: false }.reply(outputs).ok()
        };
        assert_eq!(reply(Form::Npy, None, 1), Some(Form::Npy));
        assert_eq!(reply(Form::Npy, None, 2), Some(Form::Npz));
        assert_eq!(reply(Form::Npy, Some(Form::Npy), 2), None);
        assert_eq!(reply(Form::Npz, None, 1), Some(Form::Npz));
        assert_eq!(reply(Form::Raw, None, 2), None);
        assert_eq!(reply(Form::Picture, None, 1), Some(Form::Json));
        assert_eq!(reply(Form::Json, Some(Form::MessagePack), 3), Some(Form::MessagePack));
    }
}
