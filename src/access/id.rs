//! Identifiers of requests: those that clients send, if they are sane, and those made here.

use smallvec::SmallVec;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

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

/// Returns the trace identifier of a `traceparent` (W3C Trace Context, version 00 and what later ones keep of it).
pub fn trace_of(traceparent: &[u8]) -> Option<[u8; 32]> {
    let is_hex = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == b'0');
    let (known, rest) = traceparent.split_at_checked(55)?;
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let dashes = [known[2], known[35], known[52]] == *b"---";
    let hex = [version, trace, parent, flags].into_iter().all(is_hex);
    let complete =
        if version == b"00" { rest.is_empty() } else { rest.first().is_none_or(|byte| *byte == b'-') };
    let valid = dashes && hex && complete && version != b"ff" && !is_zero(trace) && !is_zero(parent);
    if valid { trace.try_into().ok() } else { None }
}

/// Returns a random number: of a sequence (SplitMix64) that begins elsewhere in every thread of every process.
pub fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns true with the probability `share`.
pub fn chosen(share: f64) -> bool {
    /// Numbers below this are exact as `f64`.
    const STEPS: f64 = (1_u64 << 53) as f64;
    share >= 1.0 || (share > 0.0 && ((random() >> 11) as f64) < share * STEPS)
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

    #[test]
    fn a_trace_is_that_of_a_valid_traceparent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of =
            |text: &str| trace_of(text.as_bytes()).map(|trace| String::from_utf8(trace.to_vec()).unwrap());
        for valid in [
            format!("00-{trace}-00f067aa0ba902b7-01"),
            format!("01-{trace}-00f067aa0ba902b7-01"),
            format!("01-{trace}-00f067aa0ba902b7-01-later"),
        ] {
            assert_eq!(of(&valid).as_deref(), Some(trace), "{valid}");
        }
        for invalid in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("01-{trace}-00f067aa0ba902b7-01more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00_{trace}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(of(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_share_is_chosen() {
        let count = |share| (0..20_000).filter(|_| chosen(share)).count();
        assert_eq!((count(0.0), count(1.0), count(-1.0), count(f64::NAN)), (0, 20_000, 0, 0));
        // 40 standard deviations.
        assert!((2_000..8_000).contains(&count(0.25)), "{}", count(0.25));
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

        #[test]
        fn any_traceparent_is_read_or_not(text: Vec<u8>) {
            prop_assert!(trace_of(&text).is_none_or(|trace| trace.iter().all(u8::is_ascii_hexdigit)));
        }
    }
}
