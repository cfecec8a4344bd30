//! Hosts that were denied because no rule has them, and what they say about the configuration. A
//! bounded number: what many clients ask for stays, what one client makes up goes.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{LOOK_BACK, Lack, Second};
use crate::catalogue::{Choice, Elsewhere, find_elsewhere_given};
use crate::policy::{Category, Protocol};

/// Hosts that are remembered.
const SLOTS: usize = 512;
/// Things that the configuration lacks, likewise.
const NEEDS: usize = 64;
/// Hosts that are passed over for one that is forgotten instead.
const PASSED: usize = 16;
/// From so many requests on a host of one client is looked up.
const WORTH: u32 = 3;
/// Look-ups in the catalogue at a time: each reads all of it. What the policy says is found at once.
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
    needs: Vec<Need>,
    next_need: u32,
    /// Reloads so far.
    reloads: u32,
    /// How many of them there were when all hosts were last asked about.
    asked: u32,
}

/// What the configuration lacks, whatever hosts tell of it. Its number is never given to another one.
struct Need {
    number: u32,
    category: Option<Category>,
    what: String,
    agent_sees: &'static str,
}

struct Slot {
    number: u32,
    host: Box<str>,
    first_client: IpAddr,
    /// More than one client asked.
    many: bool,
    last: Second,
    count: u32,
    /// What is known of it, once it was looked up, and after how many reloads that was. What was known
    /// before a reload holds until it is looked up again: most reloads change nothing of it.
    known: Option<(Meaning, u32)>,
}

/// What a denied host is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It belongs to what agents use and the configuration lacks: the number of the need.
    Need(u32),
    /// It is a host without a rule: nothing has it, or the catalogue has others like it. The category is that of
    /// its endpoint, where not anybody can have such a name.
    Host(Option<Category>),
    /// A browser's own traffic.
    Noise,
    /// The configuration in force says what becomes of it.
    Settled,
}

/// Hosts that something is to be found out about.
pub struct Questions {
    reloads: u32,
    /// With their numbers, and whether they are to be looked up in the catalogue.
    hosts: Vec<(u32, Box<str>, bool)>,
}

/// What was found out about them.
pub struct Answers {
    reloads: u32,
    hosts: Vec<(u32, Box<str>, Answer)>,
}

enum Answer {
    /// The configuration says what becomes of it.
    Settled,
    /// No rule has it; where the catalogue does.
    Lacks(Option<Elsewhere>),
}

impl Questions {
    /// Asks the configuration in force: `lacks` says whether it refuses a host for want of a rule.
    #[must_use]
    pub fn answer(self, choice: &Choice, lacks: impl Fn(&str) -> bool) -> Answers {
        let answer = |(number, host, look_up): (u32, Box<str>, bool)| {
            let answer = match lacks(&host) {
                false => Answer::Settled,
                true if look_up => Answer::Lacks(find_elsewhere_given(&host, choice)),
                true => return None,
            };
            Some((number, host, answer))
        };
        Answers { reloads: self.reloads, hosts: self.hosts.into_iter().filter_map(answer).collect() }
    }
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

    /// The configuration has changed: what it lacks is asked anew.
    pub fn reloaded(&mut self) {
        self.reloads = self.reloads.wrapping_add(1);
    }

    /// What is to be asked about hosts. The configuration that is asked must be read after this: it is then that
    /// of the last reload, or a later one.
    pub fn ask(&mut self) -> Questions {
        let all = std::mem::replace(&mut self.asked, self.reloads) != self.reloads;
        let mut hosts = Vec::new();
        let mut left = LOOK_UPS;
        for slot in &self.slots {
            let is_fresh = slot.known.is_some_and(|(_, as_of)| as_of == self.reloads);
            let look_up = left > 0 && !is_fresh && (slot.many || slot.count >= WORTH);
            left -= usize::from(look_up);
            if look_up || all {
                hosts.push((slot.number, slot.host.clone(), look_up));
            }
        }
        Questions { reloads: self.reloads, hosts }
    }

