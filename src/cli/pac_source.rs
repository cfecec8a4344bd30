//! `--pac URL|FILE`: where the PAC file is that browsers have.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::agent::fetch;
use crate::agent::tls::Trust;
use crate::egress::Egress;
use crate::egress::url::Url;

/// Largest file: browsers take no larger one.
const LARGEST: usize = 1 << 20;

/// A place on the network or on this machine.
#[derive(Clone, Debug)]
pub(super) enum PacSource {
    Url(Url),
    File(PathBuf),
}

impl PacSource {
    /// Reads http://, https:// or file://, else a path.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let valid = "valid are http://HOST/PATH, https://HOST/PATH, file:///PATH and a path";
        match text.split_once("://") {
            _ if text.is_empty() => Err(format!("it is empty; {valid}")),
            None => Ok(Self::File(text.into())),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                match path.starts_with('/') {
                    true => Ok(Self::File(path.into())),
                    false => Err(format!("a file on another machine; {valid}")),
                }
            }
            Some(_) => Url::parse(text).map(Self::Url),
        }
    }

    /// The text of the file; what is no UTF-8 in it is replaced.
    ///
    /// # Errors
    /// Why it can't be had, with its place.
    pub(super) async fn read(
        &self,
        egress: &Egress,
        trust: &Arc<Trust>,
        now: SystemTime,
    ) -> Result<String, String> {
        let bytes = match self {
            Self::Url(url) => fetch::fetch(egress, trust, now, url, LARGEST).await?,
            Self::File(path) => read(path).map_err(|why| format!("{} {why}", path.display()))?,
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() > LARGEST {
        return Err(format!("is larger than {} KiB, and browsers take no such file", LARGEST >> 10));
    }
    Ok(bytes)
}

impl fmt::Display for PacSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
