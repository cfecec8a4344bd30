//! One DNS message (RFC 1035 §4): the query as it is sent, and what an answer says. Only records of
//! the name that was asked for, and of the aliases that lead on from it, count. Nothing is sent here.
//!
//! Messages are read section by section, not as a whole: a broken record behind the answer is no
//! reason to do without the answer.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::Failure;

/// What an answer over UDP may hold (DNS flag day 2020): it passes without fragments.
const UDP_PAYLOAD: u16 = 1232;
/// Addresses of one family that are kept. `egress.connect_timeout` ends before more are dialled.
pub const MAX_ADDRESSES: usize = 16;
/// Aliases that are followed within one answer.
const MAX_ALIASES: usize = 16;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: records of type A.
    V4,
    /// IPv6: records of type AAAA.
    V6,
}

impl Family {
    const fn record(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

/// A name and the kind of its addresses.
#[derive(Clone, Debug)]
pub struct Question {
    /// Absolute.
    pub name: Name,
    /// IPv4 or IPv6.
    pub family: Family,
}

impl Question {
    /// None when DNS can't hold such a name.
    pub fn new(name: &str, family: Family) -> Option<Self> {
        let mut name = Name::from_ascii(name).ok()?;
        // Absolute: a search list must not widen the policy.
        name.set_fqdn(true);
        Some(Self { name, family })
    }

    /// The query, with the OPT record of EDNS (RFC 6891) or without.
    pub fn packet(&self, id: u16, edns: bool) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.family.record()));
        if edns {
            let mut opt = Edns::new();
            opt.set_max_payload(UDP_PAYLOAD);
            message.set_edns(opt);
        }
        // It fits in any buffer: one name of 255 bytes at most. An empty packet would get no answer.
        message.to_vec().unwrap_or_default()
    }

    fn is(&self, query: &Query) -> bool {
        query.name == self.name
            && query.query_type == self.family.record()
            && query.query_class == DNSClass::IN
    }
}

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(ResponseCode);

impl Rcode {
    /// As in the registry of DNS parameters; `OTHER` for what no stub resolver is ever sent.
    pub(crate) const fn name(self) -> &'static str {
        match self.0 {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::FormErr => "FORMERR",
            ResponseCode::ServFail => "SERVFAIL",
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::NotImp => "NOTIMP",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::NotAuth => "NOTAUTH",
            ResponseCode::BADVERS => "BADVERS",
            _ => "OTHER",
        }
    }

    /// With the upper bits that an OPT record adds (RFC 6891 §6.1.3).
    fn extended(self, high: u8) -> Self {
        match ResponseCode::from(high, self.0.low()) {
            _ if high == 0 => self,
            // Both are 16; signatures are not used here.
            ResponseCode::BADSIG => Self(ResponseCode::BADVERS),
            code => Self(code),
        }
    }

    const fn is_answer(self) -> bool {
        matches!(self.0, ResponseCode::NoError | ResponseCode::NXDomain)
    }
}

/// What a server says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its addresses, one at least, and for how many seconds they hold.
    Addresses(Vec<IpAddr>, u32),
    /// It has none of this family.
    Nothing {
        /// False for NXDOMAIN.
        exists: bool,
        /// In seconds (RFC 2308 §5).
        ttl: Option<u32>,
    },
    /// It is an alias of this name, of which the answer says nothing more; and the seconds that it holds.
    Alias(Name, u32),
    /// The server gives no usable answer.
    Failed(Failure),
}

/// An answer to a question.
#[derive(Debug)]
pub struct Reply {
    /// The id of the query that this answers.
    pub id: u16,
    /// This has an OPT record: the server knows EDNS.
    pub edns: bool,
    /// The server cut this to fit; TCP has the whole.
    pub truncated: bool,
    /// What this says, as far as it was sent.
    pub said: Said,
}

impl Reply {
    /// Whether a query without EDNS may fare better (RFC 6891 §7; older servers have their own codes).
    pub(crate) fn may_be_for_edns(&self) -> bool {
        use ResponseCode::{BADVERS, FormErr, NotImp};
        match &self.said {
            Said::Failed(Failure::Code(Rcode(FormErr | NotImp | BADVERS))) => true,
            Said::Failed(Failure::Code(_)) => !self.edns,
            _ => false,
        }
    }
}

