//! `ccpgate firewall`: rules for what a proxy can't carry, or for all of Option 2.

mod verify;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use strum::{EnumMessage, EnumString, IntoStaticStr, VariantArray};

use super::out::{say, warn};
use super::ranges::Current;
use super::{Failure, file_or_input, load};
use crate::address;
use crate::config::{Config, Sources};
use crate::egress::resolver::Resolver;
use crate::export::firewall::{Firewall, Hook, Scope};
use crate::export::iptables::iptables;
use crate::export::nft::nft;
use crate::plan::{self, Plan};
use crate::ranges::select::Set;
use crate::ranges::show::Breadth;

/// Print firewall rules for what a proxy cannot carry (UDP 3478), or for all of Option 2.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How to print them.
    #[arg(long, value_parser = words::<Format>(), default_value = <&str>::from(Format::Nft))]
    format: Format,
    /// What they are for.
    #[arg(long, value_parser = words::<Scope>(), default_value = <&str>::from(Scope::Media))]
    scope: Scope,
    /// Take effect there: let through what is listed, drop the rest of UDP 3478 (option2: and of TCP 443),
    /// and nothing else. Without it there is a chain to jump to.
    #[arg(long, value_parser = words::<Hook>())]
    hook: Option<Hook>,
    /// For a firewall that doesn't track connections: rules for what comes back.
    #[arg(long)]
    stateless: bool,
    /// Also resolve the TURN names, and let their addresses through for two hours. To be run every few
    /// minutes; a name that doesn't resolve changes nothing.
    #[arg(long)]
    by_name: bool,
    /// ip-ranges.json, - for standard input; else the newest of `ranges.file` and of what the running proxy
    /// keeps.
    #[arg(long, value_name = "FILE", value_parser = file_or_input())]
    file: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    Verify(verify::Args),
}

/// How rules are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString, EnumMessage)]
#[strum(serialize_all = "lowercase")]
enum Format {
    /// For nft -f: one table, replaced in one transaction.
    Nft,
    /// A script of ipset restore, iptables-restore and ip6tables-restore.
    Iptables,
    /// An array of objects.
    Json,
    /// A rule a line.
    Txt,
}

/// The words of an option, with what is said of each.
fn words<W>() -> impl TypedValueParser<Value = W>
where
    W: VariantArray + EnumMessage + Copy + Into<&'static str> + std::str::FromStr + Send + Sync,
    W::Err: std::fmt::Display,
{
    let word = |word: &W| {
        let help = word.get_documentation().unwrap_or_default();
        PossibleValue::new((*word).into()).help(help.trim_end_matches('.'))
    };
    PossibleValuesParser::new(W::VARIANTS.iter().map(word))
        .try_map(|word| word.parse::<W>().map_err(|error| error.to_string()))
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        if let Some(Command::Verify(args)) = self.command {
            return args.run(sources);
        }
        let (loaded, plan) = load::plan(sources)?;
        let config = &loaded.config;
        load::warn_in_short(sources, config, &plan);
        let current = Current::load(self.file.as_deref(), config, &plan)?;
        let (ranges, selection) = (&current.version.ranges, &current.version.selection);
        let mut needed = Vec::new();
        if config.connect.media {
            needed.push(Set::Media);
        }
        match self.scope {
            Scope::Option2 => needed.extend([Set::Ec2, Set::Cloudfront, Set::S3]),
            Scope::Media if needed.is_empty() => {
                warn("connect.media = false: agents have no media, so nothing is let through");
            }
            Scope::Media => {}
        }
        // Rules of an empty set cut what they are there for; AWS has IPv4 addresses for each of them.
        for set in needed {
            if selection.of(set).is_none_or(|selected| selected.table.ipv4_addresses() == 0) {
                let service = set.row().service.as_deref().unwrap_or_default();
                return Err(Failure::Usage(format!(
                    "ip-ranges.json of {} has no IPv4 prefix of {service} for {}, so rules made of it would cut {}; \
                     nothing was printed",
                    ranges.create_date,
                    selection.regions.join(", "),
                    set.name()
                )));
            }
        }
        let by_name =
            if self.by_name && config.connect.media { turn_addresses(config, &plan)? } else { Vec::new() };
        let firewall = Firewall {
            selection,
            create_date: &ranges.create_date,
            sync_token: ranges.sync_token,
            scope: self.scope,
            hook: self.hook,
            stateless: self.stateless,
            breadth: Breadth::of(selection, current.names),
            media: config.connect.media,
            by_name,
        };
        match self.format {
            Format::Nft => say(&nft(&firewall)),
            Format::Iptables => say(&iptables(&firewall)),
            Format::Json => say(&firewall.json().map_err(|error| Failure::Usage(error.to_string()))?),
            Format::Txt => say(&firewall.txt()),
        }
    }
}

/// What the TURN names of the allow list resolve into, by the proxy's own resolver: in order, each once,
/// public ones alone.
fn turn_addresses(config: &Config, plan: &Plan) -> Result<Vec<IpAddr>, Failure> {
    let names: Vec<&str> = plan.policy.media_servers().collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Usage(format!("can't resolve names: {error}")))?;
    let mut found = Vec::new();
    runtime.block_on(async {
        let resolver = Resolver::new(plan::dns(&config.dns), runtime.handle().clone());
        let answers = names.iter().map(|name| resolver.lookup(name));
        for (name, answer) in names.iter().zip(futures_util::future::join_all(answers).await) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    warn(format_args!("{name}: {error}; the addresses that it had stay let through"));
                    continue;
                }
            };
            let late = match answer.rest {
                Some(mut rest) => rest.addresses().await,
                None => Arc::default(),
            };
            for address in answer.known.iter().chain(late.iter()) {
                match address::judge(*address, &config.egress.allow_private) {
                    Ok(()) => found.push(*address),
                    Err(barred) => warn(format_args!("{name}: {barred}; it isn't let through")),
                }
            }
        }
    });
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
