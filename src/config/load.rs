//! From the sources to a valid configuration: reads the file, merges the layers, reports all problems at
//! once. Reading that file is the only I/O, so that a reload can repeat it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;

use super::layer::{Layer, section_and_key};
use super::problem::Problem;
use super::read::Reading;
use super::source::{Position, Provenance, Source};
use super::{Config, ConfigErrors, check, notation};
use crate::journal::log::Format;

/// The embedded default.
pub(super) const DEFAULT: &str = include_str!("../../config/default.toml");

/// No sensible configuration is larger; a wrong path may well lead to something that is.
const LARGEST_FILE: u64 = 1 << 20;

/// Where to look for a file when none is named, in this order.
const USUAL_FILES: [&str; 2] = ["ccpgate.toml", "/etc/ccpgate/ccpgate.toml"];

/// Where the configuration comes from besides the embedded default. The same sources can be
/// loaded again; the file is read anew each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file, as it was named.
    pub file: Option<PathBuf>,
    /// Names and values of the variables `CCPGATE_SECTION__KEY`; others are ignored.
    pub env: Vec<(String, String)>,
    /// `section.key=value`, later ones win.
    pub set: Vec<String>,
}

/// A word that a shell takes as it stands, in quotes where it needs them.
fn for_a_shell(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

impl Sources {
    /// What a command's answer is based on, where that could surprise: the file of the working directory,
    /// which comes before the one in /etc that the service reads, or variables. None where it is the file
    /// that was named or the expected one.
    #[must_use]
    pub(crate) fn surprise(&self) -> Option<String> {
        let [here, installed] = USUAL_FILES.map(Path::new);
        let mut said = Vec::new();
        if self.file.as_deref() == Some(here) {
            let hides =
                if exists(installed) { format!(", not {}", installed.display()) } else { String::new() };
            said.push(format!("{} of this folder{hides}", here.display()));
        }
        match &self.env[..] {
            [] => {}
            few @ ([_] | [_, _] | [_, _, _]) => {
                said.push(few.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
            }
            many => said.push(format!("{} variables CCPGATE_SECTION__KEY of the environment", many.len())),
        }
        (!said.is_empty()).then(|| format!("answers by {}", said.join(" and ")))
    }

    /// What to type for `rest`, such as `config check`, to be answered by the same file and `--set` flags.
    pub(crate) fn command(&self, rest: &str) -> String {
        let usual = |file: &Path| USUAL_FILES.iter().any(|usual| file == Path::new(usual));
        let file = self.file.as_deref().filter(|file| !usual(file));
        let file = file.map(|file| format!(" -c {}", for_a_shell(&file.to_string_lossy())));
        let set = self.set.iter().map(|value| format!(" --set {}", for_a_shell(value)));
        let options: String = file.into_iter().chain(set).collect();
        format!("ccpgate{options} {rest}")
    }

    /// The sources of this process: the file that `-c` or `CCPGATE_CONFIG` names, else the first
    /// of `./ccpgate.toml` and `/etc/ccpgate/ccpgate.toml` that exists, else none; the variables
    /// of the environment; the `--set` flags.
    pub(crate) fn from_process(config_flag: Option<PathBuf>, set: Vec<String>) -> Self {
        let named = config_flag.or_else(|| {
            std::env::var_os("CCPGATE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from)
        });
        let usual = || USUAL_FILES.map(PathBuf::from).into_iter().find(|path| exists(path));
        // Loading recognises a value that was not UTF-8 by its replacement characters.
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let mut env: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .filter(|(name, _)| section_and_key(name).is_some())
            .collect();
        env.sort();
        Self { file: named.or_else(usual), env, set }
    }
}

/// Also true of a file that cannot be read: loading then reports that, and no other file is looked for.
fn exists(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// A valid configuration and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    pub provenance: Provenance,
}

/// Loads the configuration.
///
/// # Errors
///
/// An unreadable file, wrong TOML, unknown keys, keys written twice, wrong values, values that
/// don't fit together: all of them at once, except that a file with wrong syntax is not looked at
/// further.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut problems = Vec::new();
    let mut layers = vec![Layer::document(Source::Default, DEFAULT, &mut problems)];
    let mut positions = Default::default();
    if let Some(path) = &sources.file {
        let text = read_file(path)?;
        if text.trim().is_empty() {
            // An editor may just have truncated the file; the defaults must not take its place.
            let message = "the file is empty; remove it to run on the embedded default".to_owned();
            let source = Source::File(path.clone());
            return Err(Problem { source, position: None, key: None, value: None, message }.into());
        }
        let mut layer = Layer::document(Source::File(path.clone()), &text, &mut problems);
        positions = std::mem::take(&mut layer.positions);
        layers.push(layer);
    }
    for (name, value) in &sources.env {
        layers.extend(Layer::variable(name, value, &mut problems));
    }
    for flag in &sources.set {
        layers.extend(Layer::flag(flag, &mut problems));
    }

    let figment = layers.into_iter().fold(Figment::new(), Figment::merge);
    let provenance = Provenance { positions, ..Provenance::default() };
    let mut reading = Reading { figment: &figment, provenance, problems };
    // The embedded default alone has no mistake, and nothing to fall back on.
    let default = (*sources != Sources::default()).then(Config::default);
    let config = Config::read(&figment, &mut reading, default.as_ref());
    let Reading { provenance, mut problems, .. } = reading;
    if let Some(config) = &config {
        let together = check::together(config, &provenance, &problems);
        problems.extend(together);
    }
    // In the order of the layers, and within the file from top to bottom.
    problems.sort_by(|a, b| (&a.source, a.position).cmp(&(&b.source, b.position)));
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, file: sources.file.clone(), provenance }),
        rest => Err(ConfigErrors { problems, rest: rest.map(Box::new) }),
    }
}

