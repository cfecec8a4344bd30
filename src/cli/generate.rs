//! `ccpgate generate`: man pages and completions, from the same description of the command line that
//! parses it. Needs no configuration.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Failure, out};

/// Write man pages, or completions for shells, into a folder; print their paths.
#[derive(clap::Args)]
pub(super) struct Args {
    /// `man`: a page for each command; `completions`: for bash, zsh and fish.
    #[arg(value_enum, value_name = "man|completions")]
    what: What,
    /// The folder; it is made where it isn't there, and files of the same names are replaced.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Man,
    Completions,
}

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { what, folder } = self;
        let written = std::fs::create_dir_all(&folder).and_then(|()| what.write(&folder));
        let mut files = written.map_err(|error| {
            Failure::Usage(format!("can't write into {}: {error}; expected a folder", folder.display()))
        })?;
        files.sort();
        out::say(&files.iter().map(|file| format!("{}\n", file.display())).collect::<String>())
    }
}

impl What {
    /// The files that it wrote.
    fn write(self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut command = super::Args::command();
        match self {
            Self::Man => {
                // Global flags stand on every page, as they do in the help.
                command.build();
                pages(&command, folder)
            }
            Self::Completions => SHELLS
                .iter()
                .map(|shell| clap_complete::generate_to(*shell, &mut command, "ccpgate", folder))
                .collect(),
        }
    }
}

/// The page of a command, and those of the commands below it. `ccpgate help` has none.
fn pages(command: &clap::Command, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    let source = format!("ccpgate {}", crate::VERSION);
    let shown = match command.find_subcommand("help") {
        Some(_) => command.clone().mut_subcommand("help", |help| help.hide(true)),
        None => command.clone(),
    };
    let man = clap_mangen::Man::new(shown).title(name.to_uppercase());
    man.source(source).manual("User Commands").date("").render(&mut page)?;
    std::fs::write(&file, page)?;
    let mut files = vec![file];
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        files.extend(pages(below, folder)?);
    }
    Ok(files)
}
