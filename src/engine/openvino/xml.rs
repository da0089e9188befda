//! Reads the tags of an XML file in place.

use memchr::{memchr, memmem};

/// A tag without its `<` and `>`.
#[derive(Clone, Copy)]
pub(super) struct Tag<'x>(&'x [u8]);

/// What stands between tags and looks like some: how it begins and ends.
const NO_TAGS: [(&[u8], &[u8]); 3] = [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];

/// Returns the tags of `xml`, without comments, CDATA and processing instructions. A `>` in quotes ends no tag. What has
/// no end takes the rest.
pub(super) fn tags(mut xml: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    std::iter::from_fn(move || {
        loop {
            xml = &xml[memchr(b'<', xml)?..];
            if let Some((begin, end)) = NO_TAGS.iter().find(|(begin, _)| xml.starts_with(begin)) {
                xml = &xml[begin.len()..];
                xml = &xml[memmem::find(xml, end)? + end.len()..];
                continue;
            }
            let tag = &xml[1..];
            let tag = &tag[..length(tag)];
            xml = &xml[1 + tag.len()..];
            return Some(Tag(tag));
        }
    })
}

/// Returns how many bytes of `tag` stand before its end.
fn length(tag: &[u8]) -> usize {
    let mut quote = None;
    let end = tag.iter().position(|byte| match quote {
        None if *byte == b'>' => true,
        None => {
            quote = matches!(byte, b'"' | b'\'').then_some(*byte);
            false
        }
        Some(open) => {
            if *byte == open {
                quote = None;
            }
            false
        }
    });
    end.unwrap_or(tag.len())
}

impl<'x> Tag<'x> {
    /// Returns the name, with a `/` before it if an element ends here.
    pub(super) fn name(self) -> &'x [u8] {
        let is_end = |(at, byte): (usize, &u8)| byte.is_ascii_whitespace() || (at > 0 && *byte == b'/');
        let end = self.0.iter().enumerate().position(is_end);
        &self.0[..end.unwrap_or(self.0.len())]
    }

    /// Returns whether the element ends with this tag.
    pub(super) fn is_empty(self) -> bool {
        self.0.ends_with(b"/")
    }

    /// Returns the value of attribute `name`, as it is written.
    pub(super) fn value(self, name: &[u8]) -> Option<&'x [u8]> {
        let mut attributes = &self.0[self.name().len()..];
        loop {
            let equals = memchr(b'=', attributes)?;
            let key = attributes[..equals].trim_ascii();
            let rest = attributes[equals + 1..].trim_ascii_start();
            let (quote, rest) = rest.split_first()?;
            let end = memchr(*quote, rest)?;
            if key == name {
                return Some(&rest[..end]);
            }
            attributes = &rest[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(xml: &str) -> Vec<&str> {
        tags(xml.as_bytes()).map(|tag| std::str::from_utf8(tag.name()).unwrap()).collect()
    }

    #[test]
    fn tags_end_outside_of_quotes() {
        assert_eq!(names(r#"<a b="x > y"><b/><c d='"'></c ></a>"#), ["a", "b", "c", "/c", "/a"]);
        assert_eq!(names("<!DOCTYPE x><cut a='>"), ["!DOCTYPE", "cut"]);
        assert_eq!((names(""), names("<")), (vec![], vec![""]));
    }

    #[test]
    fn comments_and_the_like_are_no_tags() {
        for (begin, end) in [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")] {
            assert_eq!(names(&format!("<a>{begin} don't <b> \" > {end}<c/>")), ["a", "c"]);
            assert_eq!(names(&format!("<a>{begin}{end}<c/>")), ["a", "c"]);
            assert_eq!(names(&format!("<a>{begin} <c/>")), ["a"], "what has no end takes the rest");
        }
    }

    #[test]
    fn attributes_have_names_and_quotes() {
        let tag = tags(br#"<layer id = "7" name='type="Loop"' type='If'/>"#).next().unwrap();
        assert_eq!((tag.value(b"id"), tag.value(b"type")), (Some(&b"7"[..]), Some(&b"If"[..])));
        assert_eq!(tag.value(b"layer"), None);
        for cut in ["<a", "<a ", "<a b", "<a b=", "<a b=\"c"] {
            assert_eq!(tags(cut.as_bytes()).next().unwrap().value(b"b"), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), xml in "[-<>!?\\[\\]\"'= a/A-Z]{0,200}") {
            for text in [&bytes[..], xml.as_bytes()] {
                for tag in tags(text) {
                    assert!(tag.name().len() + tag.value(b"a").map_or(0, <[u8]>::len) <= text.len());
                }
            }
        }
    }
}
