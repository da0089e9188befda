//! What the core is started with: given once, checked by Python, read only here.

use crate::pace::Pace;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How strings that are not UTF-8 leave in a JSON reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonUtf8 {
    /// Byte for byte, as TensorFlow Serving does: the reply is then no valid JSON text.
    Raw,
    /// As base64 objects.
    Base64,
}

/// How the server was started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where REST listens; port 0 takes any free one.
    pub rest_address: Option<SocketAddr>,
    /// Where gRPC listens; port 0 takes any free one.
    pub grpc_address: Option<SocketAddr>,
    /// A Unix socket for gRPC.
    pub grpc_socket_path: Option<PathBuf>,
    /// Whether the socket is taken over from a process that listens on it.
    pub grpc_socket_takeover: bool,
    /// How long a REST request may take from its last byte to its answer.
    pub rest_timeout: Option<Duration>,
    /// Whether `/v1/` replies carry CORS headers.
    pub cors: bool,
    /// The largest request body, compressed or not, in bytes.
    pub max_body_bytes: usize,
    /// The largest header block, in bytes.
    pub max_header_bytes: usize,
    /// A request's headers, once begun, have to come within this time.
    pub headers_within: Option<Duration>,
    /// How fast bodies have to come, and replies to be taken.
    pub pace: Option<Pace>,
    /// Bytes that all requests together may hold, from their bodies until their replies are taken.
    pub max_memory_in_flight: usize,
    /// Connections that may be open at once, on all ports; 0 for as many as the system's limit on descriptors allows.
    pub max_connections: usize,
    /// The deepest nesting of JSON that is followed.
    pub max_depth: usize,
    /// The smallest reply that is compressed for clients that accept it; 0 for none.
    pub gzip_min_bytes: usize,
    /// Threads that serve connections.
    pub io_threads: usize,
    /// Threads for runs and large bodies.
    pub compute_threads: usize,
    /// Batches of requests that may run at once; 0 where requests are not batched.
    pub batch_threads: usize,
    /// Waiting connections the kernel keeps.
    pub backlog: u32,
    /// How REST replies hold strings that are not UTF-8.
    pub non_utf8: NonUtf8,
    /// gRPC Predict outputs as `tensor_content`.
    pub tensor_content: bool,
    /// Whether a signature's method name is enforced.
    pub method_name_check: bool,
    /// Where Prometheus finds its metrics, if anywhere.
    pub prometheus_path: Option<String>,
}

#[cfg(test)]
impl Options {
    /// No port is open, one thread of each kind.
    pub(crate) fn closed() -> Options {
        Options {
            rest_address: None,
            grpc_address: None,
            grpc_socket_path: None,
            grpc_socket_takeover: false,
            rest_timeout: None,
            cors: false,
            max_body_bytes: 1 << 20,
            max_header_bytes: 1 << 14,
            headers_within: None,
            pace: None,
            max_memory_in_flight: 1 << 30,
            max_connections: 0,
            max_depth: 8,
            gzip_min_bytes: 0,
            io_threads: 1,
            compute_threads: 1,
            batch_threads: 0,
            backlog: 1,
            non_utf8: NonUtf8::Raw,
            tensor_content: false,
            method_name_check: false,
            prometheus_path: None,
        }
    }
}
