//! Servers for the far end of a tunnel, on loopback. Every thread is joined when the server is
//! dropped, so that a panic in one fails the test.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, socket_linger};

use super::{PATIENCE, eventually};

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    /// Handles on what is open, to end it with the server.
    open: Mutex<HashMap<usize, TcpStream>>,
    received: Mutex<Vec<u8>>,
}

/// A listening server; one thread per connection.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

impl Upstream {
    /// Runs `serve` for each connection.
    pub(crate) fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::serve_recording(move |stream, _| serve(stream))
    }

    /// The same at this address.
    pub(crate) fn serve_at(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::serve_recording_at(address, move |stream, _| serve(stream))
    }

    fn serve_recording(serve: impl Fn(TcpStream, &Mutex<Vec<u8>>) + Send + Sync + 'static) -> Self {
        Self::serve_recording_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    fn serve_recording_at(
        address: SocketAddr,
        serve: impl Fn(TcpStream, &Mutex<Vec<u8>>) + Send + Sync + 'static,
    ) -> Self {
        let listener = bind(address);
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (of_acceptor, serve) = (shared.clone(), Arc::new(serve));
        let ours = listener.try_clone().unwrap();
        let acceptor = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if of_acceptor.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                let number = of_acceptor.accepted.fetch_add(1, Ordering::SeqCst);
                of_acceptor.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
                let (shared, serve) = (of_acceptor.clone(), serve.clone());
                // The stack of a thread that has ended is there until it is joined.
                if connections.len() >= 256 {
                    let (ended, open): (Vec<_>, _) =
                        connections.into_iter().partition(JoinHandle::is_finished);
                    ended.into_iter().for_each(|thread: JoinHandle<()>| thread.join().unwrap());
                    connections = open;
                }
                connections.push(std::thread::spawn(move || {
                    stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
                    let handle = stream.try_clone().unwrap();
                    serve(stream, &shared.received);
                    take_leave(handle);
                    // A connection closes with its last handle.
                    shared.open.lock().unwrap().remove(&number);
                }));
            }
            connections
        });
        Self { address, shared, listener: ours, acceptor: Some(acceptor) }
    }

    /// Sends back what it gets; closes when the client has finished.
    pub(crate) fn echo() -> Self {
        Self::serve(|mut stream| {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// Keeps what it gets and says nothing: see [`Upstream::received`].
    pub(crate) fn recorder() -> Self {
        Self::serve_recording(|mut stream, received| {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                received.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        })
    }

    /// Says `farewell` and finishes at once, then keeps what still comes.
    pub(crate) fn finishes_first(farewell: Vec<u8>) -> Self {
        Self::serve_recording(move |mut stream, received| {
            stream.write_all(&farewell).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut bytes = Vec::new();
            // What came before an error is kept: the test looks at that.
            let _ = stream.read_to_end(&mut bytes);
            received.lock().unwrap().extend(bytes);
        })
    }

    /// Listens until the client has finished, and only then answers.
    pub(crate) fn answers_last(answer: Vec<u8>) -> Self {
        Self::serve_recording(move |mut stream, received| {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            received.lock().unwrap().extend(bytes);
            let _ = stream.write_all(&answer);
        })
    }

    /// Waits for a first byte and answers with RST.
    pub(crate) fn resetter() -> Self {
        Self::serve(|mut stream| {
            let _ = stream.read(&mut [0; 1]);
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        })
    }

    /// Passes everything on to `address` and back: a wire that can be cut.
    pub(crate) fn relay(address: SocketAddr) -> Self {
        Self::serve(move |near| pass_on(near, address))
    }

    /// The same before a proxy, but a request whose first line has this word is answered with RST.
    pub(crate) fn relay_without(word: &'static str, address: SocketAddr) -> Self {
        Self::serve(move |near| {
            let mut line = [0; 512];
            let mut read = 0;
            while !line[..read].contains(&b'\n') {
                match near.peek(&mut line) {
                    Ok(more) if more > read => read = more,
                    _ => return,
                }
            }
            if String::from_utf8_lossy(&line[..read]).contains(word) {
                set_socket_linger(&near, Some(Duration::ZERO)).unwrap();
            } else {
                pass_on(near, address);
            }
        })
    }

    /// Ends all connections that are open.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// What a recording server has got so far, over all connections.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Configuration that sends these targets here: lines of `[egress.connect_to]`.
    pub(crate) fn for_targets(&self, targets: &[&str]) -> String {
        let lines = targets.iter().map(|target| format!("\"{target}\" = \"{}\"\n", self.address));
        format!("[egress.connect_to]\n{}", lines.collect::<String>())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        stop_accepting(&self.listener);
        let connections = self.acceptor.take().map(JoinHandle::join);
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let Some(connections) = connections else { return };
        let panicked = match connections {
            Ok(connections) => connections.into_iter().map(JoinHandle::join).filter(Result::is_err).count(),
            Err(_) => 1,
        };
        assert!(panicked == 0 || std::thread::panicking(), "{panicked} threads of an upstream panicked");
    }
}

/// Ends a connection in order, unless it was told to end with a reset: to close it with a byte unread, as the
/// client's own farewell that is still on its way, would be one.
fn take_leave(mut stream: TcpStream) {
    if socket_linger(&stream).unwrap() == Some(Duration::ZERO) || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut buffer = [0; 16 * 1024];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// Passes everything on to `address` and back, until both have ended.
fn pass_on(mut near: TcpStream, address: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(address) else { return };
    let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        // Ends with the wire, by an error or not.
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut near, &mut far);
    let _ = far.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// Wakes whoever accepts here, with an error. A connection would do as well, but for a network in which none can be
/// made.
pub(super) fn stop_accepting(listener: &TcpListener) {
    rustix::net::shutdown(listener, rustix::net::Shutdown::Both).unwrap();
}

/// Listens here. A program that another test is just starting may hold a copy of the listener that had
/// this address before, until it runs.
fn bind(address: SocketAddr) -> TcpListener {
    eventually("the address is free", || match TcpListener::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        bound => Some(bound.unwrap()),
    })
}
