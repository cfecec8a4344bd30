//! The configuration as users write it: typed sections, every value valid by itself and the listeners and
//! spans valid together. Reads one file and opens nothing else. Which endpoints the values stand for is
//! resolved later, by the plan; certificates and keys are read when they are put in force.
//!
//! Layers, from weak to strong: the embedded default, a file, the environment, `--set` flags.

mod check;
mod difference;
mod direct;
mod endpoint;
mod fingerprint;
mod kind;
mod layer;
mod load;
mod notation;
mod parent;
mod problem;
mod read;
mod schema;
mod section;
mod sections;
mod show;
mod source;
mod suggest;

use figment::Figment;
use figment::value::Value;

pub(crate) use check::collide;
pub use endpoint::PatternPort;
pub(crate) use load::admin_listen;
pub use load::{Loaded, Sources, load, log_format};
pub use problem::{ConfigErrors, Problem};
pub use schema::schema;
pub use sections::{
    Admin, Allow, DeskCheck, Dns, Edl, Egress, Ledger, Limits, Log, Pac, PolicyRules, Proxy, RangesSource,
    Shift, Tls, WatchRounds,
};
pub(crate) use show::connect_table;
pub use source::{Position, Provenance, Source};

use read::{Reading, Table};
use section::{About, Reader, Section};

use crate::catalogue::Choice;

macro_rules! config {
    ($($field:ident: $Section:ident),+ $(,)?) => {
        /// The whole configuration. `Default` is the embedded default, `config/default.toml`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $(
                #[doc = concat!("The section `[", stringify!($field), "]`.")]
                pub $field: $Section,
            )+
            /// The `[[allow]]` tables, in the order of the file.
            pub allow: Vec<Allow>,
        }

        impl Config {
            /// The sections with fixed keys; `allow` is a list of tables and apart.
            fn about() -> Vec<About> {
                vec![$($Section::about()),+]
            }

            fn keys() -> Vec<(&'static str, &'static [&'static str])> {
                vec![$(($Section::NAME, $Section::KEYS),)+ (Allow::NAME, Allow::KEYS)]
            }

            /// Reads all keys. Reports those that are wrong and gives them the value of `default`, so that
            /// checks between the others can still run; none without a default.
            fn read(figment: &Figment, reading: &mut Reading<'_>, default: Option<&Self>) -> Option<Self> {
                // All sections are read before any of them gives up, so that all problems show.
                $(let $field = read_section::<$Section>(figment, reading, default.map(|all| &all.$field));)+
                let allow = match figment.find_value(Allow::NAME) {
                    Ok(value) => sections::read_allow(&value, reading),
                    Err(_) => Some(Vec::new()),
                };
                let allow = allow.or_else(|| default.map(|all| all.allow.clone()));
                Some(Self { $($field: $field?,)+ allow: allow? })
            }

            fn write(&self, reader: Reader) -> Vec<(&'static str, Vec<(&'static str, toml::Value)>)> {
                vec![$(($Section::NAME, self.$field.write(reader))),+]
            }
        }
    };
}

impl Default for Choice {
    /// As in the embedded default.
    fn default() -> Self {
        Config::default().connect
    }
}

config! {
    connect: Choice,
    policy: PolicyRules,
    proxy: Proxy,
    pac: Pac,
    tls: Tls,
    shift: Shift,
    dns: Dns,
    egress: Egress,
    limits: Limits,
    admin: Admin,
    watch: WatchRounds,
    desk: DeskCheck,
    ledger: Ledger,
    ranges: RangesSource,
    edl: Edl,
    log: Log,
}

fn read_section<S: Section>(figment: &Figment, reading: &mut Reading<'_>, default: Option<&S>) -> Option<S> {
    // The embedded default has every section, and layers with anything but a table in its place
    // are refused before they are merged.
    let Ok(Value::Dict(tag, dict)) = figment.find_value(S::NAME) else {
        return None;
    };
    S::read(&Table { key: S::NAME.to_owned(), dict: &dict, tag }, reading, default)
}

impl Default for Config {
    fn default() -> Self {
        match load(&Sources::default()) {
            Ok(loaded) => loaded.config,
            Err(errors) => unreachable!("the embedded default is tested to be valid: {errors}"),
        }
    }
}
