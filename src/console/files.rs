//! The built files of the page, as they are sent: in memory, compressed ahead, and named by what is in them.

use crate::error::{Error, Result};
use crate::http::head::Fields;
use crate::http::reply::{Body, Reply};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// The file that is the page itself.
const PAGE: &str = "index.html";
/// The page may change with the next version of the server; all else has another name then.
const ASKED_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What is larger than this part of it once compressed, is sent as it is: pictures, for example.
const WORTHWHILE: f64 = 0.9;

/// The files by their paths.
#[derive(Debug, Default)]
pub struct Files(HashMap<String, File>);

/// One file.
#[derive(Debug)]
struct File {
    content_type: HeaderValue,
    bytes: Bytes,
    packed: Option<Bytes>,
    tag: HeaderValue,
    kept: HeaderValue,
}

impl Files {
    /// Takes files: the path of each below the root, with slashes, its media type and its content.
    pub fn new(files: Vec<(String, String, Vec<u8>)>) -> Files {
        let named = |(name, content_type, bytes): (String, String, Vec<u8>)| {
            let is_page = name == PAGE;
            let path = if is_page { "/".to_owned() } else { format!("/{name}") };
            (path, File::new(&content_type, bytes, is_page))
        };
        Files(files.into_iter().map(named).collect())
    }

    /// Returns the reply with the file at `path` to a request with these `headers`.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such file.
    pub(super) fn reply(&self, path: &str, headers: &HeaderMap) -> Result<Reply> {
        let file = self.0.get(path).ok_or_else(|| self.missing(path))?;
        Ok(file.reply(headers))
    }

    fn missing(&self, path: &str) -> Error {
        if self.0.contains_key("/") {
            return Error::not_found(format!("Not Found: {path}. The console is at /"));
        }
        Error::not_found(
            "The console's files are not in this installation. Install the package again, or run 'make console' in a \
             checkout; --console=false leaves the console out",
        )
    }
}

impl File {
    fn new(content_type: &str, bytes: Vec<u8>, is_page: bool) -> File {
        let content_type = HeaderValue::from_str(content_type);
        #[allow(clippy::cast_precision_loss)] // Of sizes far below 2⁵³.
        let is_worthwhile = |packed: &Vec<u8>| (packed.len() as f64) < WORTHWHILE * bytes.len() as f64;
        let packed = packed(&bytes).filter(is_worthwhile).map(Bytes::from);
        File {
            content_type: content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
            tag: tag(&bytes),
            packed,
            bytes: bytes.into(),
            kept: if is_page { ASKED_AGAIN } else { KEPT },
        }
    }

    fn reply(&self, headers: &HeaderMap) -> Reply {
        let reply = |status, body: Body, more: Option<(HeaderName, HeaderValue)>| {
            let mut described = vec![(ETAG, self.tag.clone()), (CACHE_CONTROL, self.kept.clone())];
            if self.packed.is_some() {
                described.push((VARY, HeaderValue::from_static("Accept-Encoding")));
            }
            described.extend(more);
            let content_type = self.content_type.clone();
            Reply { status, content_type, body: body.described(described), close: false, retry_after: None }
        };
        if self.is_had(headers) {
            return reply(304, Body::default(), None);
        }
        match self.packed.as_ref().filter(|_| Fields::of(headers).accepts(false).gzip > 0) {
            Some(packed) => {
                let coding = (CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                reply(200, Body::borrowed(packed.clone()), Some(coding))
            }
            None => reply(200, Body::borrowed(self.bytes.clone()), None),
        }
    }

    /// Returns whether the client says that it has the file.
    fn is_had(&self, headers: &HeaderMap) -> bool {
        let named = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut tags = named.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.as_bytes() == self.tag.as_bytes())
    }
}

/// Returns a tag for any coding of `bytes`.
fn tag(bytes: &[u8]) -> HeaderValue {
    let mut tag = String::from("W/\"");
    for byte in &Sha256::digest(bytes)[..12] {
        // Writing to memory does not fail.
        let _written = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\""))
}

