//! What a connection is told that is not served.

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 0xb;

/// Returns all that the server sends: SETTINGS, as they have to come first, and GOAWAY, ENHANCE_YOUR_CALM, with `message`.
pub(crate) fn refusal(message: &str) -> Vec<u8> {
    let text = message.as_bytes();
    let [_, a, b, c] = u32::try_from(8 + text.len()).unwrap_or(8).to_be_bytes();
    let settings = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
    let goaway = [a, b, c, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
    [&settings[..], &goaway, text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_frame_holds_the_whole_text() {
        let text = "x".repeat(300);
        let frames = refusal(&text);
        let goaway = &frames[9..];
        assert_eq!(u32::from_be_bytes([0, goaway[0], goaway[1], goaway[2]]) as usize + 9, goaway.len());
        assert!(goaway.ends_with(text.as_bytes()));
    }
}