    /// Takes in what is the case with hosts; nothing where a reload came in between: all is asked anew then.
    pub fn learn(&mut self, answers: Answers) {
        if answers.reloads != self.reloads {
            return;
        }
        for (number, host, answer) in answers.hosts {
            let Some(at) = self.by_host.get(&host).copied().filter(|at| self.slots[*at].number == number)
            else {
                continue;
            };
            let meaning = match answer {
                Answer::Settled => Meaning::Settled,
                Answer::Lacks(elsewhere) => self.meaning(at, elsewhere),
            };
            self.slots[at].known = Some((meaning, answers.reloads));
        }
    }

    fn meaning(&mut self, at: usize, elsewhere: Option<Elsewhere>) -> Meaning {
        let host = &*self.slots[at].host;
        let own =
            |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let Some(found) = elsewhere.filter(|found| found.protocol == Protocol::Tcp) else {
            return if BROWSERS_OWN.iter().any(|name| own(name)) {
                Meaning::Noise
            } else {
                Meaning::Host(None)
            };
        };
        if found.anybodys {
            return Meaning::Host(None);
        }
        let category = Some(found.category);
        // What AWS gave up, or has narrower names for, is not missed by those who have those.
        let telling = ["connect.regions", "connect.instances", "connect.features", "connect.signin"];
        if !telling.contains(&found.key) {
            return Meaning::Host(category);
        }
        let words: Vec<String> =
            found.needs.iter().map(|need| format!("{:?} in {}", need.value, need.key)).collect();
        match self.need_for(category, words.join(" and "), found.agent_sees) {
            Some(number) => Meaning::Need(number),
            None => Meaning::Host(category),
        }
    }

    /// The number of a need, a new one where it isn't known; none where there are too many.
    fn need_for(
        &mut self,
        category: Option<Category>,
        what: String,
        agent_sees: &'static str,
    ) -> Option<u32> {
        let same = |need: &&Need| need.category == category && need.what == what;
        if let Some(known) = self.needs.iter().find(same) {
            return Some(known.number);
        }
        if self.needs.len() == NEEDS {
            let slots = &self.slots;
            self.needs.retain(|need| slots.iter().any(|slot| slot.tells_of(need.number)));
        }
        if self.needs.len() == NEEDS {
            return None;
        }
        self.next_need = self.next_need.wrapping_add(1);
        self.needs.push(Need { number: self.next_need, category, what, agent_sees });
        Some(self.next_need)
    }

    /// What each number that is remembered stands for, where that was looked up.
    pub fn meanings(&self) -> HashMap<u32, Says, RandomState> {
        let says = |slot: &Slot| {
            let says = match slot.known?.0 {
                Meaning::Need(number) => Says::Need { number, category: self.need(number)?.category },
                Meaning::Host(category) => Says::Host { category },
                Meaning::Noise | Meaning::Settled => return None,
            };
            Some((slot.number, says))
        };
        self.slots.iter().filter_map(says).collect()
    }

    fn need(&self, number: u32) -> Option<&Need> {
        self.needs.iter().find(|need| need.number == number)
    }

    /// What a need is, in words.
    pub fn lack(&self, need: u32) -> Option<Lack> {
        let Need { what, agent_sees, .. } = self.need(need)?;
        Some(Lack::Known { what: what.clone(), agent_sees })
    }

    /// A few of the hosts that a need is known by.
    pub fn hosts_of(&self, need: u32, most: usize) -> Vec<String> {
        let of = self.slots.iter().filter(|slot| slot.tells_of(need));
        let mut hosts: Vec<String> = of.map(|slot| slot.host.to_string()).collect();
        hosts.sort_unstable();
        hosts.truncate(most);
        hosts
    }

    /// The name of a host that is remembered.
    pub fn host(&self, number: u32) -> Option<&str> {
        self.slots.iter().find(|slot| slot.number == number).map(|slot| &*slot.host)
    }
}

impl Slot {
    fn tells_of(&self, need: u32) -> bool {
        self.known.is_some_and(|(meaning, _)| meaning == Meaning::Need(need))
    }
}
