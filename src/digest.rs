//! What tells two texts apart: the beginning of their SHA-256.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};

/// The first bytes of a digest.
pub(crate) fn short<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut short = [0; N];
    short.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..N]);
    short
}

/// The same in hexadecimal digits.
pub(crate) fn short_hex<const N: usize>(bytes: &[u8]) -> String {
    HEXLOWER.encode(&short::<N>(bytes))
}

/// A style or script of a page, as a source of its Content-Security-Policy.
pub(crate) fn csp_source(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref()))
}
