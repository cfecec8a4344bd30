//! What an administrator types: one command, one file with its flags and its run. Results go to
//! standard output, logs and progress to standard error; 0 is fine, 1 a negative answer, 2 wrong
//! usage or an invalid configuration.

mod allowlist;
mod audit;
mod bundle;
mod check;
mod config;
mod credentials;
mod denied;
mod desks;
mod explain;
mod firewall;
mod folder;
mod generate;
mod lately;
mod learned;
mod load;
mod open_files;
mod origins;
mod out;
mod pac;
mod pac_source;
mod progress;
mod ranges;
mod redact;
mod rehearse;
mod reload;
mod running;
mod seen;
mod serve;
mod shift;
mod simulate;
mod stage;
mod status;
mod table;
mod ticket_key;
mod tunnels;
mod version;
mod via;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PathBufValueParser, TypedValueParser};

use self::out::tell;
use crate::config::Sources;
use crate::serve::ServeError;

/// A file that is read once; `-` is standard input.
fn file_or_input() -> impl TypedValueParser<Value = PathBuf> {
    let input = |file: PathBuf| if file.as_os_str() == "-" { "/dev/stdin".into() } else { file };
    PathBufValueParser::new().map(input)
}

/// Exit code of a negative answer.
const NEGATIVE: u8 = 1;
/// Exit code of wrong usage, an invalid configuration, or an answer that can't be written.
const FAILED: u8 = 2;

/// A forward HTTPS/CONNECT proxy for contact centres that run Amazon Connect: it lets through
/// what the Contact Control Panel needs, denies all else, and says why.
#[derive(Parser)]
#[command(
    name = "ccpgate",
    version,
    max_term_width = 100,
    after_help = "Agents can't log in or take calls? Begin with:\n  \
                  ccpgate status                    what fails, for whom, since when, and what changed?\n  \
                  ccpgate check                     does this network let everything through?\n  \
                  ccpgate explain HOST              is this host allowed, what does an agent see when it fails?\n  \
                  ccpgate explain --symptom 'TEXT'  what does the agent's error mean?\n  \
                  ccpgate allowlist                 everything that is allowed, and why\n  \
                  ccpgate config check              is the configuration sound?\n\n\
                  No network at hand? ccpgate rehearse --simulate plays calls on this machine alone.\n\n\
                  Exit codes: 0 fine; 1 the answer is no: denied, failing, not well; 2 wrong usage, a \
                  configuration that isn't sound, or nobody who answers."
)]
struct Args {
    /// The configuration file; else ./ccpgate.toml, then /etc/ccpgate/ccpgate.toml, then the
    /// embedded default.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, over file and environment, as in --set 'connect.regions=["eu-west-2"]'.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

/// Each command's help stands with its flags.
#[derive(clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Reload(reload::Args),
    Allowlist(allowlist::Args),
    Explain(explain::Args),
    Check(check::Args),
    Pac(pac::Args),
    Status(status::Args),
    Tunnels(tunnels::Args),
    Denied(denied::Args),
    Learned(learned::Args),
    Desks(desks::Args),
    Bundle(bundle::Args),
    Config(config::Args),
    Ranges(ranges::Args),
    Firewall(firewall::Args),
    Origins(origins::Args),
    Audit(audit::Args),
    Rehearse(rehearse::Args),
    Simulate(simulate::Args),
    TicketKey(ticket_key::Args),
    Generate(generate::Args),
    Version(version::Args),
}

/// How a command fails.
#[derive(Debug)]
enum Failure {
    /// The answer is negative; everything was said on standard output.
    Negative,
    /// Wrong usage or an invalid configuration.
    Usage(String),
    /// `serve` can't start.
    Start(ServeError),
    /// The answer could not be written: to a full disk, say.
    Output(io::Error),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let Args { config, set, command } = Args::try_parse().unwrap_or_else(|error| refuse(&error));
    let sources = Sources::from_process(config, set);
    let failure = match command.run(&sources) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Negative => return ExitCode::from(NEGATIVE),
        Failure::Usage(message) => tell(message),
        Failure::Output(error) => tell(format_args!("can't write to standard output: {error}")),
        Failure::Start(error) => return ExitCode::from(serve::failed(&error, &sources)),
    }
    ExitCode::from(FAILED)
}

impl Command {
    fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run(sources),
            Self::Reload(args) => args.run(sources),
            Self::Allowlist(args) => args.run(sources),
            Self::Explain(args) => args.run(sources),
            Self::Check(args) => args.run(sources),
            Self::Pac(args) => args.run(sources),
            Self::Status(args) => args.run(sources),
            Self::Tunnels(args) => args.run(sources),
            Self::Denied(args) => args.run(sources),
            Self::Learned(args) => args.run(sources),
            Self::Desks(args) => args.run(sources),
            Self::Bundle(args) => args.run(sources),
            Self::Config(args) => args.run(sources),
            Self::Ranges(args) => args.run(sources),
            Self::Firewall(args) => args.run(sources),
            Self::Origins(args) => args.run(sources),
            Self::Audit(args) => args.run(sources),
            Self::Rehearse(args) => args.run(sources),
            Self::Simulate(args) => args.run(sources),
            Self::TicketKey(args) => args.run(),
            Self::Generate(args) => args.run(),
            Self::Version(args) => args.run(),
        }
    }
}

/// Help, version, or wrong usage.
fn refuse(error: &clap::Error) -> ! {
    if !serve::refused(error) {
        // Help and version are results, so they go to standard output.
        if let Err(unwritten) = out::written(error.print().and_then(|()| io::stdout().flush())) {
            tell(format_args!("can't write: {unwritten}"));
            std::process::exit(FAILED.into());
        }
    }
    std::process::exit(error.exit_code())
}
