//! What an administrator types. Results go to standard output, logs and progress to standard
//! error; 0 is fine, 1 a negative answer, 2 wrong usage or an invalid configuration.

mod args;
mod credentials;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::advertise::{self, Advertise, Remark};
use crate::catalogue::{self, Format};
use crate::config::{self, Config, Loaded, Sources};
use crate::log::journald;
use crate::notify;
use crate::server::ServeError;
use crate::snapshot::Plan;
use crate::tls::material::Material;
use args::{Args, Command, ConfigCommand};

/// EX_TEMPFAIL of sysexits.h, to a service manager alone: the units start again after it, and not
/// after 2, which no second try mends.
const TRY_AGAIN: u8 = 75;

/// How a command ends.
#[derive(Debug)]
pub enum Failure {
    /// The answer is negative; everything was said on standard output.
    Negative,
    /// Wrong usage or an invalid configuration.
    Usage(String),
    /// `serve` can't start.
    Start(ServeError),
}

impl From<io::Error> for Failure {
    /// Standard output is closed, as by `| head`: there is nobody left to tell.
    fn from(_: io::Error) -> Self {
        Self::Negative
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| refuse(&error));
    let sources = Sources::from_process(args.common.config.clone(), args.common.set.clone());
    match dispatch(&args.command, &sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Negative) => ExitCode::from(1),
        Err(Failure::Usage(message)) => {
            eprintln!("ccpgate: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Start(error)) => {
            let message = error.to_string();
            eprintln!("{}", journald::last_words(&format!("ccpgate: {message}")));
            notify::failed(&message);
            ExitCode::from(if notify::is_managed() && error.may_pass() { TRY_AGAIN } else { 2 })
        }
    }
}

/// Help, version, or wrong usage. What older or newer manuals name is told from a typing error.
fn refuse(error: &clap::Error) -> ! {
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
        && args::PLANNED.contains(&name.as_str())
    {
        eprintln!("ccpgate: `ccpgate {name}` is planned, and not in this version; see ccpgate --help");
        std::process::exit(2);
    }
    error.exit()
}

fn dispatch(command: &Command, sources: &Sources) -> Result<(), Failure> {
    match command {
        Command::Serve => crate::server::serve(sources).map_err(Failure::Start),
        Command::Allowlist { format, json } => {
            let (_, plan) = plan(sources)?;
            let format = if *json { Format::Json } else { *format };
            say(&catalogue::render(plan.policy.rules(), format))
        }
        Command::Explain { targets, json } => {
            let (loaded, plan) = plan(sources)?;
            report::explain(&loaded.config, &plan, targets, *json)
        }
        Command::Pac => {
            let (loaded, plan) = plan(sources)?;
            remark(&loaded.config, &plan);
            let advertise = Advertise::from_config(&loaded.config);
            say(&advertise.standing(&plan.policy).map_err(Failure::Usage)?)
        }
        Command::Config { command } => match command {
            ConfigCommand::Check => {
                let (loaded, plan) = plan(sources)?;
                remark(&loaded.config, &plan);
                tls_files(&loaded.config)?;
                say(&report::checked(&loaded.config, &plan))
            }
            ConfigCommand::Show { json } => {
                let (loaded, _) = plan(sources)?;
                say(&if *json { pretty(&loaded.to_json()) } else { loaded.to_toml() })
            }
            ConfigCommand::Schema => say(&pretty(&config::schema())),
        },
        Command::TicketKey { file } => {
            crate::tls::keys::create(file).map_err(|e| Failure::Usage(e.to_string()))
        }
        Command::Version { json } => say(&report::version(*json)),
    }
}

/// Loads and resolves the configuration; its warnings go to standard error.
fn plan(sources: &Sources) -> Result<(Loaded, Plan), Failure> {
    let loaded = config::load(sources).map_err(|e| Failure::Usage(e.to_string()))?;
    let plan = Plan::new(&loaded).map_err(|e| Failure::Usage(e.to_string()))?;
    for warning in &plan.warnings {
        eprintln!("ccpgate: warning: {warning}");
    }
    Ok((loaded, plan))
}

/// What should be known of the PAC file, on standard error.
fn remark(config: &Config, plan: &Plan) {
    for remark in advertise::remarks(config, &plan.policy) {
        match remark {
            Remark::Warning(text) => eprintln!("ccpgate: warning: {text}"),
            Remark::Note(text) => eprintln!("ccpgate: note: {text}"),
        }
    }
}

/// Reads what the TLS listener would, so that a reload after a clean check succeeds.
fn tls_files(config: &Config) -> Result<(), Failure> {
    if config.tls.listen.is_empty() {
        return Ok(());
    }
    let kept: Vec<_> =
        Material::files(config).into_iter().filter(|file| credentials::is_kept(file)).collect();
    if !kept.is_empty() {
        eprintln!("ccpgate: warning: {}", credentials::not_checked(&kept));
        return Ok(());
    }
    let material = Material::load(config).map_err(|problems| Failure::Usage(problems.join("\nccpgate: ")))?;
    for warning in material.warnings() {
        eprintln!("ccpgate: warning: {warning}");
    }
    Ok(())
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
