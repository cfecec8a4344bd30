//! What is wrong now with the sources of the ranges and with their folder: each thing is logged once, with what
//! it leaves in force.

use crate::ranges::current::InForce;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    File,
    Url,
    State,
}

/// What is wrong with each part, in words; none where it is fine.
#[derive(Default)]
pub(super) struct Errors {
    file: Option<String>,
    url: Option<String>,
    state: Option<String>,
}

impl Errors {
    pub(super) fn fine(&mut self, part: Part) {
        *self.of(part) = None;
    }

    /// Says what is wrong when it is another thing than before.
    pub(super) fn wrong(&mut self, part: Part, why: String, in_force: &InForce) {
        let known = self.of(part);
        if known.as_ref() == Some(&why) {
            return;
        }
        let stays = match in_force.load() {
            Some(current) => format!("the version of {} stays in force", current.version.ranges.create_date),
            None => "no version is in force".to_owned(),
        };
        match part {
            Part::File | Part::Url => tracing::error!(event = "ranges_failed", "{why}; {stays}"),
            Part::State => tracing::error!(event = "ranges_state", "{why}; {stays}"),
        }
        *known = Some(why);
    }

    /// All of it, the sources first.
    pub(super) fn all(&self) -> Vec<String> {
        [&self.file, &self.url, &self.state].into_iter().flatten().cloned().collect()
    }

    fn of(&mut self, part: Part) -> &mut Option<String> {
        match part {
            Part::File => &mut self.file,
            Part::Url => &mut self.url,
            Part::State => &mut self.state,
        }
    }
}
