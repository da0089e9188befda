//! Identifiers of requests: those that clients send, if they are sane, and those made here.

use crate::chance::random;
use smallvec::SmallVec;

/// The identifier of a request. Those made here, and most that clients send, need no allocation.
pub type RequestId = SmallVec<[u8; 40]>;

/// Longest identifier that is taken from a client, in bytes.
pub const LONGEST: usize = 128;

/// Returns whether an identifier from a client is taken: short, and of characters that mean nothing in a header, a log
/// line, a shell or a page. Any other is replaced by one made here.
pub fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~:/+=@".contains(byte))
}

/// Makes an identifier: 32 hexadecimal digits, unlike any other for all practical purposes, but not secret.
pub fn made() -> RequestId {
    let mut digits = [0; 32];
    for (part, digits) in [random(), random()].into_iter().zip(digits.chunks_exact_mut(16)) {
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(part >> (4 * index) & 15) as usize];
        }
    }
    RequestId::from_slice(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn an_identifier_is_short_and_of_harmless_characters() {
        for sane in
            ["a", "7f9c-2", "0af7651916cd43dd8448eb211c80319c", "Root=1-67891233-abc", "a/b:c@d+e~f_g.h"]
        {
            assert!(is_sane(sane.as_bytes()), "{sane}");
        }
        for insane in
            ["", " ", "a b", "a\n", "a\"", "a,b", "a;b", "<a>", "a\u{0}", "größe", "${jndi:x}", "a%0a"]
        {
            assert!(!is_sane(insane.as_bytes()), "{insane}");
        }
        assert!(is_sane(&[b'a'; LONGEST]) && !is_sane(&[b'a'; LONGEST + 1]));
    }

    #[test]
    fn those_made_differ_in_every_thread() {
        let of_one = || (0..1000).map(|_| made()).collect::<Vec<_>>();
        let all: Vec<RequestId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(of_one)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|id| id.len() == 32 && is_sane(id)));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4000);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_header_of_its_own_and_a_plain_word(id: Vec<u8>) {
            if is_sane(&id) {
                prop_assert!(id.iter().all(u8::is_ascii_graphic) && id.len() <= LONGEST);
                prop_assert!(http::HeaderValue::from_bytes(&id).is_ok());
                let means_something = b"\"'`\\<>&|;,$(){}[]*?!#%^";
                let any = id.iter().any(|byte| means_something.contains(byte));
                prop_assert!(!any);
            }
        }
    }
}
