//! The outputs that a predict wants: those that its body or its query names, or all.

use crate::engine::signature::Signature;
use crate::error::{Error, Result};
use crate::methods::{Positions, bind};
use percent_encoding::percent_decode_str;

/// Returns the positions of the outputs wanted, in the order in which they are printed. `in_query`: names with commas between
/// them, percent-encoded.
pub(super) fn wanted(signature: &Signature, in_body: Option<Positions>, in_query: &str) -> Result<Positions> {
    let mut outputs = match in_body {
        Some(_) if !in_query.is_empty() => {
            return Err(Error::invalid(
                "Both the body and the query name outputs. Name them in one of these",
            ));
        }
        Some(outputs) => outputs,
        None => bind::outputs(signature, names(in_query).map(Ok))?,
    };
    outputs.sort_unstable();
    Ok(outputs)
}

/// Returns the names in a query. Bytes that are not UTF-8 are replaced.
fn names(query: &str) -> impl Iterator<Item = String> {
    let decoded = |name| percent_decode_str(name).decode_utf8_lossy().into_owned();
    query.split(',').filter(|_| !query.is_empty()).map(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_after_the_commas_between_them() {
        let all = |query| names(query).collect::<Vec<_>>();
        assert_eq!(all("a%2Cb,c:0,,%E4,+"), ["a,b", "c:0", "", "\u{FFFD}", "+"]);
        assert!(all("").is_empty());
    }
}
