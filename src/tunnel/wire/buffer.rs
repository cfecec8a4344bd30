//! Buffers for TLS records. Those of full size belong to the thread; a connection borrows one for its turn. What
//! has to wait beyond that is kept in a buffer of its own size, and a quiet connection has none.

use std::cell::RefCell;

/// What a buffer of the thread holds: a read, or the records of 64 KiB.
pub(super) const SIZE: usize = 80 * 1024;
/// How many of them a thread keeps for the next turn.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn borrow() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

fn give_back(bytes: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if bytes.len() == SIZE && spare.len() < KEPT {
            spare.push(bytes);
        }
    });
}

/// Bytes that go in behind and come out in front.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    at: usize,
    end: usize,
}

impl Buffer {
    pub(super) const fn len(&self) -> usize {
        self.end - self.at
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.at..self.end]
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at..self.end]
    }

    /// Room behind for at least so many bytes; [`Buffer::add`] says how many of it were used.
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < least {
            let length = self.len();
            if self.bytes.len() < SIZE.max(length + least) {
                let mut larger = match length + least {
                    ..=SIZE => borrow(),
                    more => vec![0; more].into_boxed_slice(),
                };
                larger[..length].copy_from_slice(self.filled());
                give_back(std::mem::replace(&mut self.bytes, larger));
            } else {
                self.bytes.copy_within(self.at..self.end, 0);
            }
            (self.at, self.end) = (0, length);
        }
        &mut self.bytes[self.end..]
    }

    pub(super) fn add(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Drops so many bytes in front.
    pub(super) fn consume(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.end);
    }

    /// Puts bytes that wait behind those that wait already.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            *self = Self { bytes: bytes.into(), at: 0, end: bytes.len() };
        } else {
            self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.add(bytes.len());
        }
    }

    /// Gives the memory back if nothing is in it.
    pub(super) fn release(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            give_back(std::mem::take(self).bytes);
        }
    }

    /// Gives the thread's buffer back; what is in it will wait.
    pub(super) fn settle(&mut self) {
        if self.is_empty() {
            self.release();
        } else if self.bytes.len() == SIZE {
            let waits = Self { bytes: self.filled().into(), at: 0, end: self.len() };
            give_back(std::mem::replace(self, waits).bytes);
        }
    }

    /// How much memory it holds.
    #[cfg(test)]
    pub(super) const fn held(&self) -> usize {
        self.bytes.len()
    }
}
