//! The one error type, and the one table of kinds: canonical name, RPC code, HTTP status.
//!
//! The kinds are the canonical RPC codes that TensorFlow Serving uses. Every protocol, the log and the Python boundary
//! read this table; no other file maps a kind to a status, except for the administration, whose statuses
//! (`admin/answer.rs`) are not TensorFlow Serving's.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The kind of an error: a canonical RPC code (`tensorflow.error.Code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // The names are the canonical ones.
pub enum Kind {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Kind {
    /// Returns the kind of RPC code `code`; [`Kind::Unknown`] if there is none.
    pub fn from_code(code: i32) -> Kind {
        TABLE.iter().map(|row| row.0).find(|kind| *kind as i32 == code).unwrap_or(Kind::Unknown)
    }

    /// Returns the kind with canonical name `name`, such as `NOT_FOUND`.
    pub fn from_name(name: &str) -> Option<Kind> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Returns the canonical name, such as `NOT_FOUND`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize - 1].1
    }

    /// Returns the HTTP status that TensorFlow Serving answers with (docs/spec/rest.md section 3).
    pub fn http_status(self) -> u16 {
        TABLE[self as usize - 1].2
    }
}

/// Kind, canonical name and HTTP status, ordered by code.
const TABLE: [(Kind, &str, u16); 16] = [
    (Kind::Cancelled, "CANCELLED", 499),
    (Kind::Unknown, "UNKNOWN", 500),
    (Kind::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Kind::NotFound, "NOT_FOUND", 404),
    (Kind::AlreadyExists, "ALREADY_EXISTS", 409),
    (Kind::PermissionDenied, "PERMISSION_DENIED", 403),
    (Kind::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Kind::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Kind::Aborted, "ABORTED", 409),
    (Kind::OutOfRange, "OUT_OF_RANGE", 400),
    (Kind::Unimplemented, "UNIMPLEMENTED", 501),
    (Kind::Internal, "INTERNAL", 500),
    (Kind::Unavailable, "UNAVAILABLE", 503),
    (Kind::DataLoss, "DATA_LOSS", 500),
    (Kind::Unauthenticated, "UNAUTHENTICATED", 401),
];

/// A failure with its text, as a client will read it.
///
/// The text is always valid UTF-8; other bytes have to be converted lossily first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind, which selects a row of the table.
    pub kind: Kind,
    /// The whole message, without the kind.
    pub message: Cow<'static, str>,
    /// The HTTP status, if it differs from the kind's.
    status: Option<u16>,
    /// When the same request may succeed, in seconds, if it may.
    retry_after: Option<u16>,
}

/// The result of everything that can fail in the data plane.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of `kind`.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, message: message.into(), status: None, retry_after: None }
    }

    /// Sets the HTTP status to answer with.
    pub fn with_status(self, status: u16) -> Error {
        Error { status: Some(status), ..self }
    }

    /// Says that the same request may succeed after `time`; at least a second, and at most a minute.
    pub fn retry_after(self, time: std::time::Duration) -> Error {
        let seconds = time.as_millis().div_ceil(1000).clamp(1, 60);
        Error { retry_after: u16::try_from(seconds).ok(), ..self }
    }

    /// Returns the seconds after which the same request may succeed, if it may.
    pub fn seconds_to_retry(&self) -> Option<u16> {
        self.retry_after
    }

    /// Returns the HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or(self.kind.http_status())
    }

    /// Makes an error for a request that can never succeed.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::InvalidArgument, message)
    }

    /// Makes an error for something that does not exist here.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    /// Makes an error for a fault of the server itself.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Internal, message)
    }
}

/// Runs `work`; a panic becomes INTERNAL.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The closure owns its request and shares only tables that are replaced whole, so no inconsistent state remains.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::internal(
            "The server failed on this request; its log has the reason. Other requests go on",
        ))
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (index, (kind, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(*kind as usize, index + 1);
            assert_eq!(Kind::from_name(name), Some(*kind));
            assert_eq!(Kind::from_code(*kind as i32), *kind);
        }
        assert_eq!(Kind::from_code(99), Kind::Unknown);
    }
}
