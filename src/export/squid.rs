//! A Squid configuration: the `acl` and `http_access` lines that tell which hosts it lets through.

use std::collections::HashSet;

use regex::bytes::RegexBuilder;

use super::foreign::{Foreign, List, MOST, Open, Shape, add, name, shown};

/// How deep files may include one another.
const DEEPEST: usize = 8;

/// How many bytes of included files are read in all: a file that is included twice by each of a
/// chain of files would else be read a number of times that doubles with each.
const MOST_INCLUDED: usize = 64 << 20;

/// What an included file counts for beside its bytes.
const OF_A_FILE: usize = 64 << 10;

enum Acl {
    Hosts(Vec<(String, Option<Shape>)>),
    /// Names of others, which stand for it.
    Of(Vec<String>),
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
    /// How many entries the acls have in all.
    entries: usize,
}

pub(super) fn squid(text: &str, open: Open<'_>, list: &mut List) {
    let mut reader = Reader {
        open,
        acls: Vec::new(),
        access: Vec::new(),
        remarks: Vec::new(),
        left: MOST_INCLUDED,
        entries: 0,
    };
    reader.directives(text, 0);
    list.remarks.append(&mut reader.remarks);
    if reader.access.is_empty() {
        for (_, acl) in &reader.acls {
            if let Acl::Hosts(entries) = acl {
                for (text, shape) in entries {
                    add(list, text, shape.clone(), false);
                }
            }
        }
        return;
    }
    // The first line that fits decides; so what an allow line lists is denied where an earlier line does.
    let mut denied: Vec<&str> = Vec::new();
    let mut allowed: Vec<&str> = Vec::new();
    for (allow, names) in &reader.access {
        if *allow {
            allowed.extend(names.iter().map(String::as_str).filter(|name| reader.is_domain(name)));
            denied.extend(names.iter().filter_map(|name| name.strip_prefix('!')));
            let others = ["all", "CONNECT", "localnet", "localhost"];
            if names.iter().all(|name| others.contains(&name.as_str()))
                && !names.iter().any(|n| n == "localhost")
            {
                list.entries.push(Foreign {
                    text: format!("http_access allow {}", names.join(" ")),
                    shape: Shape::Everything,
                    deny: false,
                });
            }
        } else if names.iter().all(|name| reader.is_domain(name) || name == "CONNECT" || name == "all") {
            let mut domains =
                names.iter().map(String::as_str).filter(|name| reader.is_domain(name)).peekable();
            if domains.peek().is_none() {
                break;
            }
            denied.extend(domains);
        }
    }
    for (names, deny) in [(allowed, false), (denied, true)] {
        for (text, shape) in reader.entries_of(names) {
            add(list, text, shape.clone(), deny);
        }
    }
}

impl<'a> Reader<'a> {
    fn is_domain(&self, name: &str) -> bool {
        self.acls.iter().any(|(known, _)| known == name)
    }

    /// The entries that the named acls stand for, each acl once however often it is named.
    fn entries_of<'b>(&'b self, names: Vec<&'b str>) -> impl Iterator<Item = &'b (String, Option<Shape>)> {
        let mut seen = HashSet::new();
        let mut next: Vec<&str> = names.into_iter().rev().collect();
        let mut found: Vec<&[(String, Option<Shape>)]> = Vec::new();
        while let Some(name) = next.pop() {
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
                    let others = rest.iter().filter(|part| !part.starts_with('!'));
                    let others = others.map(|part| (*part).to_owned()).collect();
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
        if self.entries + entries.len() > MOST {
            entries.truncate(MOST - self.entries);
            self.remark(format!("acl {}: only the first {MOST} entries of all acls are read", shown(acl)));
        }
        self.entries += entries.len();
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
