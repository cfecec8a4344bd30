//! The PAC file as it is served: its tables, which are the same for every client, are written and compressed
//! once for a configuration, and only the lines that name the proxies are made for a fetch.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::Answers;
use crate::digest::{short, short_hex};
use crate::policy::Policy;

/// So many bytes of a digest tell two files apart.
const TAG: usize = 12;
/// RFC 1952: the magic number, deflate, no flags, no time, no further hint, any system.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// All that follows the lines that name the proxies.
struct Tail {
    text: Bytes,
    /// The end of a deflate stream.
    deflated: Bytes,
    crc: Crc,
    digest: [u8; TAG],
}

/// The tails of a configuration's files, with one port for each proxy and with lanes. Each is made when it is
/// first asked for.
#[derive(Default)]
pub(crate) struct Tails([OnceLock<Tail>; 2]);

/// A PAC file.
pub(crate) struct File<'a> {
    head: String,
    tail: &'a Tail,
}

impl Tails {
    /// The file with these answers. The policy, and the hosts that are direct, are those of the first call.
    pub(crate) fn file(&self, policy: &Policy, answers: &Answers) -> File<'_> {
        let lanes = answers.has_lanes();
        let tail = self.0[usize::from(lanes)].get_or_init(|| Tail::new(super::tail(policy, answers, lanes)));
        File { head: super::head(answers), tail }
    }
}

impl Tail {
    fn new(text: String) -> Self {
        let mut crc = Crc::new();
        crc.update(text.as_bytes());
        let deflated = deflated(text.as_bytes(), FlushCompress::Finish).into();
        let digest = short(text.as_bytes());
        Self { text: text.into(), deflated, crc, digest }
    }
}

impl File<'_> {
    /// The file in parts that follow one another, of which the large one is shared by all who fetch it.
    pub(crate) fn parts(self, gzip: bool) -> Vec<Bytes> {
        if !gzip {
            return vec![self.head.into(), self.tail.text.clone()];
        }
        let mut start = GZIP.to_vec();
        start.extend(deflated(self.head.as_bytes(), FlushCompress::Full));
        let mut crc = Crc::new();
        crc.update(self.head.as_bytes());
        crc.combine(&self.tail.crc);
        let end = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        vec![start.into(), self.tail.deflated.clone(), end.into()]
    }

    /// The entity tag: the same for the same bytes, from whichever proxy they come.
    pub(crate) fn tag(&self, gzip: bool) -> String {
        let word = short_hex::<TAG>(&[self.head.as_bytes(), &self.tail.digest].concat());
        format!("\"{word}{}\"", if gzip { "-gzip" } else { "" })
    }
}

/// Compresses a part of a stream on its own, so that it ends on a whole byte and needs nothing before it.
fn deflated(bytes: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(bytes.len() / 4 + 64);
    loop {
        let taken = compress.total_in() as usize;
        // Compressing does not fail; without progress there would be no room, and there is.
        let _ = compress.compress_vec(&bytes[taken..], &mut out, flush);
        if compress.total_in() as usize == bytes.len() && out.len() < out.capacity() {
            return out;
        }
        out.reserve(out.capacity());
    }
}
