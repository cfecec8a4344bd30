//! What an administrator types. Results go to standard output, logs and progress to standard
//! error; 0 is fine, 1 a negative answer, 2 wrong usage or an invalid configuration.

mod args;
mod credentials;
mod explain_log;
mod explain_symptom;
mod report;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::catalogue::{self, Format};
use crate::config::{self, Config, Loaded, LogFormat, Sources};
use crate::journal::journald;
use crate::pac::proxies::{self, Advertise, Remark};
use crate::plan::{self, Plan};
use crate::serve::ServeError;
use crate::serve::notify;
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
    /// The answer could not be written: to a full disk, say.
    Output(io::Error),
}

/// Says something on standard error. Where that is closed or full there is nobody left to tell, and
/// the exit code says the rest.
fn tell(message: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "ccpgate: {message}");
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| refuse(&error));
    let sources = Sources::from_process(args.common.config.clone(), args.common.set.clone());
    let failure = match dispatch(&args.command, &sources) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Negative => return ExitCode::from(1),
        Failure::Usage(message) => tell(message),
        Failure::Output(error) => tell(format_args!("can't write to standard output: {error}")),
        Failure::Start(error) => {
            let message = error.to_string();
            match config::log_format(&sources) {
                LogFormat::Json => crate::journal::last::start_failed(&message),
                LogFormat::Text => {
                    let _ =
                        writeln!(io::stderr(), "{}", journald::last_words(&format!("ccpgate: {message}")));
                }
            }
            notify::failed(&message);
            return ExitCode::from(if notify::is_managed() && error.may_pass() { TRY_AGAIN } else { 2 });
        }
    }
    ExitCode::from(2)
}

/// Help, version, or wrong usage. What older or newer manuals name is told from a typing error.
fn refuse(error: &clap::Error) -> ! {
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
        && args::PLANNED.contains(&name.as_str())
    {
        tell(format_args!("`ccpgate {name}` is planned, and not in this version; see ccpgate --help"));
        std::process::exit(2);
    }
    let serve = std::env::args_os().any(|argument| argument == "serve");
    if serve
        && error.use_stderr()
        && config::log_format(&Sources::from_process(None, Vec::new())) == LogFormat::Json
    {
        crate::journal::last::start_failed(error.to_string().trim_end());
        std::process::exit(error.exit_code());
    }
    // Help and version are results, and as such on standard output.
    if let Err(unwritten) = written(error.print().and_then(|()| io::stdout().flush())) {
        tell(format_args!("can't write: {unwritten}"));
        std::process::exit(2);
    }
    std::process::exit(error.exit_code())
}

