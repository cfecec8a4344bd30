//! Hosts that were denied because no rule has them, and what they say about the configuration. A
//! bounded number: what many clients ask for stays, what one client makes up goes.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{LOOK_BACK, Lack, Second};
use crate::catalogue::Elsewhere;
use crate::policy::{Category, Protocol};

/// Hosts that are remembered.
const SLOTS: usize = 512;
/// Things that the configuration lacks, likewise.
const NEEDS: usize = 64;
/// Hosts that are passed over for one that is forgotten instead.
const PASSED: usize = 16;
/// From so many requests on a host of one client is looked up.
const WORTH: u32 = 3;
/// Look-ups in the catalogue at a time: each reads all of it.
const LOOK_UPS: usize = 8;

/// What browsers ask for by themselves, whatever their user does. Agents' panels need none of it;
/// where a proxy is set without a PAC file, all of it comes here and is rightly denied.
const BROWSERS_OWN: &[&str] = &[
    "google.com",
    "googleapis.com",
    "gstatic.com",
    "gvt1.com",
    "gvt2.com",
    "googleusercontent.com",
    "microsoft.com",
    "msftconnecttest.com",
    "msn.com",
    "bing.com",
    "bing.net",
    "msedge.net",
    "windows.com",
    "windowsupdate.com",
    "office.com",
    "office.net",
    "live.com",
    "skype.com",
    "digicert.com",
    "mozilla.com",
    "mozilla.net",
    "mozilla.org",
    "firefox.com",
    "apple.com",
    "icloud.com",
];

/// Denied hosts.
#[derive(Default)]
pub struct Unlisted {
    slots: Vec<Slot>,
    by_host: HashMap<Box<str>, usize, RandomState>,
    /// The next slot that may be given away.
    hand: usize,
    next: u32,
    needs: Vec<(Option<Category>, String, &'static str)>,
}

struct Slot {
    number: u32,
    host: Box<str>,
    first_client: IpAddr,
    /// More than one client asked.
    many: bool,
    last: Second,
    count: u32,
    /// What the catalogue says of it, once it was asked.
    known: Option<Meaning>,
}

/// What a denied host is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It belongs to what agents use and the configuration lacks: the number of the need.
    Need(usize),
    /// The catalogue has it, or others like it, but anybody can have such a name.
    Host(Option<Category>),
    /// A browser's own traffic.
    Noise,
}

/// How a denied host is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These belong together, however many hosts they are.
    Need {
        number: u32,
        category: Option<Category>,
    },
    Host {
        category: Option<Category>,
    },
}

impl Unlisted {
    /// A client was denied a host. The number stands for the host for as long as it is remembered.
    pub fn denied(&mut self, now: Second, client: IpAddr, host: &str) -> u32 {
        if let Some(at) = self.by_host.get(host) {
            let slot = &mut self.slots[*at];
            slot.last = now;
            slot.count = slot.count.saturating_add(1);
            slot.many |= slot.first_client != client;
            return slot.number;
        }
        self.next = self.next.wrapping_add(1);
        let host: Box<str> = host.into();
        let slot = Slot {
            number: self.next,
            host: host.clone(),
            first_client: client,
            many: false,
            last: now,
            count: 1,
            known: None,
        };
        let at = if self.slots.len() < SLOTS {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let at = self.victim(now);
            self.by_host.remove(&self.slots[at].host);
            self.slots[at] = slot;
            at
        };
        self.by_host.insert(host, at);
        self.next
    }

    /// The first slot from the hand on that one client alone asked for, or nobody lately.
    fn victim(&mut self, now: Second) -> usize {
        for _ in 0..PASSED {
            let at = self.hand;
            self.hand = (self.hand + 1) % SLOTS;
            let slot = &self.slots[at];
            if !slot.many || now.saturating_sub(slot.last) >= LOOK_BACK {
                return at;
            }
        }
        let at = self.hand;
        self.hand = (self.hand + 1) % SLOTS;
        at
    }

    /// Hosts that are worth to be looked up in the catalogue, a few at a time, with their numbers.
    pub fn unknown(&self) -> Vec<(u32, Box<str>)> {
        let worth = |slot: &&Slot| slot.known.is_none() && (slot.many || slot.count >= WORTH);
        self.slots.iter().filter(worth).take(LOOK_UPS).map(|slot| (slot.number, slot.host.clone())).collect()
    }

    /// What the catalogue says of a host, under the choice in force.
    pub fn learn(&mut self, number: u32, elsewhere: Option<Elsewhere>) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { return };
        slot.known = Some(meaning(&slot.host, elsewhere, &mut self.needs));
    }

    /// The configuration has changed: what it lacks is asked anew.
    pub fn forget_meanings(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.known = None);
        self.needs.clear();
    }

    /// What each number that is remembered stands for, where that was looked up.
    pub fn meanings(&self) -> HashMap<u32, Says, RandomState> {
        let says = |slot: &Slot| {
            let says = match slot.known? {
                Meaning::Need(at) => Says::Need { number: at as u32, category: self.needs[at].0 },
                Meaning::Host(category) => Says::Host { category },
                Meaning::Noise => return None,
            };
            Some((slot.number, says))
        };
        self.slots.iter().filter_map(says).collect()
    }

    /// What a need is, in words.
    pub fn need(&self, number: u32) -> Option<Lack> {
        let (_, what, agent_sees) = self.needs.get(number as usize)?;
        Some(Lack::Known { what: what.clone(), agent_sees })
    }

    /// A few of the hosts that a need is known by.
    pub fn hosts_of(&self, need: u32, most: usize) -> Vec<String> {
        let of = |slot: &&Slot| slot.known == Some(Meaning::Need(need as usize));
        let mut hosts: Vec<String> = self.slots.iter().filter(of).map(|slot| slot.host.to_string()).collect();
        hosts.sort_unstable();
        hosts.truncate(most);
        hosts
    }

    /// The name of a host that is remembered.
    pub fn host(&self, number: u32) -> Option<&str> {
        self.slots.iter().find(|slot| slot.number == number).map(|slot| &*slot.host)
    }
}

fn meaning(
    host: &str,
    elsewhere: Option<Elsewhere>,
    needs: &mut Vec<(Option<Category>, String, &'static str)>,
) -> Meaning {
    let own = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let Some(found) = elsewhere.filter(|found| found.protocol == Protocol::Tcp) else {
        return if BROWSERS_OWN.iter().any(|name| own(name)) { Meaning::Noise } else { Meaning::Host(None) };
    };
    let category = Some(found.category);
    // Buckets, distributions and what AWS gave up may be anybody's.
    let telling = ["connect.regions", "connect.instances", "connect.features", "connect.signin"];
    if !telling.contains(&found.key) {
        return Meaning::Host(category);
    }
    let words: Vec<String> =
        found.needs.iter().map(|need| format!("{:?} in {}", need.value, need.key)).collect();
    let need = (category, words.join(" and "), found.agent_sees);
    let at = match needs.iter().position(|known| (known.0, &known.1) == (need.0, &need.1)) {
        Some(at) => at,
        None if needs.len() < NEEDS => {
            needs.push(need);
            needs.len() - 1
        }
        None => return Meaning::Host(category),
    };
    Meaning::Need(at)
}
