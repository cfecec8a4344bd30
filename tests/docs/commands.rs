//! Every `ccpgate …` that a page, an alert, a unit or a text of the program tells people to run, held
//! against the command line: the command is there, and so are its options.

use std::collections::BTreeMap;

use super::*;

/// What begins another command in a shell line, or ends this one.
const BOUNDS: [&str; 7] = ["|", "\\|", "||", "&&", ";", "(", "$"];

/// The arguments of each `ccpgate` in a piece of shell, without what a comment says.
fn runs(shell: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in shell.lines() {
        let line = line.split(" # ").next().unwrap_or(line);
        let tokens: Vec<&str> = line.split_whitespace().collect();
        for (at, token) in tokens.iter().enumerate() {
            let token = token.trim_start_matches("ExecStart=").trim_start_matches("ExecReload=");
            let program = token.rsplit('/').next() == Some("ccpgate");
            let first = at == 0 || BOUNDS.contains(&tokens[at - 1]) || tokens[at - 1].ends_with(';');
            if program && first {
                let rest = tokens[at + 1..].iter().take_while(|token| !BOUNDS.contains(token));
                found.push(
                    rest.map(|token| token.trim_end_matches([';', ',', '.', ')']).to_owned()).collect(),
                );
            }
        }
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Each place with its commands.
fn all_runs() -> BTreeMap<String, Vec<Vec<String>>> {
    let mut all = BTreeMap::new();
    for (page, text) in pages() {
        let (blocks, prose) = blocks(&text);
        let mut found: Vec<_> = quoted(&prose).flat_map(runs).collect();
        found.extend(
            blocks
                .iter()
                .filter(|(kind, _)| ["sh", "console"].contains(&kind.as_str()))
                .flat_map(|(_, block)| runs(block)),
        );
        all.insert(page, found);
    }
    for entry in fs::read_dir(root().join("deploy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = format!("deploy/{name}");
        if name.ends_with(".yml") {
            all.insert(file.clone(), quoted(&read(&file)).flat_map(runs).collect());
        } else if name.contains(".service") || name.contains(".socket") {
            all.insert(file.clone(), runs(&read(&file)));
        }
    }
    let file = "config/ccpgate.example.toml";
    let comments = read(file).replace("\n# ", "\n").replace("#     ", "");
    all.insert(
        file.to_owned(),
        quoted(&comments).map(str::to_owned).chain([comments.clone()]).flat_map(|t| runs(&t)).collect(),
    );
    all
}

/// The help of the command that these arguments run; none where there is no such command.
fn help(arguments: &[String], known: &mut BTreeMap<Vec<String>, Option<String>>) -> Option<String> {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-c" | "--config" | "--set" => {
                rest.next();
            }
            word if word.starts_with('-') => {}
            word => words.push(word.to_owned()),
        }
    }
    // These have commands below them; the last one does something by itself, too.
    let names: Vec<&str> = words.iter().map(String::as_str).collect();
    let below = matches!(names[..], ["config" | "ranges", ..] | ["firewall", "verify", ..]);
    words.truncate(if below { 2 } else { 1 });
    known
        .entry(words)
        .or_insert_with_key(|words| {
            let folder = tempfile::tempdir().unwrap();
            let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
            let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
            let ran =
                command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
            ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).into_owned())
        })
        .clone()
}

/// What is wrong with these arguments.
fn wrong(arguments: &[String], known: &mut BTreeMap<Vec<String>, Option<String>>) -> Vec<String> {
    let run = arguments.join(" ");
    let Some(help) = help(arguments, known) else { return vec![format!("no command `ccpgate {run}`")] };
    let options = arguments.iter().filter(|argument| argument.starts_with('-'));
    let names = options.map(|option| option.split('=').next().unwrap_or(option));
    let has = |name: &&str| help.split([' ', ',', '\n', '=']).any(|word| word == *name);
    names.filter(|name| !has(name)).map(|name| format!("`ccpgate {run}` has no {name}")).collect()
}

#[test]
fn every_command_that_is_recommended_exists() {
    let mut known = BTreeMap::new();
    let mut missing = Vec::new();
    let all = all_runs();
    for (place, runs) in &all {
        missing.extend(
            runs.iter().flat_map(|run| wrong(run, &mut known)).map(|what| format!("{place}: {what}")),
        );
    }
    expect_nothing(missing);
    assert!(known.len() > 7, "{known:?}");
    for (place, least) in [
        ("README.md", 8),
        ("deploy/prometheus-alerts.yml", 2),
        ("deploy/ccpgate.service", 1),
        ("config/ccpgate.example.toml", 2),
    ] {
        assert!(all[place].len() >= least, "{place}: {:?}", all[place]);
    }

    let mut problems =
        |shell: &str| -> Vec<String> { runs(shell).iter().flat_map(|run| wrong(run, &mut known)).collect() };
    assert_eq!(
        problems("$ ccpgate explain --json HOST | jq . && ccpgate -c FILE config check"),
        Vec::<String>::new()
    );
    assert_eq!(problems("ccpgate rehears --calls 200").len(), 1);
    assert_eq!(problems("/usr/bin/ccpgate config verify; ccpgate pac --quiet").len(), 2);
    assert_eq!(runs("journalctl -u ccpgate -n 50; systemctl stop ccpgate").len(), 0);
}

/// Words that follow `ccpgate` in the program's own sentences and labels. Whatever else does is a
/// command.
const PROSE: [&str; 6] = ["allows", "client", "configuration", "refused", "ticket", "wrote"];

/// The words that follow `ccpgate` in the string literals of a source file.
fn words_after_the_name(source: &str) -> Vec<&str> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("ccpgate ").skip(1))
        .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next())
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn every_command_that_the_program_recommends_exists() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    // Below the root: the folder that somebody has this in may be called anything.
    files.retain(|file| !file.strip_prefix(root()).unwrap().to_string_lossy().contains("tests"));
    let mut known = BTreeMap::new();
    let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
    let mut judge = |word: &str, file: &Path| {
        seen.insert(word.to_owned());
        // `config` is told from `config verify` by the test above, in the pages.
        if !PROSE.contains(&word) && help(&[word.to_owned()], &mut known).is_none() {
            missing.push(format!("{}: no command `ccpgate {word}`", file.display()));
        }
    };
    for file in &files {
        let source = fs::read_to_string(file).unwrap();
        words_after_the_name(&source).into_iter().for_each(|word| judge(word, file));
    }
    let endpoints = root().join("src/catalogue/endpoints.toml");
    words_after_the_name(&fs::read_to_string(&endpoints).unwrap())
        .into_iter()
        .for_each(|word| judge(word, &endpoints));
    expect_nothing(missing);
    for word in ["explain", "allowlist", "ticket-key"] {
        assert!(seen.contains(word), "{seen:?}");
    }
    assert_eq!(
        words_after_the_name("\"run ccpgate check --via\" // ccpgate x\n// ccpgate y"),
        ["check", "x"]
    );
    assert!(help(&["rehears".to_owned()], &mut known).is_none(), "what no command is");
}
