//! Runs of the command line, to their end.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What a run of `ccpgate` gave back.
pub(crate) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let Self { code: got, stdout, stderr } = &self;
        assert_eq!(*got, code, "exit code\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

/// Runs `ccpgate` with these arguments in a folder that has no configuration; `config` is written to
/// a file that `-c` names.
#[track_caller]
pub(crate) fn ccpgate(config: Option<&str>, arguments: &[&str]) -> Ran {
    ccpgate_with(config, arguments, &[])
}

/// The same with variables in the environment.
#[track_caller]
pub(crate) fn ccpgate_with(config: Option<&str>, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    command.envs(environment.iter().copied());
    ccpgate_by(command, config, arguments)
}

/// The same by a command that runs what its arguments name, in surroundings of its own.
#[track_caller]
pub(crate) fn ccpgate_by(mut command: Command, config: Option<&str>, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    clean(&mut command);
    command.args(arguments);
    if let Some(config) = config {
        let file = folder.path().join("test.toml");
        std::fs::write(&file, config).unwrap();
        command.arg("-c").arg(file);
    }
    ended(command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap())
}

/// What a process gave back.
pub(super) fn ended(ran: Output) -> Ran {
    Ran {
        code: ran.status.code().unwrap_or(-1),
        stdout: String::from_utf8(ran.stdout).unwrap(),
        stderr: String::from_utf8(ran.stderr).unwrap(),
    }
}

/// Variables of a service manager, and of the log.
const OTHERS: [&str; 9] = [
    "RUST_LOG",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// Keeps the caller's settings out of the test, but for those that the command was given.
pub(crate) fn clean(command: &mut Command) {
    let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    let ours = |name: &str| name.starts_with("CCPGATE_") || OTHERS.contains(&name);
    for (name, _) in std::env::vars_os() {
        if ours(&name.to_string_lossy()) && !given.contains(&name) {
            command.env_remove(name);
        }
    }
}

/// Runs a program on one processor, always the same one; needs `taskset`.
pub(crate) fn on_one_processor(program: &str) -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first = allowed.trim().split(['-', ',']).next().unwrap();
    let mut command = Command::new("taskset");
    command.args(["-c", first, program]);
    command
}
