//! Determines what the strings of a signature's inputs have to hold, from the operations that use them.

use super::flow::{Flow, Port, Step, Use, Value, functions_of, is_loop};
use super::parsing;
use crate::engine::content::{Content, PictureFormat};
use crate::pb::tensorflow::NodeDef;
use crate::pb::tensorflow::attr_value::Value as Attr;
use std::collections::{BTreeMap, HashSet};

/// Operations whose outputs hold the values of an input, or of its elements, unchanged (lists and arrays of a loop
/// included).
const MOVES: &[&str] = &[
    "Identity",
    "IdentityN",
    "Snapshot",
    "StopGradient",
    "PreventGradient",
    "PlaceholderWithDefault",
    "EnsureShape",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "Pack",
    "Unpack",
    "Concat",
    "ConcatV2",
    "Split",
    "SplitV",
    "Slice",
    "StridedSlice",
    "Gather",
    "GatherV2",
    "GatherNd",
    "Transpose",
    "Tile",
    "BroadcastTo",
    "Reverse",
    "ReverseV2",
    "Select",
    "SelectV2",
    "BooleanMask",
    "DynamicPartition",
    "DynamicStitch",
    "Switch",
    "RefSwitch",
    "Merge",
    "Enter",
    "Exit",
    "NextIteration",
    "TensorListFromTensor",
    "TensorListGetItem",
    "TensorListSetItem",
    "TensorListStack",
    "TensorListGather",
    "TensorListConcatV2",
    "TensorListPushBack",
    "TensorListPopBack",
    "TensorListScatterV2",
    "TensorArrayScatterV3",
    "TensorArrayWriteV3",
    "TensorArrayReadV3",
    "TensorArrayGatherV3",
    "TensorArrayUnpack",
    "RaggedTensorToTensor",
    "SparseToDense",
];

/// Operations that take any string.
const TAKE_ANY: &[&str] = &[
    "Shape",
    "ShapeN",
    "Size",
    "Rank",
    "ZerosLike",
    "Equal",
    "NotEqual",
    "Assert",
    "NoOp",
    "TensorListLength",
    "TensorListElementShape",
    "TensorArraySizeV3",
];

/// Operations that take any text.
const TAKE_TEXT: &[&str] = &[
    "StringLength",
    "StringToHashBucket",
    "StringToHashBucketFast",
    "StringToHashBucketStrong",
    "LookupTableFind",
    "LookupTableFindV2",
    "RegexFullMatch",
    "StaticRegexFullMatch",
    "UnicodeDecode",
    "UnicodeDecodeWithOffsets",
    "UnicodeScript",
    "Unique",
    "UniqueV2",
    "UniqueWithCounts",
    "UniqueWithCountsV2",
    "SentencepieceTokenizeOp",
];

/// Operations that make text of text, with the output that holds it: its name, and its place among all.
const MAKE_TEXT: &[(&str, &str, usize)] = &[
    ("StringLower", "output", 0),
    ("StringUpper", "output", 0),
    ("StringStrip", "output", 0),
    ("StringJoin", "output", 0),
    ("StringFormat", "output", 0),
    ("ReduceJoin", "output", 0),
    ("UnsortedSegmentJoin", "output", 0),
    ("RegexReplace", "output", 0),
    ("StaticRegexReplace", "output", 0),
    ("Substr", "output", 0),
    ("AsString", "output", 0),
    ("UnicodeTranscode", "output", 0),
    ("StringNGrams", "ngrams", 0),
    ("SparseFillEmptyRows", "output_values", 1),
    ("StringSplit", "values", 1),
    ("StringSplitV2", "values", 1),
];

/// What an operation needs of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Any,
    Text,
    Number,
    Picture(PictureFormat),
    Example,
    /// Something that is not known.
    Unknown,
}

/// Returns the content of each of the inputs `strings` (alias and tensor), as far as it is known. `needed`: the nodes
/// that a run of the signature reaches.
pub(super) fn of<'g>(
    flow: &Flow<'g>,
    needed: &HashSet<&str>,
    strings: impl Iterator<Item = (&'g str, &'g str)>,
) -> BTreeMap<String, Content> {
    let known = |(alias, tensor): (&'g str, &'g str)| {
        let (node, index) = tensor.rsplit_once(':').unwrap_or((tensor, "0"));
        let of_all = index.parse().ok()?;
        let port = Port::One { name: "", in_list: 0, of_all };
        let content = wanted(flow, needed, Value { scope: "", node, port, decoded: 0 })?;
        Some((alias.to_owned(), content))
    };
    strings.filter_map(known).collect()
}

