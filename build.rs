//! Tells the program which commit it was built from, where a git checkout is at hand.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CCPGATE_COMMIT");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let given = std::env::var("CCPGATE_COMMIT").ok();
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=CCPGATE_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
