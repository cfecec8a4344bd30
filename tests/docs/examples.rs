//! The configurations that the pages print.

use super::*;

fn ccpgate(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CCPGATE_")) {
        command.env_remove(name);
    }
    let ran = command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// By `config show`, which validates as `config check` does, but for files of another machine.
fn check_config(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("example.toml"), text).unwrap();
    match ccpgate(folder.path(), &["-c", "example.toml", "config", "show"]) {
        (Some(0), _) => Ok(()),
        (_, said) => Err(said),
    }
}

#[test]
fn every_configuration_in_the_pages_is_valid() {
    let mut checked = 0;
    for (page, text) in pages() {
        for (_, block) in blocks(&text).0.iter().filter(|(kind, _)| kind == "toml") {
            checked += 1;
            if let Err(said) = check_config(block) {
                panic!("{page}:\n{block}\n{said}");
            }
        }
    }
    assert!(checked > 4, "{checked}");
    // And those that are shipped as files, for a package, a balancer and a cluster.
    let mut shipped = 0;
    for folder in fs::read_dir(root().join("deploy")).unwrap() {
        let Ok(text) = fs::read_to_string(folder.unwrap().path().join("ccpgate.toml")) else { continue };
        shipped += 1;
        if let Err(said) = check_config(&text) {
            panic!("{text}\n{said}");
        }
    }
    assert_eq!(shipped, 3);
    assert!(check_config("[limits]\ndrian = \"10h\"\n").unwrap_err().contains("drain"));
}

#[test]
fn the_readmes_configuration_names_the_https_proxy_first() {
    let readme = read("README.md");
    let (blocks, _) = blocks(&readme);
    let parts: Vec<&str> =
        blocks.iter().filter(|(kind, _)| kind == "toml").map(|(_, b)| b.as_str()).collect();
    assert_eq!(parts.len(), 2, "what agents need, and how the proxy is reached");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ccpgate.toml"), parts.concat()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
    let ran = command.args(["-c", "ccpgate.toml", "pac"]).current_dir(folder.path()).output().unwrap();
    let (pac, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(pac.contains("var LISTED = \"HTTPS proxy1.corp.example:3129; "), "{pac}\n{said}");
    assert!(!said.contains("advertise"), "{said}");
}