/// Reads the answer to a question that was sent with one of these ids. None for everything else:
/// a late answer, somebody else's, a forged one, no DNS at all.
pub fn read(packet: &[u8], question: &Question, ids: &[u16]) -> Option<Reply> {
    let mut decoder = BinDecoder::new(packet);
    let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
    let ours = metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query
        && ids.contains(&metadata.id);
    if !ours {
        return None;
    }
    let code = Rcode(metadata.response_code);
    let reply = |said| Reply { id: metadata.id, edns: false, truncated: metadata.truncation, said };
    match counts.queries {
        // A server that doesn't understand a query may leave the question out, never one that does.
        0 if !code.is_answer() => return Some(reply(Said::Failed(Failure::Code(code)))),
        1 => {
            let query = Query::read(&mut decoder).ok()?;
            if !question.is(&query) {
                return None;
            }
        }
        _ => return None,
    }
    let records = Records::read(&mut decoder, counts.answers, question.family);
    // After a record that can't be read, nothing more can be found.
    let readable = if records.cut { None } else { authority(&mut decoder, counts.authorities) };
    let opt = readable.and_then(|_| opt(&mut decoder, counts.additionals));
    let soa = readable.flatten();
    let code = opt.map_or(code, |opt| code.extended((opt >> 24) as u8));
    let others = counts.additionals - u16::from(opt.is_some());
    let empty = counts.answers == 0 && others == 0 && soa.is_none();
    let said = if !code.is_answer() {
        Said::Failed(Failure::Code(code))
    } else if code.0 == ResponseCode::NXDomain {
        Said::Nothing { exists: false, ttl: soa }
    } else {
        match records.follow(&question.name) {
            said @ Said::Addresses(..) => said,
            _ if records.cut => Said::Failed(Failure::Unreadable),
            // As in glibc: an empty answer of a server that is neither an authority nor a resolver says
            // nothing.
            Said::Nothing { .. } if empty && !metadata.authoritative && !metadata.recursion_available => {
                Said::Failed(Failure::Lame)
            }
            // The zone at the end of the aliases states that there is none.
            Said::Nothing { .. } => Said::Nothing { exists: true, ttl: soa },
            Said::Alias(..) if soa.is_some() => Said::Nothing { exists: true, ttl: soa },
            said => said,
        }
    };
    Some(Reply { edns: opt.is_some(), ..reply(said) })
}

/// The answer section, as far as it matters.
#[derive(Default)]
struct Records {
    aliases: HashMap<Name, (Name, u32)>,
    addresses: Vec<(Name, IpAddr, u32)>,
    /// A record could not be read, so that what follows it can't be found.
    cut: bool,
}

impl Records {
    fn read(decoder: &mut BinDecoder<'_>, count: u16, family: Family) -> Self {
        let mut records = Self::default();
        for _ in 0..count {
            // Fewer records than the header says: we take what there is, as glibc does.
            if decoder.is_empty() {
                break;
            }
            let Ok(record) = Record::read(decoder) else {
                records.cut = true;
                break;
            };
            if record.dns_class != DNSClass::IN {
                continue;
            }
            let ttl = seconds(record.ttl);
            match (record.data, family) {
                (RData::A(a), Family::V4) => records.addresses.push((record.name, IpAddr::V4(a.0), ttl)),
                (RData::AAAA(a), Family::V6) => records.addresses.push((record.name, IpAddr::V6(a.0), ttl)),
                (RData::CNAME(to), _) => {
                    records.aliases.entry(record.name).or_insert((to.0, ttl));
                }
                _ => {}
            }
        }
        records
    }

    /// Follows the aliases of the name that was asked for, to the addresses at their end.
    fn follow(&self, from: &Name) -> Said {
        let (mut name, mut ttl) = (from, u32::MAX);
        for _ in 0..=MAX_ALIASES {
            let mut addresses = Vec::new();
            for (_, address, its) in self.addresses.iter().filter(|(owner, ..)| owner == name) {
                if addresses.len() < MAX_ADDRESSES && !addresses.contains(address) {
                    addresses.push(*address);
                    ttl = ttl.min(*its);
                }
            }
            if !addresses.is_empty() {
                return Said::Addresses(addresses, ttl);
            }
            match self.aliases.get(name) {
                Some((to, its)) => (name, ttl) = (to, ttl.min(*its)),
                None if name == from => return Said::Nothing { exists: true, ttl: None },
                None => return Said::Alias(name.clone(), ttl),
            }
        }
        Said::Failed(Failure::Circle)
    }
}

/// The negative TTL that the authority section has, if it has one; none when it can't be read.
fn authority(decoder: &mut BinDecoder<'_>, count: u16) -> Option<Option<u32>> {
    let mut found = None;
    for _ in 0..count {
        if decoder.is_empty() {
            break;
        }
        let record = Record::read(decoder).ok()?;
        if let RData::SOA(soa) = &record.data {
            found = found.or(Some(seconds(record.ttl).min(seconds(soa.minimum))));
        }
    }
    Some(found)
}

/// The TTL field of the OPT record, whose bytes are not a time: the first one extends the code.
fn opt(decoder: &mut BinDecoder<'_>, count: u16) -> Option<u32> {
    let mut records = (0..count).map_while(|_| Record::read(decoder).ok());
    records.find(|record: &Record| record.record_type() == RecordType::OPT).map(|record| record.ttl)
}

/// RFC 2181 §8: a TTL with the highest bit set is none.
const fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
