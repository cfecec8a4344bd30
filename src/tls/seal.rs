//! How a ticket is sealed and opened: bytes in, bytes out. Which key to use and whether the session
//! inside is still young enough is decided elsewhere.
//!
//! ```text
//! name (32) | salt (32) | AES-256-GCM( origin (8) | client_end (8) | session ) | tag (16)
//! ```
//!
//! Key and nonce of every ticket are derived by HKDF from the long key and the ticket's own random
//! salt, so no number of tickets wears a key out and replicas need not agree on nonces. The name
//! and the [`Context`] are authenticated with it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use zeroize::Zeroizing;

/// A ticket longer than this is neither made nor opened, which bounds the work that an unknown client can
/// cause. A session is about 150 bytes plus the client's certificate chain.
pub(super) const MAX_TICKET: usize = 16 * 1024;
pub(super) const NAME_LEN: usize = 32;
const SALT_LEN: usize = 32;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 16;
const LABEL: &[u8] = b"ccpgate ticket v1";

/// Public name of a ticket's key: of a key file, or of a session in the store.
pub(super) type Name = [u8; NAME_LEN];

/// A long key.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// What a session was authenticated under: which client CA was asked for, if any. A session
/// resumes only in the context it was made in, so turning `client_ca` on or changing it ends every
/// older session, in the store and in tickets alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context(pub(super) [u8; 32]);

impl Context {
    /// No client certificate is asked for.
    pub(crate) const ANONYMOUS: Self = Self([0; 32]);
}

/// What is inside a ticket.
pub(super) struct Session {
    /// Time of the first full handshake, seconds since the epoch.
    pub(super) origin: u64,
    /// First second at which the client's certificate is no longer valid, since the epoch; `u64::MAX`
    /// without one.
    pub(super) client_end: u64,
    /// The session as rustls encoded it.
    pub(super) plain: Zeroizing<Vec<u8>>,
}

/// Random bytes; `None` if the generator fails.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// The name of the key that sealed this ticket; `None` for what can't be one of ours.
pub(super) fn name(ticket: &[u8]) -> Option<Name> {
    let shortest = NAME_LEN + SALT_LEN + HEADER_LEN + TAG_LEN;
    if !(shortest..=MAX_TICKET).contains(&ticket.len()) {
        return None;
    }
    ticket.first_chunk().copied()
}

/// Seals one session; `None` if it is too long or the generator fails.
pub(super) fn seal(
    name: &Name,
    key: &Key,
    context: &Context,
    origin: u64,
    client_end: u64,
    plain: &[u8],
) -> Option<Vec<u8>> {
    let len = NAME_LEN + SALT_LEN + HEADER_LEN + plain.len() + TAG_LEN;
    if len > MAX_TICKET {
        return None;
    }
    let salt: [u8; SALT_LEN] = random()?;
    let (sealing, nonce) = derive(key, &salt)?;
    // Exactly as long as needed: growing would leave copies of the secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN));
    body.extend_from_slice(&origin.to_be_bytes());
    body.extend_from_slice(&client_end.to_be_bytes());
    body.extend_from_slice(plain);
    sealing.seal_in_place_append_tag(nonce, associated(name, context), &mut *body).ok()?;

    let mut ticket = Vec::with_capacity(len);
    ticket.extend_from_slice(name);
    ticket.extend_from_slice(&salt);
    ticket.extend_from_slice(&body);
    Some(ticket)
}

/// Opens a ticket under the key its [`name`] points to; `None` if anything in it was changed or
/// the context is another one.
pub(super) fn open(key: &Key, context: &Context, ticket: &[u8]) -> Option<Session> {
    let name = name(ticket)?;
    let (salt, sealed) = ticket.get(NAME_LEN..)?.split_first_chunk::<SALT_LEN>()?;
    let (opening, nonce) = derive(key, salt)?;
    let mut body = Zeroizing::new(sealed.to_vec());
    let opened = opening.open_in_place(nonce, associated(&name, context), &mut body).ok()?;
    let (origin, rest) = opened.split_first_chunk::<8>()?;
    let (client_end, plain) = rest.split_first_chunk::<8>()?;
    Some(Session {
        origin: u64::from_be_bytes(*origin),
        client_end: u64::from_be_bytes(*client_end),
        plain: Zeroizing::new(plain.to_vec()),
    })
}

fn associated(name: &Name, context: &Context) -> Aad<[u8; 64]> {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(name);
    bytes[32..].copy_from_slice(&context.0);
    Aad::from(bytes)
}

fn derive(key: &Key, salt: &[u8; SALT_LEN]) -> Option<(LessSafeKey, Nonce)> {
    struct KeyAndNonce;
    impl hkdf::KeyType for KeyAndNonce {
        fn len(&self) -> usize {
            32 + 12
        }
    }
    let mut okm = Zeroizing::new([0; 44]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(&**key)
        .expand(&[LABEL], KeyAndNonce)
        .ok()?
        .fill(&mut *okm)
        .ok()?;
    let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &okm[..32]).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(&okm[32..]).ok()?;
    Some((sealing, nonce))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn a_ticket_opens_under_its_key_and_context_alone() {
        let here = Context([1; 32]);
        let ticket = seal(&[7; 32], &key(1), &here, 1000, u64::MAX, b"session").unwrap();
        let session = open(&key(1), &here, &ticket).unwrap();
        assert_eq!(session.origin, 1000);
        assert_eq!(session.client_end, u64::MAX);
        assert_eq!(session.plain.as_slice(), b"session");
        assert!(open(&key(2), &here, &ticket).is_none());
        assert!(open(&key(1), &Context::ANONYMOUS, &ticket).is_none());
    }

    #[test]
    fn the_same_session_never_looks_the_same_twice() {
        let make = || seal(&[7; 32], &key(1), &Context::ANONYMOUS, 1, 2, b"x").unwrap();
        assert_ne!(make()[NAME_LEN..], make()[NAME_LEN..]);
    }

    #[test]
    fn length_is_bounded_both_ways() {
        let long = vec![0; MAX_TICKET];
        assert!(seal(&[7; 32], &key(1), &Context::ANONYMOUS, 1, 2, &long).is_none());
        let fits = vec![0; MAX_TICKET - NAME_LEN - SALT_LEN - HEADER_LEN - TAG_LEN];
        let ticket = seal(&[7; 32], &key(1), &Context::ANONYMOUS, 1, 2, &fits).unwrap();
        assert!(open(&key(1), &Context::ANONYMOUS, &ticket).is_some());
        assert!(name(&vec![0; MAX_TICKET + 1]).is_none());
        assert!(name(&[0; 95]).is_none());
    }

    proptest! {
        #[test]
        fn junk_never_opens_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&key(1), &Context::ANONYMOUS, &bytes).is_none());
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..8 * 103) {
            let mut ticket = seal(&[7; 32], &key(1), &Context::ANONYMOUS, 5, 6, b"session").unwrap();
            ticket[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&key(1), &Context::ANONYMOUS, &ticket).is_none());
        }
    }
}