fn packed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use crate::error::Kind;
    use flate2::read::GzDecoder;
    use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
    use http::{Response, Version};
    use std::io::Read;

    const SCRIPT: &str = "/console/index-abc.js";

    fn files() -> Files {
        let script = "console.log(1);\n".repeat(100).into_bytes();
        let random = (0..200u32).flat_map(|index| Sha256::digest(index.to_le_bytes()).to_vec()).collect();
        Files::new(vec![
            ("index.html".to_owned(), "text/html; charset=utf-8".to_owned(), b"<!doctype html>".to_vec()),
            ("console/index-abc.js".to_owned(), "text/javascript; charset=utf-8".to_owned(), script),
            ("console/picture-1.png".to_owned(), "image/png".to_owned(), random),
            ("console/odd".to_owned(), "bad\ntype".to_owned(), Vec::new()),
        ])
    }

    fn ask(path: &str, headers: &[(HeaderName, &str)]) -> Response<Bytes> {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let reply = files().reply(path, &headers.collect()).unwrap();
        let response = reply.into_response(&Options::closed(), false, Version::HTTP_11, HeaderMap::new());
        response.map(|mut pieces| pieces.take().unwrap_or_default())
    }

    #[test]
    fn files_are_found_by_their_paths() {
        let page = ask("/", &[]);
        assert_eq!(page.body().as_ref(), b"<!doctype html>");
        assert_eq!(
            (&page.headers()[CONTENT_TYPE], &page.headers()[CACHE_CONTROL]),
            (&HeaderValue::from_static("text/html; charset=utf-8"), &ASKED_AGAIN)
        );
        assert_eq!(ask(SCRIPT, &[]).headers()[CACHE_CONTROL], KEPT);
        assert_eq!(ask("/console/odd", &[]).headers()[CONTENT_TYPE], "application/octet-stream");
        for path in ["/index.html", "/console/", "/console/../index.html", "/console/index-abc.js/"] {
            let error = files().reply(path, &HeaderMap::new()).unwrap_err();
            assert!(error.kind == Kind::NotFound && error.message.contains(path), "{error}");
        }
    }

    #[test]
    fn without_files_it_is_said_what_to_do() {
        let error = Files::default().reply("/", &HeaderMap::new()).unwrap_err();
        assert!(error.http_status() == 404 && error.message.contains("make console"), "{error}");
    }

    #[test]
    fn what_shrinks_is_sent_compressed_to_those_who_accept_it() {
        let (plain, packed) = (ask(SCRIPT, &[]), ask(SCRIPT, &[(ACCEPT_ENCODING, "br, gzip")]));
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(
            (&packed.headers()[CONTENT_ENCODING], &packed.headers()[VARY]),
            (&HeaderValue::from_static("gzip"), &HeaderValue::from_static("Accept-Encoding"))
        );
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.body().as_ref()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == *plain.body() && packed.body().len() < plain.body().len());
        let picture = ask("/console/picture-1.png", &[(ACCEPT_ENCODING, "gzip")]);
        assert!(!picture.headers().contains_key(CONTENT_ENCODING) && !picture.headers().contains_key(VARY));
    }

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        let tag = ask(SCRIPT, &[]).headers()[ETAG].clone();
        let tag = tag.to_str().unwrap();
        let (one, other) = (tag.to_owned(), ask("/", &[]).headers()[ETAG].clone());
        assert_ne!(one, other);
        for has in [one.clone(), format!("\"x\", {one}"), "*".to_owned()] {
            let response = ask(SCRIPT, &[(IF_NONE_MATCH, &has), (ACCEPT_ENCODING, "gzip")]);
            assert_eq!((response.status().as_u16(), response.body().len()), (304, 0), "{has}");
            assert_eq!(response.headers()[ETAG], tag);
        }
        assert_eq!(ask(SCRIPT, &[(IF_NONE_MATCH, "\"x\"")]).status(), 200);
    }
}
