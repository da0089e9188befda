//! What can be read off a model's XML without OpenVINO: whether it has state or loops, and how many bytes of weights it
//! needs. OpenVINO's C API tells none of this.
//!
//! A scanner of tags, not a parser: what it does not understand it skips, and OpenVINO, which reads the file as well,
//! reports what is wrong with it.

use super::sizes::Sizes;
use super::xml::{self, Tag};

/// What the layers of a model tell, those in the bodies of loops included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The number of layers.
    pub count: usize,
    /// True if a run leaves something for the next one.
    pub has_state: bool,
    /// True if values decide how often a loop is run.
    pub has_loop: bool,
    /// True if values decide what is computed.
    pub has_branch: bool,
    /// True if values may decide the sizes of what is computed.
    pub has_fed_size: bool,
    /// Bytes that the file of weights must have.
    pub weights: u64,
    /// True if it is no file that OpenVINO has written, and may hide one of the above; or if a layer with state does not
    /// say which, on which OpenVINO crashes (2026.4).
    pub is_damaged: bool,
}

/// Reads `xml`.
pub fn scan(xml: &[u8]) -> Layers {
    let mut layers = Layers::default();
    let mut in_constant = false;
    let mut needs_variable = false;
    let mut sizes = Sizes::default();
    for tag in xml::tags(xml) {
        sizes.see(tag);
        match tag.name() {
            b"layer" => {
                layers.count += 1;
                layers.is_damaged |= needs_variable;
                let kind = layers.text(tag, b"type").unwrap_or_default().to_ascii_lowercase();
                // Names of types are read without regard to case.
                in_constant = matches!(&kind[..], b"const" | b"constant");
                needs_variable = matches!(&kind[..], b"readvalue" | b"assign");
                layers.has_state |= needs_variable;
                layers.has_loop |= kind == b"loop";
                layers.has_branch |= kind == b"if";
            }
            b"data" if needs_variable => needs_variable = tag.value(b"variable_id").is_none(),
            b"data" if in_constant => {
                let start = layers.number(tag, b"offset").unwrap_or(0);
                let end = start.saturating_add(layers.number(tag, b"size").unwrap_or(0));
                layers.weights = layers.weights.max(end);
            }
            // A type of documents, which may define entities.
            name => layers.is_damaged |= name.starts_with(b"!"),
        }
    }
    layers.is_damaged |= needs_variable;
    layers.has_fed_size = sizes.by_values();
    layers
}

impl Layers {
    /// Returns the value of attribute `name`. OpenVINO writes no entities there.
    fn text<'x>(&mut self, tag: Tag<'x>, name: &[u8]) -> Option<&'x [u8]> {
        let value = tag.value(name)?;
        self.is_damaged |= value.contains(&b'&');
        Some(value)
    }

    fn number(&mut self, tag: Tag<'_>, name: &[u8]) -> Option<u64> {
        let value = self.text(tag, name)?;
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.is_damaged |= number.is_none();
        number
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
        assert!(of("loop").has_loop && of("readvalue").has_state && of("IF").has_branch);
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
    fn comments_hide_no_layers() {
        for text in ["<!-- don't -->", "<![CDATA[ \" ]]>", "<?pi ' ?>"] {
            let found = scan(format!("<net>{text}<layer type=\"Loop\"/></net>").as_bytes());
            assert_eq!(found, Layers { count: 1, has_loop: true, ..Layers::default() }, "{text}");
        }
        let commented = scan(b"<!-- <layer type='Loop'/> --><layer type='Add'/>");
        assert_eq!(commented, Layers { count: 1, ..Layers::default() });
    }

    #[test]
    fn what_openvino_would_read_otherwise_is_damaged() {
        for text in [
            "<layer type=\"&#76;oop\"/>",
            "<layer type=\"Const\"><data offset=\"0\" size=\"0x10\"/></layer>",
            "<layer type=\"Const\"><data offset=\"&#57;\" size=\"1\"/></layer>",
            "<layer type=\"Const\"><data offset=\"0\" size=\"99999999999999999999\"/></layer>",
            "<!DOCTYPE net [<!ENTITY a \"b\">]><layer type=\"Add\"/>",
        ] {
            assert!(scan(text.as_bytes()).is_damaged, "{text}");
        }
        assert!(!scan(b"<layer type=\"Add\" name=\"a &amp; b\"/>").is_damaged);
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
