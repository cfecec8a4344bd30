//! The files: the only I/O of this room.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Ranges;
use super::read::{self, LARGEST};

/// Reads a version of ip-ranges.json.
///
/// # Errors
///
/// The file can't be read, or isn't ip-ranges.json; in one line that begins with its path.
pub fn load(file: &Path) -> Result<Ranges, String> {
    let bytes = bytes(file).map_err(|error| format!("{}: can't be read: {error}", file.display()))?;
    read::read(&bytes).map_err(|why| format!("{}: {why}", file.display()))
}

/// The JSON files in a folder, in the order of their names.
///
/// # Errors
///
/// The folder can't be read.
pub fn versions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads no more than the largest file of this kind, and one byte to notice a larger one.
fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
