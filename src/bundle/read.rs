//! Reads a bundle that somebody sent.

use std::io::{self, Read};
use std::path::Component;

use flate2::bufread::GzDecoder;
use serde_json::Value;

use super::{Bundle, FOLDER, KIND, Part};

/// No bundle is larger than this on disk.
pub const LARGEST: usize = 64 << 20;
/// Nor than this unpacked: a few kilobytes of an archive can stand for gigabytes.
const UNPACKED: usize = 256 << 20;
/// Nor has one more entries.
const ENTRIES: usize = 64;

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("is larger than {} MiB, so it isn't a bundle of ccpgate", LARGEST >> 20)]
    Large,
    #[error("isn't gzip: expected the .tar.gz that `ccpgate bundle FILE` writes")]
    Foreign,
    #[error("is cut, or damaged: {0}")]
    Damaged(String),
    #[error("unpacks to more than {} MiB, so it isn't a bundle of ccpgate", UNPACKED >> 20)]
    Bomb,
    #[error("has more than {ENTRIES} entries, so it isn't a bundle of ccpgate")]
    Entries,
    #[error("the entry {0:?} isn't a plain file of {FOLDER}/, so it isn't a bundle of ccpgate")]
    Entry(String),
    #[error("the entry {0:?} is there twice")]
    Twice(&'static str),
    #[error("{name}, line {}, column {}: {error}", error.line(), error.column())]
    Json { name: &'static str, error: serde_json::Error },
    #[error("{}", missing())]
    Manifest,
    #[error("is of version {0}, which this program doesn't know; use a newer ccpgate")]
    Version(u64),
}

/// What an archive's reader says repeats bytes of the archive.
fn damaged(error: io::Error) -> BundleError {
    BundleError::Damaged(error.to_string().replace(char::is_control, "?"))
}

fn missing() -> String {
    format!("has no {} that says it is a bundle of ccpgate", Part::Manifest.name())
}

/// Reads an archive as a whole.
///
/// # Errors
/// With what is wrong, and where.
pub fn read(packed: &[u8]) -> Result<Bundle, BundleError> {
    if packed.len() > LARGEST {
        return Err(BundleError::Large);
    }
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Err(BundleError::Foreign);
    }
    let mut tar = Vec::new();
    // To the end, where the checksum is.
    GzDecoder::new(packed).take(UNPACKED as u64 + 1).read_to_end(&mut tar).map_err(damaged)?;
    if tar.len() > UNPACKED {
        return Err(BundleError::Bomb);
    }
    entries(&tar)
}

