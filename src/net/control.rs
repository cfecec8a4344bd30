//! A Unix socket that only this user may speak to: a question is one line of JSON, an answer a length and
//! as many bytes. Listening sockets may travel beside an answer.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// No answer is larger; all of 100,000 tunnels have room in it.
pub(crate) const LARGEST: usize = 256 << 20;
/// Sockets that travel beside one answer; the kernel takes 253.
pub(crate) const MOST: usize = 64;

/// Whether the other end is a process of this user, or of root.
///
/// # Errors
/// When the kernel doesn't say.
pub(crate) fn is_ours(stream: impl AsFd) -> io::Result<bool> {
    let peer = socket_peercred(stream)?.uid;
    Ok(peer == geteuid() || peer.is_root())
}

/// Our end of a conversation. Every wait is bounded.
pub(crate) struct Line(UnixStream);

impl Line {
    /// # Errors
    /// When nobody listens there, or somebody else's process does, or one that accepts nothing.
    pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Set before: a connection waits for a place in the queue of a process that is stopped, and no longer than
        // a write may take.
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        let address = SocketAddrUnix::new(path)?;
        retry_on_intr(|| connect(&socket, &address))?;
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(patience))?;
        if !is_ours(&stream)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "another user's process listens there",
            ));
        }
        Ok(Self(stream))
    }

    /// # Errors
    /// When the other end doesn't take it in time.
    pub(crate) fn say(&mut self, question: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// The next answer, as bytes.
    ///
    /// # Errors
    /// When none comes whole in time.
    pub(crate) fn hear_bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.length()?;
        if length > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too large"));
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.0).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    /// The next answer, which holds secrets: it never moves in memory, and is erased when dropped. None for one
    /// that is too large; it is read away, so that the line goes on.
    ///
    /// # Errors
    /// When none comes whole in time.
    pub(crate) fn hear_secret(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let length = self.length()?;
        if length > LARGEST {
            let read = io::copy(&mut Read::by_ref(&mut self.0).take(length as u64), &mut io::sink())?;
            return if read < length as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.0.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        Ok(u32::from_be_bytes(length) as usize)
    }

    /// The next answer.
    ///
    /// # Errors
    /// As of [`Line::hear_bytes`], and when it isn't what was expected.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.hear_bytes()?)?)
    }

    /// The sockets that come before an answer; they travel with one byte.
    ///
    /// # Errors
    /// When none come in time.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let got = recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        Ok(rights.flatten().collect())
    }
}

/// What is said on such a socket, framed.
///
/// # Errors
/// When it can't be written as JSON.
pub(crate) fn framed(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(framed_bytes(&serde_json::to_vec(answer)?))
}

/// Bytes, framed.
pub(crate) fn framed_bytes(bytes: &[u8]) -> Vec<u8> {
    [&frame(bytes), bytes].concat()
}

/// What goes before these bytes. Secrets are sent behind it from where they are.
pub(crate) fn frame(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Sends sockets, with one byte that carries them. For a socket that takes it at once, as a fresh one does.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn send(stream: impl AsFd, sockets: &[&StdListener]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many listeners"));
    }
    sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_travel_and_go_on_listening() {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&one, &[&listener, &listener]).unwrap();
        drop(listener);
        let mut line = Line(other);
        let got = line.receive().unwrap();
        assert_eq!(got.len(), 2);
        let taken = StdListener::from(got.into_iter().next().unwrap());
        std::net::TcpStream::connect(address).unwrap();
        taken.accept().unwrap();
        drop(one);
        assert!(line.receive().is_err());
    }

    /// Of a process that is stopped, each question that was given up stays in the queue.
    #[test]
    fn a_queue_that_is_full_is_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let asked = |patience| {
            let path = path.clone();
            let (told, verdict) = std::sync::mpsc::channel();
            // On a thread of its own: one that waits for ever must fail here, too.
            std::thread::spawn(move || told.send(Line::connect(&path, patience).err()));
            verdict.recv_timeout(Duration::from_secs(15)).unwrap()
        };
        let first = Line::connect(&path, Duration::from_secs(10)).unwrap();
        let error = asked(Duration::from_millis(50)).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        listener.accept().unwrap();
        assert!(asked(Duration::from_secs(10)).is_none());
        drop(first);
    }

    #[test]
    fn answers_come_whole_or_not_at_all() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut line = Line(other);
        one.write_all(&framed(&"whole").unwrap()).unwrap();
        assert_eq!(line.hear::<String>().unwrap(), "whole");
        one.write_all(&framed_bytes(b"{")).unwrap();
        assert!(line.hear::<String>().is_err());
        one.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(line.hear_bytes().is_err());
        one.write_all(&[0, 0, 0, 9, 1]).unwrap();
        drop(one);
        assert!(line.hear_bytes().is_err());
    }

    #[test]
    fn a_secret_that_is_too_large_is_none_and_the_line_goes_on() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut line = Line(other);
        let says = std::thread::spawn(move || {
            one.write_all(&framed_bytes(b"secret")).unwrap();
            let (length, room) = (LARGEST + 1, vec![0; 1 << 20]);
            one.write_all(&u32::try_from(length).unwrap().to_be_bytes()).unwrap();
            for _ in 0..length / room.len() {
                one.write_all(&room).unwrap();
            }
            one.write_all(&room[..length % room.len()]).unwrap();
            one.write_all(&framed_bytes(b"and on")).unwrap();
            one.write_all(&[0, 0, 0, 9, 1]).unwrap();
        });
        assert_eq!(**line.hear_secret().unwrap().unwrap(), *b"secret");
        assert!(line.hear_secret().unwrap().is_none());
        assert_eq!(**line.hear_secret().unwrap().unwrap(), *b"and on");
        says.join().unwrap();
        assert!(line.hear_secret().is_err());
    }
}
