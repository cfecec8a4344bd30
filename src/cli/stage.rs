//! What rehearsals start, on loopback and for themselves: the files of a simulated region, the addresses of
//! its calls, and the signals that end it all.

use std::path::Path;
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::folder::{Folder, REHEARSE};
use crate::agent::tls::Trust;
use crate::catalogue::{self, Choice};
use crate::config::{self, Loaded, Sources};
use crate::diagnose::targets::WebSocketUrl;
use crate::plan::Plan;
use crate::rehearse::proxy;
use crate::simulate::{self, Region};
use crate::target::{Host, Target};

/// A folder with the configuration of a proxy that reaches the region, `more` at its end, and the region's
/// authority.
pub(super) fn files(region: &Region, choice: &Choice, more: &str) -> Result<Folder, String> {
    let rules = catalogue::resolve(choice).rules;
    let configuration = region.configuration(choice, &rules).map_err(|error| error.to_string())?;
    let folder = Folder::new(REHEARSE)?;
    let write = |name: &str, text: String| {
        let file = folder.path().join(name);
        fs::write(&file, text).map_err(|error| format!("{}: can't be written: {error}", file.display()))
    };
    write("ccpgate.toml", configuration + proxy::SECTIONS + more)?;
    write("ca.pem", region.authority())?;
    Ok(folder)
}

/// What this program itself works with: the configuration of such a folder and nothing else, and the
/// authorities to trust beside the public ones.
pub(super) struct Alone {
    pub loaded: Loaded,
    pub plan: Plan,
    pub trust: Trust,
    /// The region's alone.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Alone {
    /// Reads the folder; `key` is what a problem with the authority is called by.
    pub(super) fn load(folder: &Path, key: &str) -> Result<Self, String> {
        let sources = Sources { file: Some(folder.join("ccpgate.toml")), ..Sources::default() };
        let loaded = config::load(&sources).map_err(|error| error.to_string())?;
        let plan = Plan::new(&loaded);
        let (trust, authorities) = Trust::with(key, Some(&folder.join("ca.pem")))?;
        Ok(Self { loaded, plan, trust, authorities })
    }
}

/// The addresses of calls by their numbers.
pub(super) type Urls = Box<dyn Fn(u32) -> WebSocketUrl + Send + Sync>;

/// A host of its own for each call: connections spread as in life, and each call's name is looked up.
pub(super) fn urls(region: &Region) -> Result<Urls, String> {
    Ok(each_call(WebSocketUrl::parse(&region.url(simulate::CALL))?))
}

/// The same of one of these addresses; any other stands for all calls.
pub(super) fn each_call(url: WebSocketUrl) -> Urls {
    Box::new(move |number| {
        let mut url = url.clone();
        if let Host::Name(name) = &url.target.host
            && let Some(own) = simulate::host_of_call(name, number)
            && let Ok(target) = Target::parse_authority(format!("{own}:{}", url.target.port).as_bytes())
        {
            url.target = target;
        }
        url
    })
}

/// Ctrl-C, and what service managers send.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