/// Reads what an archive unpacks to, a tar file.
///
/// # Errors
/// With what is wrong, and where.
pub fn entries(tar: &[u8]) -> Result<Bundle, BundleError> {
    let mut bundle = Bundle::default();
    let mut archive = tar::Archive::new(tar);
    for (number, entry) in archive.entries().map_err(damaged)?.enumerate() {
        if number == ENTRIES {
            return Err(BundleError::Entries);
        }
        let mut entry = entry.map_err(damaged)?;
        let name = plain_name(&entry)?;
        let Some(part) = Part::named(&name) else {
            bundle.strangers.push(name);
            continue;
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        // A header may promise more than there is.
        if bytes.len() as u64 != entry.size() {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        if part.is_json()
            && let Err(error) = serde_json::from_slice::<Value>(&bytes)
        {
            return Err(BundleError::Json { name: part.name(), error });
        }
        if bundle.parts.insert(part, bytes).is_some() {
            return Err(BundleError::Twice(part.name()));
        }
    }
    let manifest = bundle.json(Part::Manifest).filter(|manifest| manifest["kind"] == KIND);
    match manifest.ok_or(BundleError::Manifest)?["schema_version"].as_u64() {
        Some(1) => Ok(bundle),
        Some(other) => Err(BundleError::Version(other)),
        None => Err(BundleError::Manifest),
    }
}

/// The name of a plain file directly in the folder.
fn plain_name(entry: &tar::Entry<'_, impl Read>) -> Result<String, BundleError> {
    let wrong =
        || BundleError::Entry(String::from_utf8_lossy(&entry.path_bytes()).chars().take(100).collect());
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err(wrong());
    }
    let path = entry.path().map_err(|_| wrong())?;
    let parts: Vec<Component<'_>> = path.components().collect();
    match parts[..] {
        [Component::Normal(folder), Component::Normal(name)] if folder == FOLDER => {
            let name = name.to_str().filter(|name| name.len() <= 100 && !name.contains(char::is_control));
            name.map(str::to_owned).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    const MANIFEST: &[u8] = br#"{"kind": "ccpgate-bundle", "schema_version": 1}"#;

    /// An archive of these entries, by their very names.
    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            if kind.is_symlink() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        gzip(&builder.into_inner().unwrap())
    }

    fn file<'a>(path: &'a str, bytes: &'a [u8]) -> (&'a str, tar::EntryType, &'a [u8]) {
        (path, tar::EntryType::Regular, bytes)
    }

    const OURS: (&str, tar::EntryType, &[u8]) =
        ("ccpgate-bundle/manifest.json", tar::EntryType::Regular, MANIFEST);

    #[track_caller]
    fn refused(packed: &[u8]) -> String {
        read(packed).expect_err("it is no bundle").to_string()
    }

    #[test]
    fn what_is_packed_reads_back() {
        let mut bundle = Bundle::default();
        bundle.put(Part::Manifest, MANIFEST.to_vec());
        bundle.put(Part::Denied, b"[]".to_vec());
        bundle.put(Part::Config, vec![b'#'; 1 << 20]);
        let packed = bundle.pack(1_790_000_000).unwrap();
        assert_eq!(read(&packed).unwrap(), bundle);
        for end in [0, 1, 2, 10, 100, packed.len() / 2, packed.len() - 1] {
            let why = refused(&packed[..end]);
            assert!(why.contains("gzip") || why.contains("cut"), "{end}: {why}");
        }
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert!(refused(&damaged).contains("damaged"));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for path in [
            "../../etc/passwd",
            "/etc/passwd",
            "ccpgate-bundle/../x",
            "ccpgate-bundle",
            "ccpgate-bundle/a/b",
            "elsewhere/manifest.json",
            "ccpgate-bundle/..",
            "ccpgate-bundle/a\nb",
            "manifest.json",
        ] {
            let why = refused(&archive(&[OURS, file(path, b"x")]));
            assert!(why.contains("isn't a plain file of ccpgate-bundle/"), "{path}: {why}");
            assert!(!why.contains('\n'), "{why:?}");
        }
        for kind in
            [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::Fifo]
        {
            assert!(refused(&archive(&[OURS, ("ccpgate-bundle/x", kind, b"")])).contains("plain file"));
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(refused(&gzip(&vec![0; UNPACKED + 1])).contains("unpacks to more"));
        let names: Vec<String> = (0..ENTRIES).map(|number| format!("ccpgate-bundle/{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| file(name, b"")).chain([OURS]).collect();
        assert!(refused(&archive(&many)).contains("entries"));
        assert!(refused(&archive(&[OURS, OURS])).contains("twice"));
        let mut long = vec![0x1f, 0x8b];
        long.resize(LARGEST + 1, 0);
        assert!(refused(&long).contains("larger"));
    }

    #[test]
    fn what_is_no_bundle_of_this_version_says_so() {
        assert!(refused(b"PK\x03\x04").contains("isn't gzip"));
        assert!(refused(&archive(&[])).contains("manifest.json"));
        assert!(refused(&archive(&[file("ccpgate-bundle/denied.json", b"[]")])).contains("manifest.json"));
        let other = br#"{"kind": "ccpgate-bundle", "schema_version": 2}"#;
        assert!(refused(&archive(&[file("ccpgate-bundle/manifest.json", other)])).contains("version 2"));
        let broken = archive(&[OURS, file("ccpgate-bundle/denied.json", b"[\n oops]")]);
        assert!(refused(&broken).contains("denied.json, line 2, column 2"), "{}", refused(&broken));
        let newer = read(&archive(&[OURS, file("ccpgate-bundle/weather.json", b"{}")])).unwrap();
        assert_eq!(newer.strangers, ["weather.json"]);
    }
}
