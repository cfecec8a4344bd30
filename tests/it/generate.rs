//! Man pages and completions, as the packages install them: written from the command line itself, and
//! judged by the programs that read them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::{ccpgate, have};

/// The commands that the help lists.
fn commands() -> BTreeSet<String> {
    let help = ccpgate(None, &["--help"]).expect(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        Some(name.split_whitespace().next()?.to_owned())
    });
    let mut names: BTreeSet<String> = names.collect();
    assert!(names.remove("help") && names.len() > 10, "{names:?}");
    names
}

fn written(what: &str, folder: &Path) -> BTreeSet<String> {
    let ran = ccpgate(None, &["generate", what, folder.to_str().unwrap()]).expect(0);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(ran.stdout.lines().any(|line| Path::new(line) == path), "{path:?} in {}", ran.stdout);
        found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(ran.stdout.lines().count(), found.len());
    found
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    // A folder that isn't there yet.
    let folder = folder.path().join("share/man1");
    let pages = written("man", &folder);
    for command in commands() {
        assert!(pages.contains(&format!("ccpgate-{command}.1")), "{command}: {pages:?}");
    }
    assert!(pages.contains("ccpgate.1") && pages.contains("ccpgate-config-check.1"), "{pages:?}");
    let page = std::fs::read_to_string(folder.join("ccpgate-check.1")).unwrap();
    assert!(page.contains("\\-\\-via") && page.contains("ccpgate 0."), "{page}");
    for name in &pages {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for entry in lines.windows(3).filter(|entry| entry[0] == ".TP") {
            assert!(
                !entry[2].is_empty() && !entry[2].starts_with(".TP"),
                "{name}: {} without words",
                entry[1]
            );
            if let Some(other) = entry[1].strip_suffix("(1)") {
                assert!(pages.contains(&format!("{}.1", other.replace('\\', ""))), "{name}: no page {other}");
            }
        }
    }
    // A second time it replaces them, and gives the same.
    assert_eq!(written("man", &folder), pages);
    assert_eq!(std::fs::read_to_string(folder.join("ccpgate-check.1")).unwrap(), page);
    if !have("groff") {
        return;
    }
    for page in &pages {
        let mut groff = Command::new("groff");
        let ran = groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(folder.join(page)).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success() && said.is_empty(), "{page}: {said}");
    }
}

#[test]
fn completions_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let files = written("completions", folder.path());
    assert_eq!(files, ["_ccpgate", "ccpgate.bash", "ccpgate.fish"].map(str::to_owned).into());
    for file in &files {
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        for command in commands() {
            assert!(text.contains(&command), "{command} in {file}");
        }
    }
    // As bash asks when somebody types `ccpgate te<tab>`.
    let script = format!(
        "source '{}' && COMP_WORDS=(ccpgate tick) COMP_CWORD=1 && _ccpgate ccpgate tick ccpgate && echo \"${{COMPREPLY[*]}}\"",
        folder.path().join("ccpgate.bash").display()
    );
    let ran = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "ticket-key", "{ran:?}");
}

#[test]
fn what_cant_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = ccpgate(None, &["generate", "man", file.to_str().unwrap()]).expect(2).stderr;
    assert!(said.contains(file.to_str().unwrap()) && said.contains("expected a folder"), "{said}");
    let said = ccpgate(None, &["generate", "info", "."]).expect(2).stderr;
    assert!(said.contains("man") && said.contains("completions"), "{said}");
    ccpgate(None, &["generate", "man"]).expect(2);
}
