//! Tokens: no text breaks the reader of their file, and no header is taken for a token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use servable::auth::{Auth, Need};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let auth = Auth::of_text(&text).or_else(|_| Auth::of_text("# none"));
    if let Ok(auth) = auth {
        let pass = auth.admit(|_| Some(bytes));
        assert!(pass.is_err());
        assert!(auth.check(None, Need::Any).is_err());
    }
});
