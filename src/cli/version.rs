//! `ccpgate version`. Needs no configuration.

use serde_json::json;

use super::{Failure, out};
use crate::{COMMIT, VERSION};

pub(super) const TLS_PROVIDER: &str = "rustls with aws-lc-rs";

/// Print the version, the commit and the TLS provider.
#[derive(clap::Args)]
pub(super) struct Args {
    /// As an object.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.json {
            let object = json!({ "schema_version": 1, "version": VERSION, "commit": COMMIT, "tls_provider": TLS_PROVIDER });
            return out::say(&object.to_string());
        }
        out::say(&format!("ccpgate {VERSION} (commit {COMMIT}), TLS provider: {TLS_PROVIDER}"))
    }
}
