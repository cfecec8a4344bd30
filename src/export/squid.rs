//! A Squid configuration: the `acl` and `http_access` lines that tell which hosts it lets through.

mod rules;

use std::collections::HashSet;

use regex::bytes::RegexBuilder;

use super::shape::{Shape, name, shown};
use rules::{Acl, Line, Rules, bare, is_of_all, of_hosts};

/// Gives the text of a file that another one names.
type Open<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// How deep files may include one another.
const DEEPEST: usize = 8;

/// How many bytes of included files are read in all: a file that is included twice by each of a
/// chain of files would else be read a number of times that doubles with each.
const MOST_INCLUDED: usize = 64 << 20;

/// What an included file counts for beside its bytes.
const OF_A_FILE: usize = 64 << 10;

struct Reader<'a> {
    open: Open<'a>,
    /// In the order of the file; several of one name are one.
    acls: Vec<(String, Acl)>,
    access: Vec<Line>,
    remarks: Vec<String>,
    /// How many bytes may still be included.
    left: usize,
    /// How many entries may still follow.
    room: usize,
}

/// What a configuration says of hosts.
pub(super) struct Squid {
    /// As they stand there, and whether they keep out what they stand for; without what they stand for
    /// where they can't be read.
    pub entries: Vec<(String, Option<Shape>, bool)>,
    rules: Rules,
    /// What could not be read, one line each.
    pub remarks: Vec<String>,
}

impl Squid {
    /// What decides about a host, in lower case: whether it is let through.
    pub(super) fn into_judge(self) -> impl Fn(&str) -> bool {
        move |host| self.rules.lets(host)
    }
}

/// Reads a configuration; `open` is asked for files that it names, and `most` entries are taken.
pub(super) fn read(text: &str, open: Open<'_>, most: usize) -> Squid {
    let mut reader = Reader {
        open,
        acls: Vec::new(),
        access: Vec::new(),
        remarks: Vec::new(),
        left: MOST_INCLUDED,
        room: most,
    };
    reader.directives(text, 0);
    reader.remark_on_others();
    let mut entries = reader.entries();
    if reader.access.is_empty() {
        let whole = reader.whole().into_iter().map(|name| Line { allow: true, acls: vec![name.to_owned()] });
        reader.access = whole.collect();
    } else if entries.is_empty() {
        // A Squid as it is installed, or one with an acl that no line lets through: all of the list is lacking.
        reader.remark("no line of http_access lets agents through to any host".to_owned());
        entries.push(("http_access deny all".to_owned(), Some(Shape::Everything), true));
    }
    let Reader { acls, access, remarks, .. } = reader;
    Squid { entries, rules: Rules::new(acls, access), remarks }
}

