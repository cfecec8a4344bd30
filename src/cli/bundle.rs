//! `ccpgate bundle`: gathers what a supporter asks for into one archive, and shows one that somebody sent.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anstream::adapter::strip_str;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::out::{say, say_json, tell, warn};
use super::redact;
use super::running::{AdminArg, Running, clean};
use super::seen::{self, clock};
use super::{Failure, check, load};
use crate::bundle::read::{self, LARGEST};
use crate::bundle::{Bundle, KIND, Part};
use crate::config::{Loaded, Sources};
use crate::diagnose;
use crate::plan::Plan;

/// So many tunnels of each kind are in it.
const TUNNELS: u32 = 5000;

/// Gather a redacted archive for a support ticket, or show one.
///
/// It holds the status with its findings, what `ccpgate check` says, what was denied and learned,
/// tunnels, metrics and the configuration: no key, no password, no content of a file. With
/// ledger.anonymise client addresses are cut to their networks.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The archive to write, a .tar.gz; never one that is there already.
    #[arg(value_name = "FILE", required_unless_present = "replay")]
    file: Option<PathBuf>,
    /// Show what an archive says that was made elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "no_check", "place"])]
    replay: Option<PathBuf>,
    /// Print one part of it as it is, such as config.toml.
    #[arg(long, value_name = "NAME", requires = "replay", conflicts_with = "json")]
    part: Option<String>,
    /// Leave the tests of the network out; they take up to 20 s.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    admin: AdminArg,
    /// What is in it, as one object.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let bundle = match (&self.replay, &self.file) {
            (Some(archive), _) => open(archive)?,
            (None, Some(file)) => {
                // Before anything that takes time.
                refuse_what_cannot_be_written(file)?;
                let bundle = gather(&self.admin, self.no_check, sources)?;
                save(&bundle, file)?;
                tell(format_args!("wrote {}", file.display()));
                bundle
            }
            (None, None) => return Err(Failure::Usage("a file to write is missing".to_owned())),
        };
        match &self.part {
            Some(name) => say(&part(&bundle, name)?),
            None if self.json => say_json(&object(&bundle)),
            None => say(&report(&bundle)),
        }
    }
}

/// Everything that this machine can tell.
fn gather(admin: &AdminArg, no_check: bool, sources: &Sources) -> Result<Bundle, Failure> {
    let (loaded, plan) = load::plan(sources)?;
    load::warn_in_short(sources, &loaded.config, &plan);
    let running = admin.running_by(&loaded.config)?;
    let mut gathered = Gathered { bundle: Bundle::default(), missing: Vec::new() };
    let reached = gathered.ask(&running);
    if no_check {
        gathered.lacks(Part::Check, "left out by --no-check");
    } else {
        match check::Args::default().report(&loaded.config, Plan::new(&loaded)) {
            Ok(report) => {
                gathered.put_json(Part::Check, &json!(report));
                let text = diagnose::text::render(&report);
                gathered.put(Part::CheckText, strip_str(&text).to_string());
            }
            Err(Failure::Usage(why)) => gathered.lacks(Part::Check, &why),
            Err(failure) => return Err(failure),
        }
    }
    let anonymise = loaded.config.ledger.anonymise;
    gathered.put(Part::Config, redact::configuration(&loaded, anonymise));
    let Gathered { mut bundle, missing } = gathered;
    let manifest = manifest(&loaded, &plan, &running, reached, &missing);
    bundle.put(Part::Manifest, pretty(&manifest));
    Ok(redact::bundle(bundle, anonymise))
}

struct Gathered {
    bundle: Bundle,
    /// Parts that could not be had, and why.
    missing: Vec<(Part, String)>,
}

