//! The server's ports: opened, or taken as sockets that listen already.

use crate::config::Options;
use crate::error::{Error, Kind, Result};
use crate::listen::listen;
use crate::metrics::Protocol;
use socket2::SockRef;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The open ports.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Address of REST.
    pub rest: Option<SocketAddr>,
    /// Address of gRPC.
    pub grpc: Option<SocketAddr>,
    /// Unix socket of gRPC.
    pub grpc_socket: Option<PathBuf>,
}

/// A port, or the Unix socket beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// REST.
    Rest,
    /// gRPC.
    Grpc,
    /// gRPC on a Unix socket.
    GrpcSocket,
}

impl Port {
    const ALL: [Port; 3] = [Port::Rest, Port::Grpc, Port::GrpcSocket];

    /// Returns its name, as in the addresses that Python gets.
    pub fn name(self) -> &'static str {
        match self {
            Port::Rest => "rest",
            Port::Grpc => "grpc",
            Port::GrpcSocket => "grpc_socket",
        }
    }

    /// Returns the port of that name.
    pub fn named(name: &str) -> Option<Port> {
        Port::ALL.into_iter().find(|port| port.name() == name)
    }
}

/// Sockets that listen already.
pub(super) type Adopted = HashMap<Port, OwnedFd>;

/// An open port or socket. A Unix socket speaks gRPC.
pub(super) enum Listener {
    Tcp(Protocol, TcpListener),
    Unix(UnixListener),
}

/// Copies of listening sockets. While one is open, so is its port.
#[derive(Default)]
pub(super) struct Spare(Vec<(Port, OwnedFd)>);

impl Spare {
    pub(super) fn of(listeners: &[Listener]) -> Result<Spare> {
        let copies = listeners.iter().map(|listener| match listener {
            Listener::Tcp(Protocol::Rest, listener) => (Port::Rest, listener.as_fd().try_clone_to_owned()),
            Listener::Tcp(Protocol::Grpc, listener) => (Port::Grpc, listener.as_fd().try_clone_to_owned()),
            Listener::Unix(listener) => (Port::GrpcSocket, listener.as_fd().try_clone_to_owned()),
        });
        all(copies).map(Spare)
    }

    pub(super) fn copies(&self) -> Result<Vec<(Port, OwnedFd)>> {
        all(self.0.iter().map(|(port, socket)| (*port, socket.try_clone())))
    }
}

fn all(copies: impl Iterator<Item = (Port, std::io::Result<OwnedFd>)>) -> Result<Vec<(Port, OwnedFd)>> {
    let copies = copies.map(|(port, copy)| copy.map(|copy| (port, copy))).collect::<std::io::Result<_>>();
    copies.map_err(|why| {
        Error::new(Kind::ResourceExhausted, format!("A listening socket could not be duplicated: {why}"))
    })
}

/// Opens every configured port and socket that is not `adopted`.
pub(super) fn listen_all(options: &Options, mut adopted: Adopted) -> Result<(Vec<Listener>, Addresses)> {
    let mut listeners = Vec::new();
    let mut addresses = Addresses::default();
    let ports = [
        (Port::Rest, Protocol::Rest, options.rest_address, &mut addresses.rest),
        (Port::Grpc, Protocol::Grpc, options.grpc_address, &mut addresses.grpc),
    ];
    for (port, protocol, wanted, bound) in ports {
        let listener = match (adopted.remove(&port), wanted) {
            (Some(socket), _) => adopt(port, socket)?.into(),
            (None, Some(wanted)) => bind(wanted, options.backlog)?,
            (None, None) => continue,
        };
        *bound = listener.local_addr().ok();
        listeners.push(Listener::Tcp(protocol, listener));
    }
    let listener = match (adopted.remove(&Port::GrpcSocket), &options.grpc_socket_path) {
        (Some(socket), _) => adopt(Port::GrpcSocket, socket)?.into(),
        (None, Some(path)) => bind_socket(path, options.grpc_socket_takeover)?,
        (None, None) => return Ok((listeners, addresses)),
    };
    let bound = listener.local_addr().ok();
    addresses.grpc_socket = bound.and_then(|bound| bound.as_pathname().map(Path::to_owned));
    listeners.push(Listener::Unix(listener));
    Ok((listeners, addresses))
}

/// Prepares a socket that listens already, as [`listen`] does with its own.
fn adopt(port: Port, socket: OwnedFd) -> Result<OwnedFd> {
    let prepared = || -> std::io::Result<()> {
        let socket = SockRef::from(&socket);
        if !socket.is_listener()? {
            return Err(std::io::Error::other("it is no listening socket"));
        }
        socket.set_keepalive(port != Port::GrpcSocket)?;
        socket.set_nonblocking(true)
    };
    match prepared() {
        Ok(()) => Ok(socket),
        Err(why) => {
            let message = format!("The socket given for {} cannot be listened on: {why}", port.name());
            Err(Error::new(Kind::Unavailable, message))
        }
    }
}

/// Listens on the Unix socket `path`. A socket file without a listener is taken over; one with a listener only with
/// `takeover`, as in TensorFlow Serving. The previous listener keeps its connections.
fn bind_socket(path: &Path, takeover: bool) -> Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;
    let failed = |why: std::io::Error| {
        Error::new(Kind::Unavailable, format!("Cannot listen on the socket {}: {why}", path.display()))
    };
    let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if stale {
        let in_use = UnixStream::connect(path).is_ok();
        if in_use && takeover {
            tracing::warn!("another process listens on the socket {}: it is taken over", path.display());
        } else if in_use {
            let message = format!("Cannot listen on the socket {}: another process does", path.display());
            return Err(Error::new(Kind::AlreadyExists, message));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Listens on `address`; on a machine without IPv6, the IPv6 wildcard falls back to the IPv4 one.
fn bind(address: SocketAddr, backlog: u32) -> Result<TcpListener> {
    let bound = listen(address, backlog);
    let bound = match bound {
        Err(why) if address.is_ipv6() && address.ip().is_unspecified() && is_no_ipv6(&why) => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), backlog)
        }
        bound => bound,
    };
    bound.map_err(|why| {
        let kind =
            if why.kind() == std::io::ErrorKind::AddrInUse { Kind::AlreadyExists } else { Kind::Unavailable };
        Error::new(kind, format!("Cannot listen on {address}: {why}"))
    })
}

fn is_no_ipv6(why: &std::io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
