//! The two questions that a browser asks a media endpoint, and what counts as an answer: STUN's
//! Binding (RFC 8489) and TURN's Allocate (RFC 8656). No I/O.
//!
//! An Allocate without credentials is refused with 401; that proves the path in both directions as
//! well as a success does. Whether an endpoint answers a Binding, too, is its own affair.

use std::fmt;

use stun_types::attribute::{AttributeFromRaw, AttributeStaticType, AttributeType, ErrorCode, RawAttribute};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageHeader, MessageType, MessageWrite, MessageWriteExt,
    MessageWriteVec, Method, TransactionId,
};

/// The longest answer that is read, in bytes: more than paths carry in one piece.
pub const LONGEST: usize = 1500;

/// TURN's method Allocate (RFC 8656 section 17).
const ALLOCATE: Method = Method::new(3);
/// REQUESTED-TRANSPORT (RFC 8656 section 18.7): a protocol's number, and three reserved bytes.
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Binding,
    Allocate,
}

impl Ask {
    const fn method(self) -> Method {
        match self {
            Self::Binding => BINDING,
            Self::Allocate => ALLOCATE,
        }
    }
}

/// One request as sent once. Each packet has a transaction of its own, so that an answer tells which
/// of them came through, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub ask: Ask,
    transaction: TransactionId,
}

impl Request {
    /// With a random transaction id: who isn't on the path can't answer it.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        Self::with_id(ask, TransactionId::generate().into())
    }

    /// With the low 96 bits of `id`.
    #[must_use]
    pub fn with_id(ask: Ask, id: u128) -> Self {
        Self { ask, transaction: id.into() }
    }

    /// The bytes to send.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, self.ask.method());
        let mut message = Message::builder(kind, self.transaction, MessageWriteVec::new());
        if self.ask == Ask::Allocate {
            let udp = RawAttribute::new(REQUESTED_TRANSPORT, &UDP);
            message.add_attribute(&udp).expect("the first attribute of a message has room");
        }
        message.finish()
    }
}

/// What an endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub to: Ask,
    /// The number of an error response, 300 to 699; none for a success.
    pub error: Option<u16>,
}

/// As it stands behind "answered".
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to, self.error) {
            (Ask::Binding, None) => f.write_str("a STUN Binding"),
            (Ask::Allocate, None) => f.write_str("a TURN Allocate"),
            (Ask::Binding, Some(code)) => write!(f, "a STUN Binding with {code}"),
            (Ask::Allocate, Some(401)) => {
                f.write_str("a TURN Allocate with 401, as expected without a login")
            }
            (Ask::Allocate, Some(code)) => write!(f, "a TURN Allocate with {code}"),
        }
    }
}

/// Reads a datagram as an answer to one of `requests`; returns which, and what it says. None for what
/// answers none of them, is malformed, or is longer than [`LONGEST`].
#[must_use]
pub fn read(bytes: &[u8], requests: &[Request]) -> Option<(usize, Answer)> {
    if bytes.len() > LONGEST {
        return None;
    }
    // The id first: what wasn't asked for is not read any further.
    let header = MessageHeader::from_bytes(bytes).ok()?;
    let kind = header.get_type();
    let fits = |request: &Request| {
        header.transaction_id() == request.transaction && kind.method() == request.ask.method()
    };
    let which = requests.iter().position(fits)?;
    // Exactly one message, in whole words (RFC 8489 section 5).
    if usize::from(header.data_length()) + MessageHeader::LENGTH != bytes.len()
        || !bytes.len().is_multiple_of(4)
    {
        return None;
    }
    let message = Message::from_bytes(bytes).ok()?;
    let error = match kind.class() {
        MessageClass::Success => None,
        MessageClass::Error => {
            let raw = message.raw_attribute(ErrorCode::TYPE)?;
            Some(ErrorCode::from_raw_ref(&raw).ok()?.code())
        }
        MessageClass::Request | MessageClass::Indication => return None,
    };
    Some((which, Answer { to: requests[which].ask, error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x0102_0304_0506_0708_090a_0b0c;

    fn both() -> [Request; 2] {
        [Request::with_id(Ask::Binding, ID), Request::with_id(Ask::Allocate, ID + 1)]
    }

    fn message(kind: u16, id: u128, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((attributes.len() as u16).to_be_bytes());
        bytes.extend(0x2112_a442_u32.to_be_bytes());
        bytes.extend(&id.to_be_bytes()[4..]);
        bytes.extend(attributes);
        bytes
    }

    /// ERROR-CODE, its reason cut to whole words.
    fn error(code: u16, reason: &str) -> Vec<u8> {
        let mut bytes = vec![0, 9, 0, 4 + reason.len() as u8, 0, 0, (code / 100) as u8, (code % 100) as u8];
        bytes.extend(reason.as_bytes());
        bytes
    }

    #[test]
    fn requests_are_what_the_standards_print() {
        let [binding, allocate] = both();
        assert_eq!(binding.packet(), message(0x0001, ID, &[]));
        assert_eq!(allocate.packet(), message(0x0003, ID + 1, &[0, 0x19, 0, 4, 17, 0, 0, 0]));
        assert_ne!(Request::new(Ask::Binding), Request::new(Ask::Binding));
    }

    #[test]
    fn successes_and_errors_answer_what_was_asked() {
        // REALM "AWS!" and NONCE "once", as a TURN server adds them.
        let mut unauthorized = error(401, "Unauthorized");
        unauthorized.extend([0, 0x14, 0, 4]);
        unauthorized.extend(b"AWS!\0\x15\0\x04once");
        let mapped = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let answers = [
            (message(0x0101, ID, &mapped), 0, None),
            (message(0x0101, ID, &[]), 0, None),
            (message(0x0111, ID, &error(420, "")), 0, Some(420)),
            (message(0x0113, ID + 1, &unauthorized), 1, Some(401)),
            (message(0x0113, ID + 1, &error(438, "Stale Nonce.")), 1, Some(438)),
            (message(0x0103, ID + 1, &[]), 1, None),
        ];
        for (bytes, which, error) in answers {
            let to = both()[which].ask;
            assert_eq!(read(&bytes, &both()), Some((which, Answer { to, error })), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let good = message(0x0101, ID, &[]);
        let mut long = message(0x0101, ID, &[0x80, 0x22, 5, 0xd4]);
        long.resize(LONGEST + 4, b'x');
        let mut cookie = good.clone();
        cookie[4] ^= 1;
        let wrong = [
            Vec::new(),
            b"HTTP/1.1 200 OK\r\n\r\n....".to_vec(),
            good[..19].to_vec(),
            [good.clone(), vec![0]].concat(),
            [good.clone(), vec![0; 4]].concat(),
            cookie,
            // Somebody else's, or the other method's.
            message(0x0101, ID + 2, &[]),
            message(0x0103, ID, &[]),
            // The request itself, sent back; an indication.
            message(0x0001, ID, &[]),
            message(0x0011, ID, &[]),
            // Errors without a number, or with one that isn't.
            message(0x0111, ID, &[]),
            message(0x0111, ID, &[0, 9, 0, 4, 0, 0, 9, 1]),
            message(0x0111, ID, &[0, 9, 0, 4, 0, 0, 4, 200]),
            // Attributes beyond the end; a fingerprint that isn't.
            message(0x0101, ID, &[0, 0x20, 0, 200]),
            message(0x0101, ID, &[0x80, 0x28, 0, 4, 1, 2, 3, 4]),
            long,
        ];
        for bytes in wrong {
            assert_eq!(read(&bytes, &both()), None, "{bytes:x?}");
        }
        assert_eq!(read(&good, &[]), None);
    }
}
