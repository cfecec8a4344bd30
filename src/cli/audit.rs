//! `ccpgate audit`: the list that another proxy or firewall has.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::out::{say, say_json, warn};
use super::{Failure, file_or_input, load};
use crate::config::Sources;
use crate::export::audit::Audit;
use crate::export::foreign;
use crate::policy::label_matches;

/// So many bytes of a list are read at most.
const LARGEST: u64 = 64 << 20;

/// Say what a list that another box has lacks for Amazon Connect, and where it is wider than needed.
///
/// Reads Squid configurations, PAC files, plain domain lists and URL lists of firewalls; several files are
/// one list. Exit code 1 when something is missing.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A list, as the other box has it; - is standard input.
    #[arg(required = true, value_name = "FILE", value_parser = file_or_input())]
    files: Vec<PathBuf>,
    /// As an object.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        load::warn_in_short(sources, &loaded.config, &plan);
        let mut lists = Vec::new();
        for file in &self.files {
            let named = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
            let folder = file.parent().unwrap_or(Path::new("")).to_owned();
            let open = move |name: &str| included(&folder.join(name));
            let list = foreign::read(&text(file).map_err(named)?, &open).map_err(named)?;
            for remark in list.told() {
                warn(format_args!("{}: {remark}", file.display()));
            }
            lists.push((file.display().to_string(), list));
        }
        let audit = Audit::new(&plan.policy, &lists);
        for (file, list) in &lists {
            if let Some(why) = list.trouble() {
                return Err(Failure::Usage(format!("{file}: {why}")));
            }
        }
        if self.json {
            say_json(&audit)?
        } else {
            say(&audit.to_string())?
        }
        if audit.missing.is_empty() { Ok(()) } else { Err(Failure::Negative) }
    }
}

/// The text of an included file, or of all files that a star in its name stands for, in order.
fn included(file: &Path) -> Result<String, String> {
    let (Some(folder), Some(pattern)) = (file.parent(), file.file_name().and_then(|name| name.to_str()))
    else {
        return text(file);
    };
    if !pattern.contains('*') {
        return text(file);
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("can't be read: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| label_matches(pattern, name))
    });
    files.sort_unstable();
    files.iter().map(|file| text(file).map(|text| text + "\n")).collect()
}

/// A file's text; what stands in it goes to a terminal, so that control characters are replaced.
fn text(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {} MiB", LARGEST >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| "isn't UTF-8 text".to_owned())?;
    Ok(text.replace("\r\n", "\n").replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), " "))
}
