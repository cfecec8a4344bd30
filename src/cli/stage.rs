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

/// The configuration, in TOML, of a proxy that has the list of this choice and reaches the region. All of the choice
/// is in it: what were left out would be the default's, and the list another one.
pub(super) fn configuration(region: &Region, choice: &Choice) -> Result<String, String> {
    let rules = catalogue::resolve(choice).rules;
    region.configuration(&config::connect_table(choice), &rules).map_err(|error| error.to_string())
}

/// A folder with that configuration, `more` at its end, and the region's authority.
pub(super) fn files(region: &Region, choice: &Choice, more: &str) -> Result<Folder, String> {
    let configuration = configuration(region, choice)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Feature, SignIn, Wildcards};
    use crate::policy::Rule;

    /// A choice of which every key has another value than the embedded default.
    fn unlike_the_default() -> Choice {
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        Choice {
            regions: words(&["us-west-2"]),
            instances: words(&["acme"]),
            attachment_buckets: words(&["bucket"]),
            instance_ids: words(&["12345678-90ab-cdef-1234-567890abcdef"]),
            origins: words(&["https://crm.example"]),
            media: false,
            legacy: false,
            signin: vec![SignIn::IdentityCenter],
            features: vec![Feature::Scheduling, Feature::ServiceApis],
            wildcards: Wildcards::Narrow,
        }
    }

    #[tokio::test]
    async fn the_regions_configuration_is_read_as_the_choice_that_it_was_made_of() {
        let (default, other) = (Choice::default(), unlike_the_default());
        let keys = |choice| config::connect_table(choice).into_iter();
        for ((key, before), (_, now)) in keys(&default).zip(keys(&other)) {
            assert_ne!(before, now, "{key} needs a value of its own here");
        }
        let alone = Choice { regions: other.regions.clone(), ..default.clone() };
        let choices = [
            Choice { media: false, ..alone.clone() },
            Choice { signin: other.signin.clone(), ..alone.clone() },
            Choice { legacy: false, wildcards: Wildcards::Narrow, ..alone.clone() },
            Choice { features: vec![Feature::Video, Feature::Fips], ..alone.clone() },
            alone,
            default,
            other,
        ];
        let region = Region::start("us-west-2", 0).await.unwrap();
        for choice in choices {
            let folder = files(&region, &choice, "").unwrap();
            let Alone { loaded, plan, .. } = Alone::load(folder.path(), "test").unwrap();
            assert_eq!(loaded.config.connect, choice);
            let given = catalogue::resolve(&choice).rules;
            let text = |rule: &Rule| format!("{rule:?}");
            let rules: Vec<_> =
                plan.policy.rules().iter().filter(|rule| !rule.is_added()).map(text).collect();
            assert_eq!(rules, given.iter().map(text).collect::<Vec<_>>());
            for (rule, port) in given.iter().flat_map(|rule| rule.ports.iter().map(move |port| (rule, port)))
            {
                let to = format!("{}:{port}", rule.pattern.as_str());
                let led = loaded.config.egress.connect_to.keys().any(|from| from.to_string() == to);
                assert!(led, "{to} leads nowhere: {choice:?}");
            }
        }
    }
}
