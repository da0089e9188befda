//! The text of a token, `servable.NAME.SECRET`, and the hash by which it is known.
//!
//! A secret is 256 random bits (43 characters of base64url). One SHA-256 is enough for it: a slow hash protects what
//! people choose, which can be guessed; nobody tries 2^256 texts, however fast each try is. The salt keeps equal secrets
//! and ready tables from telling anything. Salt and secret together fit into one block of SHA-256.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every token begins with: it says what the text is, to people and to those who search for leaked ones.
const PREFIX: &str = "servable.";
/// Length of a secret, in characters.
const SECRET: usize = 43;
/// Length of a salt, in characters.
const SALT: usize = 12;
/// Longest name.
const LONGEST_NAME: usize = 64;

/// A token as a client shows it.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    secret: &'a [u8; SECRET],
}

impl<'a> Shown<'a> {
    /// Reads a token; `None` if the text is none. The form of tokens is no secret: this may take any time.
    pub(super) fn read(text: &'a [u8]) -> Option<Shown<'a>> {
        let (name, secret) = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?.split_once('.')?;
        let secret = secret.as_bytes().try_into().ok()?;
        is_name(name).then_some(Shown { name, secret })
    }
}

/// Returns whether `text` may be the name of a token.
pub(super) fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() <= LONGEST_NAME
        && text.bytes().all(is_inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// A salted hash of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    salt: [u8; SALT],
    hash: [u8; 32],
}

/// The hash of no secret, to which that of an unknown name is compared.
pub(super) static NOBODY: Hashed = Hashed { salt: *b"nobody-knows", hash: [0; 32] };

impl Hashed {
    /// Reads `sha256:SALT:HASH`: a salt of 12 characters, and SHA-256 of salt and secret as 64 hexadecimal digits.
    pub(super) fn read(text: &str) -> Option<Hashed> {
        let (salt, digits) = text.strip_prefix("sha256:")?.split_once(':')?;
        let is_salt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let salt: [u8; SALT] = salt.as_bytes().try_into().ok()?;
        let digits = digits.as_bytes();
        if !salt.into_iter().all(is_salt) || digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Hashed { salt, hash })
    }

    /// Returns whether this is the hash of the secret of `shown`, in a time that does not depend on either.
    pub(super) fn is_of(&self, shown: &Shown<'_>) -> bool {
        digest(&self.salt, shown.secret).ct_eq(&self.hash).into()
    }
}

fn digest(salt: &[u8; SALT], secret: &[u8; SECRET]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a token of this name, and the second word of its line.
    pub(in crate::auth) fn made(name: &str, letter: char) -> (String, String) {
        let secret = letter.to_string().repeat(SECRET);
        let salt = b"0123456789ab";
        let hash: String = digest(salt, secret.as_bytes().try_into().unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (format!("{PREFIX}{name}.{secret}"), format!("sha256:0123456789ab:{hash}"))
    }

    #[test]
    fn the_hash_is_what_others_compute() {
        // printf %s 0123456789abAAAA…A (43 times) | sha256sum
        let (token, word) = made("a", 'A');
        assert_eq!(token, format!("servable.a.{}", "A".repeat(43)));
        assert_eq!(
            word,
            "sha256:0123456789ab:2cf26ca0ebf9ebdea5958f900ec1aadc8024392e07660ae3874980ccfba06350"
        );
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "A-b_9", "0", &"x".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "_a", "a.b", "a b", "ä", "a/b", "a=b", "#a", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_hash_has_a_form() {
        let (_, word) = made("a", 'A');
        assert!(Hashed::read(&word).is_some());
        assert_eq!(
            Hashed::read(&word.to_uppercase().replace("SHA256", "sha256").replace("AB:", "ab:")),
            Hashed::read(&word)
        );
        for bad in [
            "",
            "sha256",
            "sha256::",
            &word[7..],
            &word[..word.len() - 1],
            &word.replace("sha256", "md5"),
            &word.replace("0123456789ab", "0123456789a"),
            &word.replace("0123456789ab", "0123456789a+"),
            &format!("{word}0"),
            &word.replace(&word[30..32], "+1"),
        ] {
            assert_eq!(Hashed::read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn only_its_own_token_matches(letters in "[A-Za-z0-9_-]{43}", others in "[A-Za-z0-9_-]{43}", name in "[a-z][a-z0-9_-]{0,20}") {
            let text = format!("servable.{name}.{letters}");
            let shown = Shown::read(text.as_bytes()).unwrap();
            prop_assert_eq!(shown.name, &name);
            let salt = *b"abcdefghijkl";
            let hashed = Hashed { salt, hash: digest(&salt, shown.secret) };
            prop_assert!(hashed.is_of(&shown));
            let other = format!("servable.{name}.{others}");
            prop_assert_eq!(hashed.is_of(&Shown::read(other.as_bytes()).unwrap()), letters == others);
            prop_assert!(!NOBODY.is_of(&shown));
        }

        #[test]
        fn no_text_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..120), text: String) {
            let _either = Shown::read(&bytes).map(|shown| NOBODY.is_of(&shown));
            let _either = Hashed::read(&text);
        }
    }
}