impl Gathered {
    /// Asks the running proxy for its parts. Returns whether it answered.
    fn ask(&mut self, running: &Running) -> bool {
        let tunnels = format!("/api/tunnels?limit={TUNNELS}");
        let parts = [
            (Part::Status, "/api/status"),
            (Part::Denied, "/api/denied"),
            (Part::Tunnels, tunnels.as_str()),
            (Part::Learned, "/api/learned"),
            (Part::Metrics, "/metrics"),
        ];
        for (number, (part, path)) in parts.into_iter().enumerate() {
            match running.fetch(path) {
                Ok(bytes) if part.is_json() => match serde_json::from_slice::<Value>(&bytes) {
                    Ok(value) => self.put_json(part, &value),
                    Err(error) => self.lacks(part, &format!("the answer isn't ccpgate's: {error}")),
                },
                Ok(bytes) => self.put(part, String::from_utf8_lossy(&bytes).into_owned()),
                Err(why) => {
                    self.lacks(part, &why);
                    if number == 0 {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn put(&mut self, part: Part, text: String) {
        self.bundle.put(part, text.into_bytes());
    }

    fn put_json(&mut self, part: Part, value: &Value) {
        self.bundle.put(part, pretty(value));
    }

    fn lacks(&mut self, part: Part, why: &str) {
        self.missing.push((part, clean(why)));
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    // Plain data into memory does not fail.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn manifest(
    loaded: &Loaded,
    plan: &Plan,
    running: &Running,
    reached: bool,
    missing: &[(Part, String)],
) -> Value {
    let missing = missing.iter().map(|(part, why)| json!({ "part": part.name(), "why": why }));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "schema_version": 1,
        "kind": KIND,
        "made": format!("{:.3}", Timestamp::now()),
        "version": crate::VERSION,
        "commit": crate::COMMIT,
        "tls_provider": super::version::TLS_PROVIDER,
        "system": format!("{} {} {}", std::env::consts::OS, kernel.trim(), std::env::consts::ARCH),
        "configuration": plan.source,
        "warnings": plan.warnings,
        "admin": running.url(),
        "reached": reached,
        "missing": missing.collect::<Vec<_>>(),
        "anonymised": loaded.config.ledger.anonymise,
    })
}

fn refuse_what_cannot_be_written(file: &Path) -> Result<(), Failure> {
    let wrong = |why: &str| Err(Failure::Usage(format!("{}: {why}", file.display())));
    if file.symlink_metadata().is_ok() {
        return wrong("is there already; name a file that isn't");
    }
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()).map(fs::metadata) {
        Some(Err(error)) => wrong(&format!("its folder can't be entered: {error}")),
        Some(Ok(folder)) if !folder.is_dir() => wrong("what should be its folder is a file"),
        _ => Ok(()),
    }
}

/// Readable by its owner alone: it has addresses and names of a company in it.
fn save(bundle: &Bundle, file: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Usage(format!("{}: can't be written: {error}", file.display()));
    let time = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let packed = bundle.pack(time).map_err(failed)?;
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let written = opened.write_all(&packed).and_then(|()| opened.sync_all());
    written.map_err(|error| {
        // Half an archive helps nobody.
        let _ = fs::remove_file(file);
        failed(error)
    })
}

fn open(file: &Path) -> Result<Bundle, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {}", file.display(), clean(&why)));
    let mut packed = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(LARGEST as u64 + 1).read_to_end(&mut packed));
    read.map_err(|error| wrong(format!("can't be read: {error}")))?;
    let bundle = read::read(&packed).map_err(|error| wrong(error.to_string()))?;
    if !bundle.strangers.is_empty() {
        let names = clean(&bundle.strangers.join(", "));
        warn(format_args!("{}: made by a newer ccpgate; not shown: {names}", file.display()));
    }
    Ok(bundle)
}

fn part(bundle: &Bundle, name: &str) -> Result<String, Failure> {
    let found = bundle.parts().find(|part| part.name() == name).and_then(|part| bundle.text(part));
    let found = found.ok_or_else(|| {
        let there: Vec<&str> = bundle.parts().map(Part::name).collect();
        Failure::Usage(format!("--part: there is no {name:?} in it; there are {}", there.join(", ")))
    })?;
    Ok(lines(&found))
}

/// All parts that are JSON, by their names without the ending.
fn object(bundle: &Bundle) -> Value {
    let mut all = Map::from_iter([("schema_version".to_owned(), json!(1))]);
    for part in bundle.parts().filter(|part| part.is_json()) {
        let name = part.name().trim_end_matches(".json").to_owned();
        all.insert(name, bundle.json(part).unwrap_or_default());
    }
    all.into()
}

/// What it says to people: made of the archive alone, so that it is the same wherever it is shown.
fn report(bundle: &Bundle) -> String {
    let manifest = bundle.json(Part::Manifest).unwrap_or_default();
    let word = |key: &str| clean(manifest[key].as_str().unwrap_or("-"));
    let made = word("made");
    let made = made.parse().map_or(made, clock);
    let mut text =
        format!("made           {made}, by ccpgate {} (commit {})", word("version"), word("commit"));
    let reached = manifest["reached"] == true;
    let _ = write!(
        text,
        "\nsystem         {}\nconfiguration  {}\nrunning proxy  {}{}",
        word("system"),
        word("configuration"),
        word("admin"),
        if reached { "" } else { ": not reached, so nothing of it is in here" },
    );
    if manifest["anonymised"] == true {
        text.push_str("\nclients        are shown by their networks");
    }
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    for missing in list("missing") {
        let word = |key: &str| clean(missing[key].as_str().unwrap_or_default());
        let _ = write!(text, "\nmissing        {}: {}", word("part"), word("why"));
    }
    for warning in list("warnings") {
        let _ = write!(text, "\nwarning        {}", clean(warning.as_str().unwrap_or_default()));
    }
    if let Some(status) = bundle.json(Part::Status) {
        section(&mut text, "status", &seen::status(&status));
    }
    if let Some(check) = bundle.text(Part::CheckText) {
        section(&mut text, "check", &lines(&check));
    }
    if let Some(denied) = typed::<Vec<_>>(bundle, Part::Denied) {
        section(&mut text, "denied", &seen::denied(&denied));
    }
    if let Some(learned) = typed::<Vec<_>>(bundle, Part::Learned) {
        section(&mut text, "learned", &seen::learned(&learned));
    }
    if let Some(tunnels) = typed(bundle, Part::Tunnels) {
        section(&mut text, "tunnels", &seen::tunnels(&tunnels));
    }
    let rest: Vec<&str> = [Part::Config, Part::Metrics]
        .into_iter()
        .filter(|part| bundle.text(*part).is_some())
        .map(Part::name)
        .collect();
    if !rest.is_empty() {
        let _ = write!(
            text,
            "\n\nIt also holds {}: ccpgate bundle --replay FILE --part NAME",
            rest.join(" and ")
        );
    }
    text
}

/// A part in the form that this version knows; a part of another is as good as none.
fn typed<T: DeserializeOwned>(bundle: &Bundle, part: Part) -> Option<T> {
    serde_json::from_value(bundle.json(part)?).ok()
}

fn section(text: &mut String, name: &str, body: &str) {
    let _ = write!(text, "\n\n== {name} ==\n{}", body.trim_end());
}

/// A text of several lines, each as it may be seen.
fn lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}
