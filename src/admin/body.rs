//! Request bodies: small, and with a declared length.

use super::Refusal;
use crate::error::Kind;
use crate::memory::Reservation;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Largest body, in bytes.
const MAX_BODY: u64 = 1 << 20;

/// Reads all of `body`. A failure closes the connection.
pub(super) async fn read(body: Incoming, memory: &Reservation) -> Result<Bytes, Refusal> {
    let length = length(body.size_hint().exact()).map_err(Refusal::closing)?;
    memory.grow(length).map_err(|error| Refusal::new(error.kind, error.message).closing())?;
    match body.collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(why) => Err(invalid(format!("The request's body could not be read to its end: {why}")).closing()),
    }
}

/// Checks the declared length of a body and returns it.
fn length(announced: Option<u64>) -> Result<usize, Refusal> {
    match announced {
        None => Err(invalid("A body needs a Content-Length".to_owned())),
        Some(bytes) if bytes > MAX_BODY => {
            Err(invalid(format!("The body has {bytes} bytes, more than {MAX_BODY}")))
        }
        Some(bytes) => Ok(bytes as usize),
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(Kind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_how_long_it_is_and_is_not_too_long() {
        assert_eq!(length(Some(0)), Ok(0));
        assert_eq!(length(Some(1 << 20)), Ok(1 << 20));
        assert_eq!(length(None), Err(invalid("A body needs a Content-Length".to_owned())));
        let message = "The body has 1048577 bytes, more than 1048576".to_owned();
        assert_eq!(length(Some((1 << 20) + 1)), Err(invalid(message)));
    }
}
