//! What a library's own line says: TensorFlow writes its log to standard error in formats of its own.

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NativeLine<'a> {
    /// `debug`, `info`, `warning` or `error`.
    pub(crate) level: &'static str,
    /// Who wrote it: `tensorflow`, or `stderr` if that is not known.
    pub(crate) logger: &'static str,
    /// File and line of the source, if the line names them.
    pub(crate) source: Option<&'a str>,
    pub(crate) message: &'a str,
}

impl<'a> NativeLine<'a> {
    /// Reads `line`. One in no known format is its own message.
    pub(crate) fn read(line: &'a str) -> NativeLine<'a> {
        NativeLine::known(line).unwrap_or_else(|| match line.strip_prefix("WARNING: ") {
            Some(message) => NativeLine { level: "warning", logger: "stderr", source: None, message },
            None => NativeLine { level: "info", logger: "stderr", source: None, message: line },
        })
    }

    /// Reads `2026-01-02 03:04:05.678901: I tensorflow/core/file.cc:12] message`, or
    /// `I0000 00:00:1700000000.678901   1234 file.cc:12] message`.
    fn known(line: &'a str) -> Option<NativeLine<'a>> {
        let (head, message) = line.split_once("] ").or_else(|| Some((line.strip_suffix(']')?, "")))?;
        let mut words = head.split_ascii_whitespace();
        let (first, second) = (words.next()?, words.next()?);
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b":.-".contains(&byte));
        let letter = if digits(first) && digits(second) && second.ends_with(':') {
            words.next().filter(|letter| letter.len() == 1)?.bytes().next()?
        } else {
            let date = first.get(1..).filter(|date| date.len() == 4 && digits(date) && digits(second));
            date.and(words.next().filter(|thread| digits(thread)))?;
            first.bytes().next()?
        };
        let level = match letter {
            b'D' => "debug",
            b'I' => "info",
            b'W' => "warning",
            b'E' | b'F' => "error",
            _ => return None,
        };
        let source = words.next()?;
        let is_place = source.rsplit_once(':').is_some_and(|(file, line)| !file.is_empty() && digits(line));
        let alone = words.next().is_none();
        (is_place && alone).then_some(NativeLine {
            level,
            logger: "tensorflow",
            source: Some(source),
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tensorflows_formats_are_read() {
        let cases = [
            (
                "2026-01-02 03:04:05.678901: I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is",
                "info",
                "tensorflow/core/platform/cpu_feature_guard.cc:210",
                "This binary is",
            ),
            (
                "2026-01-02 03:04:05.678901: E external/local_xla/xla/stream.cc:485] [a] failed",
                "error",
                "external/local_xla/xla/stream.cc:485",
                "[a] failed",
            ),
            (
                "W0000 00:00:1700000000.678901   12345 gpu_device.cc:2433] Cannot dlopen",
                "warning",
                "gpu_device.cc:2433",
                "Cannot dlopen",
            ),
            ("F0102 03:04:05.678901  7 check.cc:1] ", "error", "check.cc:1", ""),
        ];
        for (line, level, source, message) in cases {
            let expected = NativeLine { level, logger: "tensorflow", source: Some(source), message };
            assert_eq!(NativeLine::read(line), expected);
        }
    }

    #[test]
    fn other_lines_are_their_own_message() {
        for line in [
            "To enable the following instructions: AVX2 FMA, rebuild TensorFlow",
            "thread 'servable-io-0' panicked at src/rest/mod.rs:7:5:",
            "[W:onnxruntime:, graph.cc:12 f] text",
            "2026-01-02 03:04:05.678 I manager: [1] text",
            "I am [not] a log line",
            "] ",
            "",
        ] {
            let read = NativeLine::read(line);
            assert_eq!((read.level, read.logger, read.message), ("info", "stderr", line));
        }
        let read = NativeLine::read("WARNING: All log messages before absl::InitializeLog()");
        assert_eq!((read.level, read.message), ("warning", "All log messages before absl::InitializeLog()"));
    }

    proptest! {
        #[test]
        fn any_line_keeps_its_message(line: String) {
            let read = NativeLine::read(&line);
            prop_assert!(line.ends_with(read.message) || line.ends_with(']'));
        }
    }
}
