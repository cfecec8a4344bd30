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
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    clean(&mut command);
    command.args(arguments).envs(environment.iter().copied());
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

/// Keeps the caller's settings out of the test.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CCPGATE_") {
            command.env_remove(name);
        }
    }
    for name in ["RUST_LOG", "NOTIFY_SOCKET", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
}
