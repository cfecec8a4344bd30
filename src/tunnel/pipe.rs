//! Pipes for splice(2), pooled by thread: a tunnel holds one only while bytes are in it, so idle
//! tunnels own two sockets and nothing else.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Splice pays through big pipes only: at 64 KiB it costs as much CPU as copying.
const PIPE_BYTES: usize = 1 << 20;
/// Empty pipes that a thread keeps. Pipe memory is capped per user (`fs.pipe-user-pages-soft`).
const POOLED: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in the pipe.
    pending: usize,
}

impl Pipe {
    /// An empty pipe, from the pool if it has one.
    ///
    /// # Errors
    /// When no descriptor is left; the caller copies instead.
    pub(crate) fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Past the user's soft limit the kernel refuses; a small pipe works as well, if slower.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self { reader, writer, pending: 0 })
    }

    /// Gives an empty pipe back; one with bytes in it is closed, for they belong to one tunnel.
    pub(crate) fn give_back(self) {
        if self.pending == 0 {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < POOLED {
                    pool.push(self);
                }
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Moves bytes from a socket into the pipe, which must be empty: else `WouldBlock` could mean
    /// that the pipe is full, and nothing would ever wake the tunnel. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has nothing; others as of recv(2).
    pub(crate) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        debug_assert!(self.is_empty());
        self.pending = splice(from, None, &self.writer, None, PIPE_BYTES, FLAGS)?;
        Ok(self.pending)
    }

    /// Moves bytes from the pipe to a socket; returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has no room; others as of send(2).
    pub(crate) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.reader, None, to, None, self.pending, FLAGS)?;
        self.pending -= moved;
        Ok(moved)
    }
}
