//! `ccpgate ticket-key`. Needs no configuration.

use std::path::PathBuf;

use super::Failure;
use crate::tls::keys;

/// Make a key file for tls.ticket_keys, mode 0600; an existing file is never overwritten.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The file to make; its folder has to be there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        keys::create(&self.file).map_err(|error| Failure::Usage(error.to_string()))
    }
}
