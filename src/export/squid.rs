//! A Squid configuration: the `acl` and `http_access` lines that tell which hosts it lets through.

use std::collections::HashSet;

use regex::bytes::RegexBuilder;

use super::shape::{Shape, name, shown};

/// Gives the text of a file that another one names.
type Open<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// How deep files may include one another.
const DEEPEST: usize = 8;

/// How many bytes of included files are read in all: a file that is included twice by each of a
/// chain of files would else be read a number of times that doubles with each.
const MOST_INCLUDED: usize = 64 << 20;

/// What an included file counts for beside its bytes.
const OF_A_FILE: usize = 64 << 10;

enum Acl {
    Hosts(Vec<(String, Option<Shape>)>),
    /// Names of others, which stand for it, and with a `!` before them of those that don't.
    Of(Vec<String>),
}

impl Acl {
    /// The names of the acls that it is made of.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let parts: &[String] = if let Self::Of(parts) = self { parts } else { &[] };
        parts.iter().map(|part| part.trim_start_matches('!'))
    }
}

struct Reader<'a> {
    open: Open<'a>,
    /// In the order of the file; several of one name are one.
    acls: Vec<(String, Acl)>,
    /// Whether a line allows, and its acls.
    access: Vec<(bool, Vec<String>)>,
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
    /// What could not be read, one line each.
    pub remarks: Vec<String>,
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
    let entries = reader.entries();
    Squid { entries, remarks: reader.remarks }
}

impl Reader<'_> {
    fn entries(&self) -> Vec<(String, Option<Shape>, bool)> {
        let mut all = Vec::new();
        if self.access.is_empty() {
            return self.told(self.whole(), Vec::new(), all);
        }
        // The first line that fits decides; so what an allow line lists is denied where an earlier line does.
        let (mut allowed, mut denied) = (Vec::new(), Vec::new());
        for (allow, names) in &self.access {
            let domains = names.iter().map(String::as_str).filter(|name| self.is_domain(name));
            if *allow {
                allowed.extend(domains);
                denied.extend(names.iter().filter_map(|name| name.strip_prefix('!')));
                let others = ["all", "CONNECT", "localnet", "localhost"];
                if names.iter().all(|name| others.contains(&name.as_str()))
                    && !names.iter().any(|name| name == "localhost")
                {
                    let line = format!("http_access allow {}", names.join(" "));
                    all.push((line, Some(Shape::Everything), false));
                }
            } else if names.iter().all(|name| self.is_domain(name) || name == "CONNECT" || name == "all") {
                let mut domains = domains.peekable();
                if domains.peek().is_none() {
                    break;
                }
                denied.extend(domains);
            }
        }
        self.told(allowed, denied, all)
    }

    /// Of a fragment without `http_access` what no other acl is made of counts.
    fn whole(&self) -> Vec<&str> {
        let parts = self.acls.iter().flat_map(|(of, acl)| acl.parts().filter(move |part| part != of));
        let parts: HashSet<&str> = parts.collect();
        let names = || self.acls.iter().map(|(name, _)| name.as_str());
        let whole: Vec<&str> = names().filter(|name| !parts.contains(name)).collect();
        // Where all name one another.
        if whole.is_empty() { names().collect() } else { whole }
    }

    /// Adds what the named acls stand for. What an acl excepts is denied.
    fn told<'b>(
        &'b self,
        allowed: Vec<&'b str>,
        mut denied: Vec<&'b str>,
        mut all: Vec<(String, Option<Shape>, bool)>,
    ) -> Vec<(String, Option<Shape>, bool)> {
        let told = |(text, shape): &(String, Option<Shape>), deny| (text.clone(), shape.clone(), deny);
        all.extend(self.members(allowed, &mut denied).map(|entry| told(entry, false)));
        // What an exception excepts isn't let through by that.
        all.extend(self.members(denied, &mut Vec::new()).map(|entry| told(entry, true)));
        all
    }

    fn is_domain(&self, name: &str) -> bool {
        self.acls.iter().any(|(known, _)| known == name)
    }

    /// The entries that the named acls stand for, each acl once however often it is named, and the names
    /// of those that they except.
    fn members<'b>(
        &'b self,
        names: Vec<&'b str>,
        excepted: &mut Vec<&'b str>,
    ) -> impl Iterator<Item = &'b (String, Option<Shape>)> + use<'b> {
        let mut seen = HashSet::new();
        let mut next: Vec<&str> = names.into_iter().rev().collect();
        let mut found: Vec<&[(String, Option<Shape>)]> = Vec::new();
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
                    Acl::Hosts(entries) => found.push(entries),
                    Acl::Of(others) => next.extend(others.iter().rev().map(String::as_str)),
                }
            }
        }
        found.into_iter().flatten()
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
            let line = line.split(" #").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
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
                // Of these only what they are made of counts.
                ["acl", name, "any-of" | "all-of", rest @ ..] => {
                    let others = rest.iter().map(|part| (*part).to_owned()).collect();
                    self.acls.push(((*name).to_owned(), Acl::Of(others)));
                }
                ["http_access", verb @ ("allow" | "deny"), names @ ..] => {
                    let names = names.iter().map(|name| (*name).to_owned()).collect();
                    self.access.push((*verb == "allow", names));
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