/// The form of the log, read also from a file that is wrong elsewhere, even in its syntax: a failed start
/// is reported in this form.
pub fn log_format(sources: &Sources) -> Format {
    legible(sources, "log", "format", |word| word.parse().ok()).unwrap_or(Format::Text)
}

/// Where the admin listener is, read as [`log_format`] is: a running proxy is asked what is wrong with the
/// file.
pub(crate) fn admin_listen(sources: &Sources) -> SocketAddr {
    let said = legible(sources, "admin", "listen", |text| notation::listen_address(text).ok());
    said.unwrap_or_else(|| Config::default().admin.listen)
}

/// The value of a key in the strongest layer that has one that can be read.
fn legible<T>(sources: &Sources, section: &str, key: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut ignored = Vec::new();
    let mut layers = Vec::new();
    if let Some(text) = sources.file.as_deref().and_then(|path| read_file(path).ok()) {
        layers.push(Layer::legible(Source::Default, &text));
    }
    layers.extend(sources.env.iter().filter_map(|(name, value)| Layer::variable(name, value, &mut ignored)));
    layers.extend(sources.set.iter().filter_map(|flag| Layer::flag(flag, &mut ignored)));
    let said = |layer: &Layer| read(layer.dict.get(section)?.as_dict()?.get(key)?.as_str()?);
    layers.iter().rev().find_map(said)
}

fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    let problem = |position, message: String| {
        let source = Source::File(path.to_owned());
        ConfigErrors::from(Problem { source, position, key: None, value: None, message })
    };
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            problem(None, "no such file: name one that exists with -c or CCPGATE_CONFIG".to_owned())
        }
        _ => problem(None, format!("the file cannot be read: {error}")),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(problem(None, "this is a directory, expected a TOML file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(problem(
            None,
            "the file is larger than 1 MiB, expected a configuration in TOML".to_owned(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let position = Position::of(&String::from_utf8_lossy(good), good.len());
        problem(Some(position), "not UTF-8 from here on, expected TOML, which is UTF-8 text".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(env: &[(&str, &str)], set: &[&str]) -> Result<Loaded, ConfigErrors> {
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let set = set.iter().map(|flag| flag.to_string());
        load(&Sources { file: None, env: env.collect(), set: set.collect() })
    }

    /// The values that a message offers in place of a wrong one, as TOML writes them.
    fn corrections(message: &str) -> Vec<String> {
        let mut offered = Vec::new();
        for (lead, end) in [("did you mean ", "?"), ("write ", "; expected")] {
            let Some((_, rest)) = message.split_once(lead) else { continue };
            let part = rest.split(end).next().unwrap_or(rest);
            if part.starts_with('[') {
                offered.push(part.to_owned());
            } else {
                // What stands between backticks is a key or an example.
                offered.extend(part.split('"').skip(1).step_by(2).map(|text| format!("{text:?}")));
            }
        }
        offered
    }

    #[test]
    fn corrections_are_found_in_messages() {
        assert_eq!(corrections("a, did you mean \"5s\"? Expected b"), ["\"5s\""]);
        assert_eq!(corrections("expected a list, did you mean [443]?"), ["[443]"]);
        assert_eq!(corrections("a, write \"*.x\" for c, \"x\" for d; expected \"e\""), ["\"*.x\"", "\"x\""]);
    }

    proptest! {
        #[test]
        fn any_value_of_any_key_is_judged(index in 0usize..200, value in "\\PC{0,30}|\\[\\PC{0,20}\\]") {
            let keys: Vec<String> = Config::keys()
                .into_iter()
                .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
                .collect();
            let key = &keys[index % keys.len()];
            let name = format!("CCPGATE_{}", key.to_uppercase().replace('.', "__"));
            for result in [judged(&[(&name, &value)], &[]), judged(&[], &[&format!("{key}={value}")])] {
                match result {
                    // What was accepted can be shown and read again.
                    Ok(loaded) => {
                        let mut problems = Vec::new();
                        Layer::document(Source::Default, &loaded.to_toml(), &mut problems);
                        prop_assert_eq!(problems, Vec::new());
                    }
                    Err(errors) => prop_assert!(!errors.problems.is_empty()),
                }
            }
        }

        #[test]
        fn every_correction_is_accepted_where_it_is_offered(
            index in 0usize..200,
            value in "(https?://|HTTPS://|PROXY |)[.*]{0,2}[a-z0-9-]{0,8}(\\.[a-z0-9*]{1,8}){0,3}(:[0-9]{0,5}|)(/[0-9a-z]{0,2}|)|[0-9]{1,12}|10\\.1\\.2\\.3/[0-9]{1,2}|us-w?e[a-z]{2}-?[12]|acme\\.(my\\.connect\\.aws|s3\\.amazonaws\\.com)",
            shape in 0usize..3,
        ) {
            let keys: Vec<(String, &str)> = Config::keys()
                .into_iter()
                .flat_map(|(section, keys)| keys.iter().map(move |key| (section.to_owned(), *key)))
                .filter(|(section, key)| (section.as_str(), *key) != ("dns", "hosts"))
                .collect();
            let (section, key) = &keys[index % keys.len()];
            let problems = |value: &str| {
                let table = match (section.as_str(), *key) {
                    ("allow", "pattern") => format!("[[allow]]\npattern = {value}\n"),
                    ("allow", _) => format!("[[allow]]\npattern = \"x.example\"\n{key} = {value}\n"),
                    ("egress", "connect_to") => format!("[egress.connect_to]\n{value} = \"127.0.0.1:1\"\n"),
                    _ => format!("[{section}]\n{key} = {value}\n"),
                };
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), table).unwrap();
                let loaded = load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() });
                                let problems = loaded.err().map(|errors| errors.problems).unwrap_or_default();
                problems.into_iter().filter(|problem| problem.concerns(section)).collect::<Vec<_>>()
            };
            let written = match shape {
                0 => format!("{value:?}"),
                1 => format!("[{value:?}]"),
                _ => if value.parse::<i64>().is_ok() && !value.starts_with('0') { value.clone() } else { format!("{value:?}") },
            };
            for problem in problems(&written) {
                for offered in corrections(&problem.message) {
                    let offered = match shape {
                        1 => format!("[{offered}]"),
                        _ => offered,
                    };
                    // What doesn't fit other keys is another matter than how a value is written.
                    let left: Vec<String> = problems(&offered)
                        .iter()
                        .map(ToString::to_string)
                        .filter(|text| !text.contains("takes this address") && !text.contains("length + breaks"))
                        .collect();
                    prop_assert_eq!(left, Vec::<String>::new(), "{} = {}: {}", key, written, problem.message);
                }
            }
        }

        #[test]
        fn any_document_is_judged(text in "\\PC{0,80}|(\\[\\[?[a-z]{1,6}\\]?\\]\n[a-z]{1,6} = [0-9\\[\\]{}\"a]{0,9}\n){1,4}") {
            let mut problems = Vec::new();
            let layer = Layer::document(Source::Default, &text, &mut problems);
            let _ = Figment::new().merge(layer);
        }
    }
}
