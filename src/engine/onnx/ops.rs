//! What ONNX's operators do, as far as the end and the effects of a run depend on it.

/// What the time of an operator's work depends on.
pub(super) enum Work {
    /// The shapes of its inputs.
    ByShapes,
    /// The shapes of its inputs, and the values of those at these places.
    ByInputs(&'static [usize]),
    /// The values of its inputs.
    ByValues,
    /// Values, and it may go on for ever.
    MayLoop,
}

/// Operators whose work, or the size of whose output, depends on the values of some inputs: their places.
const BY_INPUTS: &[(&str, &[usize])] = &[
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1, 2]),
    ("ConstantOfShape", &[0]),
    ("DFT", &[1]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("If", &[0]),
    ("MaxUnpool", &[2]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Pad", &[1, 3]),
    ("Range", &[0, 1, 2]),
    ("Reshape", &[1]),
    ("Resize", &[1, 2, 3]),
    ("STFT", &[1, 3]),
    ("SequenceAt", &[1]),
    ("SequenceErase", &[1]),
    ("Slice", &[1, 2, 3, 4]),
    ("Split", &[1]),
    ("SplitToSequence", &[1]),
    ("Squeeze", &[1]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Unsqueeze", &[1]),
    ("Upsample", &[1]),
];

/// Operators that make tensors of sizes that only a run tells.
const BY_VALUES: &[&str] = &[
    "BeamSearch",
    "Compress",
    "GreedySearch",
    "ImageDecoder",
    "NonMaxSuppression",
    "NonZero",
    "Sampling",
    "StringSplit",
    "Tokenizer",
    "Unique",
    "WhisperBeamSearch",
];

/// Operators that ONNX Runtime's optimisations may take out of a graph, as they may pass their input on.
const REMOVABLE: &[&str] = &[
    "Cast",
    "CastLike",
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Identity",
    "If",
    "Pad",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators that are taken out where one of their inputs is a constant, such as 0 or 1.
const REMOVABLE_BY_CONSTANT: &[&str] = &["Add", "Div", "Mul", "Sub"];

/// Operators with a random generator.
const RANDOM: &[&str] = &[
    "Bernoulli",
    "BiasDropout",
    "BitmaskBiasDropout",
    "BitmaskDropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Sampling",
];

/// Returns whether the operators of `domain` are ONNX's own.
pub(super) fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml")
}

/// Returns whether the operators of `domain` are known here: ONNX's own, and ONNX Runtime's. Those of others are
/// functions, whose nodes are in the file.
fn is_known(domain: &str) -> bool {
    is_standard(domain) || domain == "com.microsoft"
}

/// Returns whether ONNX Runtime may take an operator out of a graph. A function, of which it takes the nodes, may have
/// none that stay. `has_constant`: one of its inputs may be a constant.
pub(super) fn is_removable(domain: &str, op: &str, has_constant: bool) -> bool {
    !is_known(domain) || REMOVABLE.contains(&op) || (has_constant && REMOVABLE_BY_CONSTANT.contains(&op))
}

/// Returns whether an operator's output may be a constant though its inputs are none: that of a branch, or a function.
pub(super) fn may_be_constant(domain: &str, op: &str) -> bool {
    !is_known(domain) || op == "If"
}

/// Returns what the work of an operator depends on.
pub(super) fn work(domain: &str, op: &str) -> Work {
    if !is_known(domain) {
        return Work::ByShapes;
    }
    if let Some((_, places)) = BY_INPUTS.iter().find(|(name, _)| *name == op) {
        return Work::ByInputs(places);
    }
    match op {
        "Loop" => Work::MayLoop,
        _ if BY_VALUES.contains(&op) => Work::ByValues,
        // Which axes are left out.
        _ if op.starts_with("Reduce") => Work::ByInputs(&[1]),
        _ => Work::ByShapes,
    }
}

/// Returns whether an operator draws random numbers.
pub(super) fn is_random(domain: &str, op: &str, inputs: &[String]) -> bool {
    // With the input `training_mode`; without it, it passes its input on.
    let drops = op == "Dropout" && inputs.get(2).is_some_and(|input| !input.is_empty());
    is_known(domain) && (drops || RANDOM.contains(&op))
}

/// Returns whether an operator's output depends on the shapes of its inputs alone.
pub(super) fn tells_shapes(domain: &str, op: &str) -> bool {
    is_standard(domain) && matches!(op, "Shape" | "Size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_each_operator_is_in_one() {
        assert!(BY_INPUTS.is_sorted_by(|one, next| one.0 < next.0));
        assert!(
            [BY_VALUES, RANDOM, REMOVABLE, REMOVABLE_BY_CONSTANT]
                .iter()
                .all(|list| list.is_sorted_by(|one, next| one < next))
        );
        assert!(BY_INPUTS.iter().all(|(name, _)| !BY_VALUES.contains(name)));
    }

    #[test]
    fn dropout_is_random_in_training_alone() {
        let inputs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(!is_random("", "Dropout", &inputs(&["x", "ratio"])));
        assert!(!is_random("", "Dropout", &inputs(&["x", "ratio", ""])));
        assert!(is_random("", "Dropout", &inputs(&["x", "", "training"])));
        assert!(is_random("com.microsoft", "Sampling", &[]) && !is_random("mine", "RandomNormal", &[]));
    }
}
