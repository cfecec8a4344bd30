//! The archive for a support ticket: which parts it has, how it is written, and how one that comes from
//! elsewhere is read. Pure: bytes in, bytes out.
//!
//! A bundle that is read may be anything. It is bounded packed and unpacked; every entry must be a
//! plain file of the one folder, or it is refused as a whole; nothing is ever unpacked to a disk.

pub mod read;

use std::collections::BTreeMap;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

/// All entries are in this folder.
pub const FOLDER: &str = "ccpgate-bundle";
/// The word that says what a manifest is of.
pub const KIND: &str = "ccpgate-bundle";

/// What a bundle can hold, in the order of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray, IntoStaticStr)]
#[strum(const_into_str)]
pub enum Part {
    /// What made it, when, and which parts are missing and why; the only one that must be there.
    #[strum(serialize = "manifest.json")]
    Manifest,
    /// `/api/status` with its findings, and what changed before them.
    #[strum(serialize = "status.json")]
    Status,
    /// What `ccpgate check` said, for programs and for people.
    #[strum(serialize = "check.json")]
    Check,
    #[strum(serialize = "check.txt")]
    CheckText,
    /// `/api/denied`.
    #[strum(serialize = "denied.json")]
    Denied,
    /// `/api/tunnels`.
    #[strum(serialize = "tunnels.json")]
    Tunnels,
    /// `/api/learned`.
    #[strum(serialize = "learned.json")]
    Learned,
    /// `/metrics`.
    #[strum(serialize = "metrics.txt")]
    Metrics,
    /// As `ccpgate config show` prints it.
    #[strum(serialize = "config.toml")]
    Config,
}

impl Part {
    /// The name of its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// Whether it must be JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.name().ends_with(".json")
    }

    fn named(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|part| part.name() == name)
    }
}

/// The parts of a bundle, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    parts: BTreeMap<Part, Vec<u8>>,
    /// Entries that this version doesn't know.
    pub strangers: Vec<String>,
}

impl Bundle {
    /// Puts a part in, in place of the one that may be there.
    pub fn put(&mut self, part: Part, bytes: Vec<u8>) {
        self.parts.insert(part, bytes);
    }

    /// A part as text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self, part: Part) -> Option<String> {
        self.parts.get(&part).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A part that is JSON.
    #[must_use]
    pub fn json(&self, part: Part) -> Option<Value> {
        self.parts.get(&part).and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    /// The names of the parts that are there.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.parts.keys().copied()
    }

    /// The archive, a gzipped tar; `time` in seconds since 1970 stands at every entry.
    ///
    /// # Errors
    /// When an entry is too large for the format.
    pub fn pack(&self, time: u64) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (part, bytes) in &self.parts {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(time);
            archive.append_data(&mut header, format!("{FOLDER}/{}", part.name()), &bytes[..])?;
        }
        archive.into_inner()?.finish()
    }
}
