//! ONNX Runtime's errors: their codes, and their texts without what only its developers can use.

use crate::error::Kind;

/// An error of ONNX Runtime's.
#[derive(Debug)]
pub(super) struct Failure {
    /// An `OrtErrorCode`.
    code: i32,
    /// Its text, made plain.
    pub(super) text: String,
}

impl Failure {
    /// Makes a failure of `OrtErrorCode` `code` with the library's own `message`.
    pub(super) fn new(code: i32, message: &str) -> Failure {
        Failure { code, text: plain(message) }
    }

    /// Returns the kind of a failed load.
    pub(super) fn of_load(&self) -> Kind {
        match self.code {
            NO_SUCH_FILE => Kind::NotFound,
            NO_MODEL | INVALID_PROTOBUF => Kind::DataLoss,
            NOT_IMPLEMENTED => Kind::Unimplemented,
            _ if self.is_of_memory() => Kind::ResourceExhausted,
            _ if self.says_cut() => Kind::DataLoss,
            _ if self.says_too_new() || self.says_unknown_op() || self.says_unknown_type() => {
                Kind::Unimplemented
            }
            _ => Kind::InvalidArgument,
        }
    }

    /// Returns the kind of a failed run: as a rule, the values or shapes of its inputs do not fit the graph.
    pub(super) fn of_run(&self) -> Kind {
        match self.code {
            NOT_IMPLEMENTED => Kind::Unimplemented,
            _ if self.is_of_memory() => Kind::ResourceExhausted,
            _ => Kind::InvalidArgument,
        }
    }

    /// Returns what to do about a failed load.
    pub(super) fn advice(&self) -> &'static str {
        if self.is_of_memory() {
            "Give the server more memory"
        } else if self.code == INVALID_PROTOBUF || self.code == NO_MODEL || self.says_cut() {
            "Its files are damaged or no ONNX model: copy them again"
        } else if self.says_too_new() {
            "Export the model for an older opset, or install a newer onnxruntime"
        } else if self.says_unknown_type() {
            "Convert its inputs and outputs inside the model with Cast"
        } else if self.says_unknown_op() || self.code == NOT_IMPLEMENTED {
            "Export the model with standard operators alone: libraries of custom operators are not loaded"
        } else {
            "Check the model with onnx.checker, and export it again"
        }
    }

    fn is_of_memory(&self) -> bool {
        ["bad_alloc", "Failed to allocate memory", "Available memory"]
            .iter()
            .any(|mark| self.text.contains(mark))
    }

    /// Whether a file with weights is too short.
    fn says_cut(&self) -> bool {
        self.text.contains("can not be read in full")
    }

    fn says_too_new(&self) -> bool {
        ["Unsupported model IR version", "under development", "max supported opset", "not supported till"]
            .iter()
            .any(|mark| self.text.contains(mark))
    }

    fn says_unknown_type(&self) -> bool {
        self.text.contains("is not currently registered or supported")
    }

    fn says_unknown_op(&self) -> bool {
        ["is not a registered function/op", "No Op registered", "Could not find an implementation"]
            .iter()
            .any(|mark| self.text.contains(mark))
    }
}

const NO_SUCH_FILE: i32 = 3;
const NO_MODEL: i32 = 4;
const INVALID_PROTOBUF: i32 = 7;
const NOT_IMPLEMENTED: i32 = 9;

/// Returns `message` in one line, without what names ONNX Runtime's sources, such as
/// `/onnxruntime_src/onnxruntime/core/graph/model.cc:180 onnxruntime::Model::Model(int, bool) `.
fn plain(message: &str) -> String {
    let mut rest = message;
    let mut kept = String::with_capacity(message.len());
    while let Some((place, end)) = next_place(rest) {
        kept.push_str(&rest[..place]);
        kept.push(' ');
        let is_whole = rest[place..].starts_with('/');
        rest = if is_whole { without_signature(&rest[end..]) } else { without_name(&rest[end..]) };
    }
    kept.push_str(rest);
    let words: Vec<&str> = kept.split_whitespace().collect();
    without_marks(&words.join(" ")).to_owned()
}

/// Returns `text` after the marks that ONNX Runtime puts before its own messages.
fn without_marks(text: &str) -> &str {
    let mut text = text;
    for mark in ["Exception during initialization: ", "[ONNXRuntimeError] : "] {
        text = text.strip_prefix(mark).unwrap_or(text);
    }
    // A code and its name: `1 : FAIL : `.
    let mut parts = text.splitn(3, " : ");
    match (parts.next(), parts.next(), parts.next()) {
        (Some(code), Some(_), Some(rest)) if code.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => text,
    }
}

