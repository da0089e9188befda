//! What can be read off a model's XML without OpenVINO: whether it has state or loops, and how many bytes of weights it
//! needs. OpenVINO's C API tells none of this.
//!
//! A scanner of tags, not a parser: what it does not understand it skips, and OpenVINO, which reads the file as well,
//! reports what is wrong with it.

use memchr::{memchr, memchr_iter};

/// What the layers of a model tell, those in the bodies of loops included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// The number of layers.
    pub(super) count: usize,
    /// True if a run leaves something for the next one.
    pub(super) has_state: bool,
    /// True if values decide how often a loop is run.
    pub(super) has_loop: bool,
    /// True if values decide what is computed.
    pub(super) has_branch: bool,
    /// Bytes that the file of weights must have.
    pub(super) weights: u64,
    /// True if a layer with state does not say which: OpenVINO crashes on that (2026.4).
    pub(super) is_damaged: bool,
}

/// Reads `xml`.
pub(super) fn scan(xml: &[u8]) -> Layers {
    let mut layers = Layers::default();
    let mut in_constant = false;
    let mut needs_variable = false;
    for tag in tags(xml) {
        if let Some(attributes) = named(tag, b"layer") {
            layers.count += 1;
            layers.is_damaged |= needs_variable;
            let kind = value(attributes, b"type").unwrap_or_default();
            in_constant = kind == b"Const";
            needs_variable = matches!(kind, b"ReadValue" | b"Assign");
            layers.has_state |= needs_variable;
            layers.has_loop |= kind == b"Loop";
            layers.has_branch |= kind == b"If";
        } else if let Some(attributes) = named(tag, b"data").filter(|_| needs_variable) {
            needs_variable = value(attributes, b"variable_id").is_none();
        } else if let Some(attributes) = named(tag, b"data").filter(|_| in_constant) {
            let number = |name| std::str::from_utf8(value(attributes, name)?).ok()?.parse::<u64>().ok();
            let end = number(b"offset").unwrap_or(0).saturating_add(number(b"size").unwrap_or(0));
            layers.weights = layers.weights.max(end);
        }
    }
    layers.is_damaged |= needs_variable;
    layers
}

/// Returns what stands between `<` and the end of each tag. A `>` in quotes does not end one; comments are tags to it.
fn tags(xml: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut end = 0;
    memchr_iter(b'<', xml).filter_map(move |open| {
        if open < end {
            return None;
        }
        let tag = &xml[open + 1..];
        let mut quote = None;
        let length = tag.iter().position(|byte| match quote {
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
        // A tag without an end takes the rest.
        let length = length.unwrap_or(tag.len());
        end = open + 1 + length;
        Some(&tag[..length])
    })
}

/// Returns the attributes of `tag` if it is a start tag `name`.
fn named<'x>(tag: &'x [u8], name: &[u8]) -> Option<&'x [u8]> {
    tag.strip_prefix(name).filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))
}

/// Returns the value of attribute `name`, as it is written.
fn value<'x>(mut attributes: &'x [u8], name: &[u8]) -> Option<&'x [u8]> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layers_are_counted_with_what_they_tell() {
        let xml = br#"<?xml version="1.0"?><net name="a > b" version="11"><layers>
            <layer id="0" name="x" type="Parameter"><data shape="" size="999" offset="1"/></layer>
            <layer id="1" name='type="Loop"' type='Const'><data offset="8" size="400"/></layer>
            <layer id="2" name="c" type="Const"><data size="8" offset="0"/></layer></layers></net>"#;
        assert_eq!(scan(xml), Layers { count: 3, weights: 408, ..Layers::default() });
        let of = |kind: &str| scan(format!("<layer id=\"1\" type = \"{kind}\" />").as_bytes());
        assert!(of("ReadValue").has_state && of("Assign").has_state && !of("Add").has_state);
        assert!(of("Loop").has_loop && !of("TensorIterator").has_loop);
        assert!(of("If").has_branch && !of("Loop").has_branch);
        assert_eq!(scan(b"<layers><layering type=\"Loop\"/>"), Layers::default());
    }

    #[test]
    fn a_layer_with_state_says_which() {
        let good = r#"<layer type="ReadValue"><data variable_id="v"/></layer><layer type="Assign"><data variable_id="v"/>"#;
        assert!(!scan(good.as_bytes()).is_damaged);
        for (from, to) in [
            ("variable_id", "id"),
            ("data", "date"),
            ("<layer type=\"Assign\"><data", "<layer type=\"Assign\"><at"),
        ] {
            assert!(scan(good.replacen(from, to, 1).as_bytes()).is_damaged, "{from}");
        }
    }

    #[test]
    fn what_is_cut_or_foreign_tells_nothing() {
        for text in [
            "",
            "<",
            "<layer",
            "<layer ",
            "<layer type",
            "<layer type=",
            "<layer type=\"Loop",
            "<data offset=\"9\"",
        ] {
            let found = scan(text.as_bytes());
            assert!(!found.has_loop && found.weights == 0, "{text}");
        }
        let huge = br#"<layer type="Const"><data offset="18446744073709551615" size="9"/>"#;
        assert_eq!(scan(huge).weights, u64::MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned(bytes in proptest::collection::vec(any::<u8>(), 0..300), xml in "[<>\"'= a/layertyp]{0,200}") {
            scan(&bytes);
            scan(xml.as_bytes());
        }
    }
}
