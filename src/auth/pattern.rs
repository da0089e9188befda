//! Names of models by pattern: `*` stands for any text. `%20`, `%2C`, `%2A` and `%25` are a space, a comma, a star and
//! a percent sign, as in an address.

use memchr::memmem;
use percent_encoding::percent_decode_str;

/// Patterns, one of which a name must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models {
    patterns: Vec<Pattern>,
    /// True if one of them matches every name.
    pub(super) every: bool,
}

/// The texts around each `*`; one text if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<String>);

impl Models {
    /// Returns that which every name matches.
    pub(super) fn all() -> Models {
        Models { patterns: Vec::new(), every: true }
    }

    /// Reads patterns between commas; `None` if that is none.
    pub(super) fn read(text: &str) -> Option<Models> {
        let patterns = text.split(',').map(Pattern::read).collect::<Option<Vec<_>>>()?;
        let every = patterns.iter().any(|one| one.0.len() > 1 && one.0.iter().all(String::is_empty));
        Some(Models { patterns, every })
    }

    /// Returns whether `name` matches.
    pub(super) fn have(&self, name: &str) -> bool {
        self.every || self.patterns.iter().any(|one| one.matches(name.as_bytes()))
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Pattern> {
        let is_escape = |at: usize| {
            text.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        if text.is_empty() || !memchr::memchr_iter(b'%', text.as_bytes()).all(is_escape) {
            return None;
        }
        let decoded = |piece: &str| percent_decode_str(piece).decode_utf8().ok().map(String::from);
        text.split('*').map(decoded).collect::<Option<Vec<_>>>().map(Pattern)
    }

    fn matches(&self, name: &[u8]) -> bool {
        let [first, inner @ .., last] = &self.0[..] else {
            return self.0.iter().all(|whole| whole.as_bytes() == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_bytes()) else { return false };
        for piece in inner {
            let Some(at) = memmem::find(rest, piece.as_bytes()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (patterns, names, others) in [
            ("*", &["", "m", "a/b,c"][..], &[][..]),
            ("m", &["m"], &["", "mm", "M", "m "]),
            ("resnet*", &["resnet", "resnet50"], &["a_resnet", "Resnet"]),
            ("*-v2", &["-v2", "m-v2", "-v2-v2"], &["m-v20", "v2"]),
            ("a*b*c", &["abc", "a1b2c", "abbcc", "abcbc"], &["ab", "ac", "acb", "abcd"]),
            ("a*a", &["aa", "aba", "aaa"], &["a"]),
            ("a**b", &["ab", "axb"], &["a"]),
            ("m,n*", &["m", "n", "no"], &["mn", "m,n"]),
            ("a%20b,%2A,c%2Cd,%25", &["a b", "*", "c,d", "%"], &["a%20b", "x", "c", "d"]),
            ("é*", &["é", "élan"], &["e"]),
        ] {
            let models = Models::read(patterns).unwrap();
            names.iter().for_each(|name| assert!(models.have(name), "{patterns} {name}"));
            others.iter().for_each(|name| assert!(!models.have(name), "{patterns} {name}"));
        }
    }

    #[test]
    fn some_texts_are_no_patterns() {
        for bad in ["", ",", "m,", "m,,n", "%", "a%2", "%zz", "%ff"] {
            assert_eq!(Models::read(bad), None, "{bad}");
        }
        for (text, every) in [("*", true), ("m,**", true), ("m*", false), ("%2A", false), ("m", false)] {
            assert_eq!(Models::read(text).unwrap().every, every, "{text}");
        }
    }

    /// Whether `name` matches `pattern`, by the definition.
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
            [one, rest @ ..] => name.first() == Some(one) && matches(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
            let (one, other): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(Models::read(&pattern).unwrap().have(&name), matches(&one, &other));
        }

        #[test]
        fn any_name_can_be_written(name in ".{1,20}") {
            let written = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
            let models = Models::read(&written.to_string()).unwrap();
            prop_assert!(models.have(&name));
            let longer = format!("{name}x");
            prop_assert!(!models.have(&longer));
        }

        #[test]
        fn no_text_breaks_it(text: String, name: String) {
            let _either = Models::read(&text).map(|models| models.have(&name));
        }
    }
}