impl Reader<'_> {
    /// In the order in which they decide.
    fn entries(&self) -> Vec<(String, Option<Shape>, bool)> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        let of_hosts = of_hosts(&self.acls);
        let is_domain = |name: &str| of_hosts.contains(bare(name));
        if self.access.is_empty() {
            self.tell(true, self.whole(), &mut seen, &mut all);
            return all;
        }
        // Of what every line for all may let through.
        let mut only = Vec::new();
        for line in &self.access {
            let Line { allow, acls: names } = line;
            let domains = names.iter().map(String::as_str).filter(|name| is_domain(name));
            let (excepted, listed): (Vec<&str>, Vec<&str>) = domains.partition(|name| name.starts_with('!'));
            let others = |name: &String| is_domain(name) || is_of_all(name);
            match (allow, &listed[..], &excepted[..]) {
                (true, ..) if line.is_for_all() => {
                    self.tell(true, excepted, &mut seen, &mut all);
                    if only.is_empty() {
                        let line = format!("http_access allow {}", names.join(" "));
                        all.push((line, Some(Shape::Everything), false));
                    }
                    self.tell(true, std::mem::take(&mut only), &mut seen, &mut all);
                }
                (true, ..) => self.tell(true, [listed, excepted].concat(), &mut seen, &mut all),
                (false, ..) if !names.iter().all(others) => {}
                (false, [], []) => break,
                // What isn't on the list is denied; what is may be let through further down.
                (false, [], _) => {
                    only = excepted.iter().map(|name| bare(name)).collect();
                    let line = format!("http_access deny {}", names.join(" "));
                    all.push((line, Some(Shape::Everything), true));
                }
                (false, _, []) => self.tell(false, listed, &mut seen, &mut all),
                (false, ..) => {}
            }
        }
        all
    }

    /// Says which lines let every host through for whom they fit: the clients of an acl, or those that have
    /// signed in. Whether agents are among them isn't known, so that such a line lists nothing.
    fn remark_on_others(&mut self) {
        let of_hosts = of_hosts(&self.acls);
        let open = |line: &&Line| {
            let named = |name: &String| of_hosts.contains(name.as_str());
            let own = |name: &String| matches!(name.as_str(), "localhost" | "manager");
            line.allow && !line.acls.iter().any(|name| named(name) || own(name)) && !line.is_for_all()
        };
        let lines = self.access.iter().filter(open).map(|line| shown(&line.acls.join(" ")));
        for line in lines.collect::<Vec<_>>() {
            self.remark(format!(
                "http_access allow {line}: it names no hosts to let through, so it isn't counted"
            ));
        }
    }

    /// Of a fragment without `http_access` what no other acl is made of counts.
    fn whole(&self) -> Vec<&str> {
        let parts = self
            .acls
            .iter()
            .flat_map(|(of, acl)| acl.parts().iter().map(|part| bare(part)).filter(move |part| part != of));
        let parts: HashSet<&str> = parts.collect();
        let names = || self.acls.iter().map(|(name, _)| name.as_str());
        let whole: Vec<&str> = names().filter(|name| !parts.contains(name)).collect();
        // Where all name one another.
        if whole.is_empty() { names().collect() } else { whole }
    }

    /// Adds what the named acls stand for, in front of it what they except: that isn't let through by an allow
    /// line, nor kept out by a deny line. What an earlier line named is decided.
    fn tell<'b>(
        &'b self,
        allow: bool,
        names: Vec<&'b str>,
        seen: &mut HashSet<&'b str>,
        all: &mut Vec<(String, Option<Shape>, bool)>,
    ) {
        let mut excepted = Vec::new();
        let listed = self.members(names, seen, &mut excepted);
        if allow {
            // What an exception excepts isn't let through by that.
            let denied = self.members(excepted, seen, &mut Vec::new());
            all.extend(denied.into_iter().map(|(text, shape)| (text.clone(), shape.clone(), true)));
        }
        all.extend(listed.into_iter().map(|(text, shape)| (text.clone(), shape.clone(), !allow)));
    }

    /// The entries that the named acls stand for, but for acls that were seen, and the names of those that they
    /// except.
    fn members<'b>(
        &'b self,
        names: Vec<&'b str>,
        seen: &mut HashSet<&'b str>,
        excepted: &mut Vec<&'b str>,
    ) -> Vec<&'b (String, Option<Shape>)> {
        let mut next: Vec<&str> = names.into_iter().rev().collect();
        let mut found = Vec::new();
        while let Some(name) = next.pop() {
            if let Some(name) = name.strip_prefix('!') {
                excepted.push(name);
                continue;
            }
            if !seen.insert(name) {
                continue;
            }
            for (_, acl) in self.acls.iter().filter(|(known, _)| known == name) {
                match acl {
                    Acl::Hosts(entries) => found.extend(entries),
                    of => next.extend(of.parts().iter().rev().map(String::as_str)),
                }
            }
        }
        found
    }

    /// The text of a file that the configuration names.
    fn included(&mut self, file: &str) -> Result<String, String> {
        let Some(left) = self.left.checked_sub(OF_A_FILE) else {
            return Err("too much is included, and the rest is left out".to_owned());
        };
        let text = (self.open)(file)?;
        self.left = left.saturating_sub(text.len());
        Ok(text)
    }

    fn directives(&mut self, text: &str, depth: usize) {
        let joined = text.replace("\\\n", " ");
        for line in joined.lines() {
            let words: Vec<&str> =
                line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
            match &words[..] {
                ["include", files @ ..] if depth < DEEPEST => {
                    for file in files.iter().map(|file| file.trim_matches('"')) {
                        match self.included(file) {
                            Ok(text) => self.directives(&text, depth + 1),
                            Err(why) => self.remark(format!("include {}: {why}", shown(file))),
                        }
                    }
                }
                ["include", files @ ..] => {
                    let files = shown(&files.join(" "));
                    self.remark(format!("include {files}: files include one another"));
                }
                ["acl", name, kind @ ("dstdomain" | "dstdom_regex"), rest @ ..] => {
                    let entries = self.hosts(name, kind, rest);
                    self.acls.push(((*name).to_owned(), Acl::Hosts(entries)));
                }
                ["acl", name, kind @ ("any-of" | "all-of"), rest @ ..] => {
                    let parts = rest.iter().map(|part| (*part).to_owned()).collect();
                    let acl = if *kind == "any-of" { Acl::AnyOf(parts) } else { Acl::AllOf(parts) };
                    self.acls.push(((*name).to_owned(), acl));
                }
                // Squid passes a line without acls over.
                ["http_access", verb @ ("allow" | "deny"), names @ ..] if !names.is_empty() => {
                    let acls = names.iter().map(|name| (*name).to_owned()).collect();
                    self.access.push(Line { allow: *verb == "allow", acls });
                }
                _ => {}
            }
        }
    }

    /// The entries of an acl line, and of the files that it names.
    fn hosts(&mut self, acl: &str, kind: &str, words: &[&str]) -> Vec<(String, Option<Shape>)> {
        let mut entries = Vec::new();
        let mut folded = false;
        for word in words {
            match word.strip_prefix('"') {
                _ if word.starts_with('-') => folded |= *word == "-i",
                Some(file) => {
                    let file = file.trim_matches('"');
                    match self.included(file) {
                        Ok(text) => entries.extend(
                            text.lines()
                                .map(|line| line.split('#').next().unwrap_or_default().trim())
                                .filter(|line| !line.is_empty())
                                .map(|line| (line.to_owned(), shape(kind, line, folded))),
                        ),
                        Err(why) => self.remark(format!("acl {}: {}: {why}", shown(acl), shown(file))),
                    }
                }
                None => entries.push(((*word).to_owned(), shape(kind, word, folded))),
            }
        }
        if entries.len() > self.room {
            entries.truncate(self.room);
            self.remark(format!("acl {}: no more entries are read, and the rest is left out", shown(acl)));
        }
        self.room -= entries.len();
        entries
    }

    /// Says once what can't be read.
    fn remark(&mut self, remark: String) {
        if self.remarks.last() != Some(&remark) {
            self.remarks.push(remark);
        }
    }
}

fn shape(kind: &str, text: &str, folded: bool) -> Option<Shape> {
    if kind == "dstdomain" {
        return match text.strip_prefix('.') {
            Some(from) => name(from).map(Shape::From),
            None => name(text).map(Shape::Host),
        };
    }
    // Hosts are ASCII; a bound keeps an expression from taking the memory.
    let regex = RegexBuilder::new(text).unicode(false).case_insensitive(folded).size_limit(1 << 20).build();
    regex.ok().map(Shape::Regex)
}
