//! The command line's grammar and its help.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::catalogue::Format;

/// Commands that manuals and scripts may name already; until they exist they are refused as such.
pub const PLANNED: [&str; 4] = ["check", "rehearse", "ranges", "firewall"];

/// A forward HTTPS/CONNECT proxy for contact centres that run Amazon Connect: it lets through
/// what the Contact Control Panel needs, denies all else, and says why.
#[derive(Parser)]
#[command(
    name = "ccpgate",
    version,
    max_term_width = 100,
    after_help = "Agents can't log in or take calls? Begin with:\n  \
                  ccpgate explain HOST     is this host allowed, and what does an agent see when it fails?\n  \
                  ccpgate explain --symptom 'TEXT'  what does the agent's error mean?\n  \
                  ccpgate allowlist        everything that is allowed, and why\n  \
                  ccpgate config check     is the configuration sound?"
)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(ClapArgs)]
pub struct Common {
    /// The configuration file; else ./ccpgate.toml, then /etc/ccpgate/ccpgate.toml, then the
    /// embedded default.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key, over file and environment, as in --set 'connect.regions=["eu-west-2"]'.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the proxy and the admin listener until SIGTERM; SIGHUP reloads the configuration.
    ///
    /// At SIGTERM the listeners close and live tunnels run on for limits.drain, so that no call
    /// is cut; a second SIGTERM ends them now. SIGPWR says that the machine goes down: then they have
    /// limits.reboot_drain.
    Serve,
    /// Print the allow list as resolved from the configuration.
    Allowlist {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// The same as --format json.
        #[arg(long)]
        json: bool,
    },
    /// Say whether targets are allowed, by which rule or for which reason not; or what an agent's
    /// error means.
    ///
    /// Exit code 1 when a target is denied, when nothing known matches the symptom, or when the log
    /// speaks of the network or the proxy.
    Explain {
        /// host, host:port, or a URL; port 443 where none is given.
        #[arg(required_unless_present_any = ["symptom", "log"], value_name = "TARGET")]
        targets: Vec<String>,
        /// What the agent's panel or its log says, typing errors and all: whose fault it is, what
        /// decides between the readings, what to do.
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["targets", "log"], allow_hyphen_values = true)]
        symptom: Option<String>,
        /// The file that "Download logs" in the panel's settings gives: every failure in it, with its
        /// time, whose fault it is, and why.
        #[arg(long, value_name = "FILE", conflicts_with = "targets")]
        log: Option<PathBuf>,
        /// An object, or an array of them for several targets.
        #[arg(long)]
        json: bool,
    },
    /// Print the PAC file for browsers, as the admin listener serves it.
    Pac,
    /// Validate, show or describe the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Make a key file for tls.ticket_keys, mode 0600; an existing file is never overwritten.
    TicketKey {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the version, the commit and the TLS provider.
    Version {
        /// As an object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Validate the configuration and say what it amounts to; all problems at once.
    Check,
    /// Print the effective configuration with where each value came from.
    Show {
        /// As an object.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration's JSON Schema.
    Schema,
}
