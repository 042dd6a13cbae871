//! Sockets of a pod, in the test's hands.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::{Pod, SocketRequest};
use crate::Server;
use crate::helper::Helper;

impl Pod {
    /// Makes a socket in the pod's cgroup and network namespace. An error is the kernel's own.
    pub fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        self.helper.get_or_init(|| Helper::start(&self.netns(), &self.cgroup)).socket(request)
    }

    /// A socket as by socket(2), neither bound nor connected.
    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        self.open(&SocketRequest::new(domain, kind, protocol))
    }

    /// A TCP connection whose close is a reset, so that its port is free at once.
    pub fn tcp_to_reset(&self, request: &SocketRequest) -> io::Result<TcpStream> {
        let stream = TcpStream::from(self.open(request)?);
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// Connects over TCP. Reads of the connection give up after 5 s.
    pub fn tcp_connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::from(self.open(&SocketRequest::tcp(to))?);
        stream.set_read_timeout(Some(READ_LIMIT))?;
        Ok(stream)
    }

    /// Listens on `at`.
    pub fn tcp_listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        self.open(&SocketRequest::tcp_listener(at)).map(TcpListener::from)
    }

    /// A UDP socket on `at`. Its reads give up after 5 s.
    pub fn udp(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::from(self.open(&SocketRequest::udp(at))?);
        socket.set_read_timeout(Some(READ_LIMIT))?;
        Ok(socket)
    }

    /// A UDP socket that is connected to `to`. Its reads give up after 5 s.
    pub fn udp_connect(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any: SocketAddr =
            if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::from(self.open(&SocketRequest::udp(any).to(to))?);
        socket.set_read_timeout(Some(READ_LIMIT))?;
        Ok(socket)
    }

    /// Serves `port` over TCP, both families: says `name` and a line feed, then echoes.
    pub fn serve_name(&self, port: u16, name: &str) -> Server {
        Server::tcp(self.dual_stack(port), Some(name))
    }

    /// Serves `port` over TCP, both families: echoes.
    pub fn serve_echo(&self, port: u16) -> Server {
        Server::tcp(self.dual_stack(port), None)
    }

    /// Serves `port` over UDP, both families: answers every datagram with `name`.
    pub fn serve_udp_name(&self, port: u16, name: &str) -> Server {
        Server::udp(self.dual_stack_udp(port), Some(name))
    }

    /// Serves `port` over UDP, both families: echoes every datagram.
    pub fn serve_udp_echo(&self, port: u16) -> Server {
        Server::udp(self.dual_stack_udp(port), None)
    }

    /// Which [`Pod::serve_name`] answers at `to`.
    pub fn ask(&self, to: SocketAddr) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(self.tcp_connect(to)?).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(name) => Ok(name.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Which [`Pod::serve_udp_name`] answers at `to`, by an unconnected socket, and from where.
    pub fn ask_udp(&self, to: SocketAddr) -> io::Result<(String, SocketAddr)> {
        let any: SocketAddr =
            if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = self.udp(any)?;
        socket.send_to(b"?", to)?;
        let mut name = [0; 64];
        let (len, from) = socket.recv_from(&mut name)?;
        Ok((String::from_utf8_lossy(&name[..len]).into_owned(), from))
    }

    fn dual_stack(&self, port: u16) -> TcpListener {
        let listener = self.tcp_listen((Ipv6Addr::UNSPECIFIED, port).into());
        listener.unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"))
    }

    fn dual_stack_udp(&self, port: u16) -> UdpSocket {
        let socket = self.udp((Ipv6Addr::UNSPECIFIED, port).into());
        socket.unwrap_or_else(|error| panic!("cannot bind UDP port {port}: {error}"))
    }
}

const READ_LIMIT: Duration = Duration::from_secs(5);