fn dispatch(command: &Command, sources: &Sources) -> Result<(), Failure> {
    match command {
        Command::Serve => crate::serve::serve(sources).map_err(Failure::Start),
        Command::Allowlist { format, json } => {
            let (_, plan) = plan(sources)?;
            warn(&plan.warnings);
            let format = if *json { Format::Json } else { *format };
            say(&catalogue::render(plan.policy.rules(), format))
        }
        Command::Explain { symptom: Some(text), json, .. } => explain_symptom::run(text, *json),
        Command::Explain { log: Some(file), json, .. } => explain_log::run(file, *json),
        Command::Explain { targets, json, .. } => {
            let (loaded, plan) = plan(sources)?;
            warn_in_short(&loaded.config, &plan);
            report::explain(sources, &loaded.config, &plan, targets, *json)
        }
        Command::Pac => {
            let (loaded, plan) = plan(sources)?;
            warn_in_short(&loaded.config, &plan);
            remark(&loaded.config, &plan);
            let advertise = Advertise::from_config(&loaded.config);
            say(&advertise.standing(&plan.policy).map_err(Failure::Usage)?)
        }
        Command::Config { command } => match command {
            ConfigCommand::Check => {
                let loaded = checked(sources)?;
                note_sources(sources);
                let plan = Plan::new(&loaded);
                warn(&plan.warnings);
                remark(&loaded.config, &plan);
                say(&report::checked(&loaded.config, &plan))
            }
            ConfigCommand::Show { json } => {
                let (loaded, plan) = plan(sources)?;
                warn_in_short(&loaded.config, &plan);
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

/// Loads and resolves the configuration, and says by what the command answers where that could
/// surprise.
fn plan(sources: &Sources) -> Result<(Loaded, Plan), Failure> {
    let loaded = config::load(sources).map_err(|e| Failure::Usage(e.to_string()))?;
    note_sources(sources);
    let plan = Plan::new(&loaded);
    Ok((loaded, plan))
}

/// What should be known of the PAC file, on standard error.
fn remark(config: &Config, plan: &Plan) {
    for remark in proxies::remarks(config, &plan.policy) {
        match remark {
            Remark::Warning(text) => tell(format_args!("warning: {text}")),
            Remark::Note(text) => tell(format_args!("note: {text}")),
        }
    }
}

fn note_sources(sources: &Sources) {
    if let Some(surprise) = sources.surprise() {
        tell(surprise);
    }
}

/// Warnings where they are news: with the list, with a check, and at start.
fn warn(warnings: &[String]) {
    for warning in warnings {
        tell(format_args!("warning: {warning}"));
    }
}

/// One line where the answer is about something else; any instance is named in any case.
fn warn_in_short(config: &Config, plan: &Plan) {
    let (any, count) = (config.connect.instances.iter().any(|alias| alias == "*"), plan.warnings.len());
    match (any, count) {
        (_, 0) => {}
        (true, 1) => tell(r#"warning: connect.instances = ["*"] is open to any AWS customer"#),
        (true, _) => tell(format_args!(
            "warning: connect.instances = [\"*\"] is open to any AWS customer; this and {} more: \
             ccpgate config check",
            count - 1
        )),
        (false, 1) => tell(format_args!("warning: {}", plan.warnings[0])),
        (false, _) => tell(format_args!("{count} warnings about the allow list: ccpgate config check")),
    }
}

/// Reads what the TLS listener would, so that a reload after a clean check succeeds.
///
/// # Errors
/// Every problem with the files.
fn tls_files(config: &Config) -> Result<(), Vec<String>> {
    if config.tls.listen.is_empty() {
        return Ok(());
    }
    let kept: Vec<_> =
        Material::files(config).into_iter().filter(|file| credentials::is_kept(file)).collect();
    if !kept.is_empty() {
        tell(format_args!("warning: {}", credentials::not_checked("the TLS files", &kept)));
        return Ok(());
    }
    for warning in Material::load(config)?.warnings() {
        tell(format_args!("warning: {warning}"));
    }
    Ok(())
}

/// Reads what the parent proxy needs, for the same reason.
fn parent_files(config: &Config) -> Result<(), Vec<String>> {
    let files = [&config.egress.proxy_credentials, &config.egress.proxy_ca].into_iter().flatten();
    let kept: Vec<_> = files.filter(|file| credentials::is_kept(file)).cloned().collect();
    if config.egress.proxy.is_some() && !kept.is_empty() {
        tell(format_args!("warning: {}", credentials::not_checked("the files of egress.proxy", &kept)));
        return Ok(());
    }
    let parent = plan::parent(config).map_err(|problem| vec![problem])?;
    if let Some(warning) = parent.as_ref().and_then(|parent| parent.warnings()) {
        tell(format_args!("warning: {warning}"));
    }
    Ok(())
}

/// Loads the configuration and reads the files it names: the problems of both at once.
fn checked(sources: &Sources) -> Result<Loaded, Failure> {
    let usage = |problems: Vec<String>| Failure::Usage(problems.join("\nccpgate: "));
    match config::load(sources) {
        Ok(loaded) => {
            let files = [tls_files(&loaded.config), parent_files(&loaded.config)];
            let problems: Vec<String> = files.into_iter().filter_map(Result::err).flatten().collect();
            if problems.is_empty() { Ok(loaded) } else { Err(usage(problems)) }
        }
        Err(errors) => {
            let mut problems = vec![errors.to_string()];
            for (section, files) in [("tls", tls_files as fn(&Config) -> _), ("egress", parent_files)] {
                let rest = errors.rest_if_sound(section);
                problems.extend(rest.and_then(|config| files(config).err()).into_iter().flatten());
            }
            Err(usage(problems))
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

/// Prints a result.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    written(printed).map_err(Failure::Output)
}

/// A reader that has seen enough, as `| head` has, takes nothing from the answer.
fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
