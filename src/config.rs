//! The core's configuration: set once, validated by Python, only read here.

use crate::access::AccessOptions;
use crate::auth::Auth;
use crate::exchange::RequestIds;
use crate::pace::Pace;
use crate::payload::FileLimits;
use crate::proxies::Proxies;
use crate::scheduler::Limits;
use crate::telemetry::Settings;
use crate::tls::Tls;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The form of strings that are not UTF-8 in JSON replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonUtf8 {
    /// Byte for byte, as TensorFlow Serving does: the reply is then not valid JSON.
    Raw,
    /// As base64 objects.
    Base64,
}

/// Where the console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleAt {
    /// Nowhere.
    Nowhere,
    /// At the administration's address.
    Administration,
    /// There, and on the REST port.
    Everywhere,
}

/// The server's options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the REST port; port 0 takes any free one.
    pub rest_address: Option<SocketAddr>,
    /// Address of the gRPC port; port 0 takes any free one.
    pub grpc_address: Option<SocketAddr>,
    /// Path of a Unix socket for gRPC.
    pub grpc_socket_path: Option<PathBuf>,
    /// True to take the socket over from a process that listens on it.
    pub grpc_socket_takeover: bool,
    /// Encryption of the REST port and of the administration, if any.
    pub tls: Option<Tls>,
    /// The tokens that requests need, if they need any.
    pub auth: Option<Auth>,
    /// True to serve the pages of health on the REST port.
    pub health_pages: bool,
    /// True to serve the Open Inference Protocol on the REST port and the gRPC port.
    pub open_inference: bool,
    /// True to describe the API by OpenAPI documents on the REST port.
    pub openapi: bool,
    /// The beginning of the names of files in shared memory that its clients may register, if they may.
    pub shared_memory: Option<String>,
    /// True if models read numbers there where clients have them.
    pub shared_memory_in_place: bool,
    /// Longest time from the last byte of a REST request to its answer.
    pub rest_timeout: Option<Duration>,
    /// True to add CORS headers to `/v1/` replies.
    pub cors: bool,
    /// The origins whose pages may use the REST port, as browsers write them; `*` for all.
    pub cors_origins: Vec<String>,
    /// True to answer gRPC-Web on the REST port.
    pub grpc_web: bool,
    /// Largest request body, compressed or not, in bytes.
    pub max_body_bytes: usize,
    /// Largest header block, in bytes.
    pub max_header_bytes: usize,
    /// Longest time from the first to the last byte of a request's headers.
    pub headers_within: Option<Duration>,
    /// Slowest pace at which bodies must arrive and replies must be taken.
    pub pace: Option<Pace>,
    /// Most bytes that all requests together may hold, from their bodies until their replies are taken.
    pub max_memory_in_flight: usize,
    /// Most connections open at once, on all ports; 0 for as many as the system's limit on descriptors allows.
    pub max_connections: usize,
    /// Most of these that one peer may have, if there is a limit.
    pub max_connections_per_peer: Option<usize>,
    /// Longest time that a connection of REST may wait for a request.
    pub idle: Option<Duration>,
    /// The proxies that may say whom they speak for.
    pub proxies: Option<Arc<Proxies>>,
    /// Deepest accepted nesting of JSON.
    pub max_depth: usize,
    /// Smallest reply, in bytes, that is compressed for clients that accept it; 0 for none.
    pub gzip_min_bytes: usize,
    /// True to take and send zstd over REST.
    pub zstd: bool,
    /// True to speak HTTP/2 on the REST port with clients that begin with it, without TLS.
    pub http2_cleartext: bool,
    /// Number of threads that serve connections.
    pub io_threads: usize,
    /// The limits of what waits and runs outside the threads that serve connections.
    pub limits: Limits,
    /// True if models are loaded once they are asked for.
    pub lazy_load: bool,
    /// Most memory that models may take together, in bytes, if there is a limit. Python keeps it.
    pub memory_budget: Option<u64>,
    /// Most connections waiting in the kernel to be accepted.
    pub backlog: u32,
    /// The form of strings that are not UTF-8 in REST replies.
    pub non_utf8: NonUtf8,
    /// True to send the outputs of gRPC Predict as `tensor_content`.
    pub tensor_content: bool,
    /// True to enforce a signature's method name.
    pub method_name_check: bool,
    /// Path of TensorFlow Serving's metrics, if enabled.
    pub prometheus_path: Option<String>,
    /// Path of all metrics, if enabled.
    pub metrics_path: Option<String>,
    /// Where the console is. It needs the counts of metrics, whether or not these are told.
    pub console: ConsoleAt,
    /// The access log, if there is one.
    pub access: Option<AccessOptions>,
    /// The identifiers of requests that are returned.
    pub request_ids: RequestIds,
    /// Traces and metrics for a collector, if there are any.
    pub telemetry: Option<Settings>,
    /// When a file of a payload log ends and another begins.
    pub payload_files: FileLimits,
}

#[cfg(test)]
impl Options {
    /// Options without open ports and with one thread of each kind, except for batching.
    pub(crate) fn closed() -> Options {
        Options {
            rest_address: None,
            grpc_address: None,
            grpc_socket_path: None,
            grpc_socket_takeover: false,
            tls: None,
            auth: None,
            health_pages: false,
            open_inference: false,
            openapi: false,
            shared_memory: None,
            shared_memory_in_place: false,
            rest_timeout: None,
            cors: false,
            cors_origins: Vec::new(),
            grpc_web: false,
            max_body_bytes: 1 << 20,
            max_header_bytes: 1 << 14,
            headers_within: None,
            pace: None,
            max_memory_in_flight: 1 << 30,
            max_connections: 0,
            max_connections_per_peer: None,
            idle: None,
            proxies: None,
            max_depth: 8,
            gzip_min_bytes: 0,
            zstd: false,
            http2_cleartext: false,
            io_threads: 1,
            limits: Limits { slots: 1, ..Limits::default() },
            lazy_load: false,
            memory_budget: None,
            backlog: 1,
            non_utf8: NonUtf8::Raw,
            tensor_content: false,
            method_name_check: false,
            prometheus_path: None,
            metrics_path: None,
            console: ConsoleAt::Nowhere,
            access: None,
            request_ids: RequestIds::Off,
            telemetry: None,
            payload_files: FileLimits { bytes: 0, age: None },
        }
    }
}
