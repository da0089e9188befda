//! Connections that may begin with a header of the PROXY protocol: it is read before anything else, TLS included, and
//! nothing that follows it is.

use super::secure::given_up;
use crate::connections::Connection;
use crate::host;
use crate::metrics::EdgeLimit;
use crate::proxies::ProxyProtocol;
use crate::proxies::header::{Start, Told, start};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

/// Bytes that are looked at first: enough to tell what a connection begins with.
const FIRST: usize = 16;
/// First and longest pause while the rest of a header is missing. Proxies send it at once.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    Header(Told),
    Other,
    Broken,
}

/// A stream whose next bytes can be seen without taking them.
pub(super) trait Peek: AsyncRead + Unpin {
    /// Waits for bytes; returns how many there are, 0 at the end of the stream.
    fn look(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

impl Peek for TcpStream {
    async fn look(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.peek(buffer).await
    }
}

impl Peek for UnixStream {
    async fn look(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.async_io(Interest::READABLE, || host::socket::peek(self.as_fd(), buffer)).await
    }
}

/// Reads the header, if there is one, `within` that time, and records whom the connection is for. Returns false if the
/// connection has to end.
pub(super) async fn begin(stream: &mut impl Peek, client: &Connection, within: Duration) -> bool {
    let Some(proxies) = client.proxies().filter(|proxies| proxies.protocol != ProxyProtocol::Off) else {
        return true;
    };
    let (trusted, required) = (proxies.trust(&client.client()), proxies.protocol == ProxyProtocol::Require);
    if required && !trusted {
        client.reached(EdgeLimit::UntrustedProxy);
        return false;
    }
    let mut has_begun = false;
    let beginning = tokio::select! {
        beginning = timeout(within, read(stream, trusted, &mut has_begun)) => beginning,
        () = given_up(client) => return false,
    };
    let beginning = match beginning {
        Ok(Ok(beginning)) => beginning,
        // It has left.
        Ok(Err(_)) => return false,
        Err(_late) => {
            if has_begun {
                Beginning::Broken
            } else {
                Beginning::Other
            }
        }
    };
    let reached = match beginning {
        Beginning::Header(_) if !trusted => EdgeLimit::UntrustedProxy,
        Beginning::Header(Told::Client(address)) => {
            client.is_for(address);
            return true;
        }
        Beginning::Header(Told::Itself) => return true,
        Beginning::Other if !required => return true,
        Beginning::Other | Beginning::Broken => EdgeLimit::ProxyProtocol,
    };
    client.reached(reached);
    tracing::debug!("connection of {} ended by the PROXY protocol: {beginning:?}", client.client());
    false
}

/// Reads a header. Nothing is taken of other connections, nor of those that are not `trusted`. `has_begun` is set once a
/// part of a header has come.
async fn read(stream: &mut impl Peek, trusted: bool, has_begun: &mut bool) -> io::Result<Beginning> {
    let mut buffer = vec![0; FIRST];
    let (mut before, mut pause) = (0, PAUSE[0]);
    loop {
        let seen = stream.look(&mut buffer).await?;
        match start(&buffer[..seen]) {
            _ if seen == 0 => return Ok(Beginning::Other),
            Start::Other => return Ok(Beginning::Other),
            Start::Broken => return Ok(Beginning::Broken),
            Start::Header { told, .. } if !trusted => return Ok(Beginning::Header(told)),
            Start::Header { length, told } => {
                stream.read_exact(&mut buffer[..length]).await?;
                return Ok(Beginning::Header(told));
            }
            Start::Part(most) => {
                *has_begun = true;
                let is_full = seen == buffer.len();
                buffer.resize(most.max(FIRST), 0);
                if seen == before && !is_full {
                    // What has come stays readable, so that nothing tells when more has.
                    sleep(pause).await;
                    pause = (2 * pause).min(PAUSE[1]);
                }
                before = seen;
            }
        }
    }
}