/// Returns what the string `value` has to hold; `None` if that is not known.
fn wanted<'g>(flow: &Flow<'g>, needed: &HashSet<&str>, value: Value<'g>) -> Option<Content> {
    let uses = flow.uses(value, needed, &step);
    let examples = |of: &Use<'g>| {
        parsing::features(flow, of, &|feature| wanted_in_example(flow, needed, feature)).map(Content::Example)
    };
    decide(&uses, examples)
}

/// The same for a feature of an example; an example in an example is not looked into.
fn wanted_in_example<'g>(flow: &Flow<'g>, needed: &HashSet<&str>, value: Value<'g>) -> Option<Content> {
    decide(&flow.uses(value, needed, &step), |_| None)
}

/// Decides by the `uses` of a string. One that is decoded or parsed somewhere may be looked at as text as well.
fn decide<'g>(uses: &[Use<'g>], example: impl Fn(&Use<'g>) -> Option<Content>) -> Option<Content> {
    let with = |wanted: Need| uses.iter().filter(move |one| need(one.node) == wanted).collect::<Vec<_>>();
    let picture = uses.iter().filter_map(|one| match need(one.node) {
        Need::Picture(format) => Some((format, one.decoded)),
        Need::Any | Need::Text | Need::Number | Need::Example | Need::Unknown => None,
    });
    if let Some((format, decoded)) = picture.min() {
        return Some(in_base64(Content::Picture(format), decoded));
    }
    let parses = with(Need::Example);
    if !parses.is_empty() {
        let decoded = parses[0].decoded;
        return merged(parses.into_iter().map(example)).map(|example| in_base64(example, decoded));
    }
    if !with(Need::Unknown).is_empty() {
        return None;
    }
    let numbers = with(Need::Number);
    let (content, of) =
        if numbers.is_empty() { (Content::Text, uses.iter().collect()) } else { (Content::Number, numbers) };
    let decoded = of.iter().map(|one: &&Use<'g>| one.decoded).max().unwrap_or(0);
    Some(in_base64(content, decoded))
}

fn in_base64(content: Content, times: u8) -> Content {
    (0..times).fold(content, |content, _| Content::Base64(Box::new(content)))
}

/// Joins the features of examples; `None` if those of one are not known.
fn merged(examples: impl Iterator<Item = Option<Content>>) -> Option<Content> {
    let mut all = BTreeMap::new();
    for example in examples {
        let Some(Content::Example(features)) = example else { return None };
        all.extend(features);
    }
    Some(Content::Example(all))
}

/// Says what `node` does with a string that it takes.
fn step<'g>(flow: &Flow<'g>, node: &'g NodeDef) -> Step<'g> {
    let op = node.op.as_str();
    if MOVES.contains(&op) {
        return Step::Moves;
    }
    if let Some((_, name, of_all)) = MAKE_TEXT.iter().find(|(known, ..)| *known == op) {
        return Step::UsesForText(Port::One { name, in_list: 0, of_all: *of_all });
    }
    match op {
        "DecodeBase64" => Step::DecodesBase64,
        "PartitionedCall" | "StatefulPartitionedCall" | "MapDefun" => {
            Step::Calls(functions_of(node, &["f"]), 0)
        }
        "If" | "StatelessIf" => Step::Calls(functions_of(node, &["then_branch", "else_branch"]), 1),
        "Case" | "StatelessCase" => Step::Calls(functions_of(node, &["branches"]), 1),
        _ if is_loop(node) => Step::Calls(functions_of(node, &["cond", "body"]), 0),
        _ if flow.has(op) => Step::Calls(vec![op], 0),
        _ => Step::Uses,
    }
}

fn need(node: &NodeDef) -> Need {
    let op = node.op.as_str();
    match op {
        // These read other formats as well, but a JPEG has no alpha channel.
        "DecodeImage" | "DecodeJpeg" if has_alpha(node) => Need::Picture(PictureFormat::Png),
        "DecodeImage" | "DecodeJpeg" | "DecodeAndCropJpeg" | "ExtractJpegShape" => {
            Need::Picture(PictureFormat::Jpeg)
        }
        "DecodePng" => Need::Picture(PictureFormat::Png),
        "DecodeGif" => Need::Picture(PictureFormat::Gif),
        "DecodeBmp" => Need::Picture(PictureFormat::Bmp),
        "DecodeWebP" => Need::Picture(PictureFormat::WebP),
        "ParseExample" | "ParseExampleV2" | "ParseSingleExample" => Need::Example,
        "StringToNumber" => Need::Number,
        _ if TAKE_ANY.contains(&op) => Need::Any,
        _ if TAKE_TEXT.contains(&op) || MAKE_TEXT.iter().any(|(known, ..)| *known == op) => Need::Text,
        _ => Need::Unknown,
    }
}

fn has_alpha(node: &NodeDef) -> bool {
    matches!(node.attr.get("channels").and_then(|attr| attr.value.as_ref()), Some(Attr::I(4)))
}

#[cfg(test)]
mod tests;