/// Returns where the first name of a source file with the number of a line begins and ends.
fn next_place(text: &str) -> Option<(usize, usize)> {
    let is_of_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./+".contains(byte);
    for (colon, _) in text.match_indices(':') {
        let before = &text.as_bytes()[..colon];
        let start = colon - before.iter().rev().take_while(|byte| is_of_path(byte)).count();
        let digits = text.as_bytes()[colon + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = colon + 1 + digits;
        let is_source =
            [".cc", ".h", ".cpp", ".hpp"].iter().any(|ending| text[start..colon].ends_with(ending));
        let ends = text[end..].chars().next().is_none_or(char::is_whitespace);
        if digits > 0 && is_source && ends {
            return Some((start, end));
        }
    }
    None
}

/// Returns `text` after the name of a C++ function, without its arguments, that it begins with.
fn without_name(text: &str) -> &str {
    let text = text.trim_start();
    text.split_once(' ').map_or(text, |(_, rest)| rest)
}

/// Returns `text` after the signature of a C++ function that it begins with; whole if it has none in its first line.
fn without_signature(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    let mut depth = 0_usize;
    for (place, letter) in line.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth > 0 => {
                depth -= 1;
                let after = &text[place + 1..];
                if depth == 0 && (after.is_empty() || after.starts_with([' ', '\n'])) {
                    return without_specifiers(after);
                }
            }
            _ => {}
        }
    }
    text
}

/// Returns `text` after what may follow a signature: `const`, and the types of a template in brackets.
fn without_specifiers(text: &str) -> &str {
    let text = text.strip_prefix(" const").filter(|rest| rest.starts_with([' ', '\n'])).unwrap_or(text);
    let end = text.strip_prefix(" [with ").and_then(|rest| rest.find(']').map(|end| &rest[end + 1..]));
    end.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_in_the_sources_are_left_out() {
        for (message, expected) in [
            (
                "Non-zero status code returned while running Add node. Name:'' Status Message: /onnxruntime_src/\
                 onnxruntime/core/providers/cpu/math/element_wise_ops.h:560 void onnxruntime::BroadcastIterator::\
                 Append(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. 2 by 3\n",
                "Non-zero status code returned while running Add node. Name:'' Status Message: axis == 1 || axis == \
                 largest was false. 2 by 3",
            ),
            (
                "/build/model.cc:180 onnxruntime::Model::Model(onnx::ModelProto&&, const std::function<void(int)>&) \
                 Unsupported model IR version: 99, max supported IR version: 13\n",
                "Unsupported model IR version: 99, max supported IR version: 13",
            ),
            (
                "/src/a.h:7 bool f(T) const [with T = int; U = g(h)] x < y was false. \n/src/b.cc:8 g() z",
                "x < y was false. z",
            ),
            ("Load model from /models/m/model.onnx failed:Protobuf parsing failed.", ""),
            (
                "Load model from /m.onnx failed:/src/core/graph/model.cc:256 onnxruntime::Model::Model(int) too new",
                "Load model from /m.onnx failed: too new",
            ),
            (
                "Exception during initialization: [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:2201 GetExtData \
                 External initializer: w",
                "External initializer: w",
            ),
            ("ratio 1/2 (of 3:4)", ""),
            ("/a/b.cc:12 no signature here", "no signature here"),
        ] {
            assert_eq!(plain(message), if expected.is_empty() { message } else { expected });
        }
    }

    #[test]
    fn the_kind_follows_the_code_and_the_text() {
        let kind = |code, text| Failure::new(code, text).of_load();
        assert_eq!(kind(INVALID_PROTOBUF, "Protobuf parsing failed."), Kind::DataLoss);
        assert_eq!(kind(1, "Unsupported model IR version: 99"), Kind::Unimplemented);
        assert_eq!(kind(1, "Fatal error: x:Y(-1) is not a registered function/op"), Kind::Unimplemented);
        assert_eq!(kind(6, "std::bad_alloc"), Kind::ResourceExhausted);
        assert_eq!(Failure::new(6, "bad shape").of_run(), Kind::InvalidArgument);
        assert_eq!(Failure::new(6, "Failed to allocate memory").of_run(), Kind::ResourceExhausted);
    }

    proptest! {
        #[test]
        fn any_text_can_be_made_plain(text in "[ -~\n/:.()ch0-9é]{0,80}") {
            prop_assert!(plain(&text).len() <= text.len());
        }
    }
}
