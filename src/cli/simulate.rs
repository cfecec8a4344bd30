//! `ccpgate simulate`.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::runtime::Runtime;

use super::folder::{Folder, SIMULATE};
use super::out::{say, tell};
use super::stage::{Signals, configuration};
use super::{Failure, load};
use crate::catalogue::{self, Choice};
use crate::config::Sources;
use crate::simulate::faults::Rated;
use crate::simulate::{CALL, Region};

/// What the simulated attachments lie in.
const BUCKET: &str = "simulated";
/// The instance, where none is named.
const ALIAS: &str = "acme";

/// Run a Connect region on loopback, and print the configuration that reaches it. Ends with Ctrl-C.
///
/// A line NAME=RATE on standard input changes a fault while it runs.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The region to be; default: the first of connect.regions.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The alias of its instance.
    #[arg(long, value_name = "ALIAS", default_value = ALIAS)]
    instance: String,
    /// A fault and the share of calls that it hits, as in ws_cut=0.05; may be given again.
    #[arg(long, value_name = "NAME=RATE")]
    fault: Vec<Rated>,
    /// With another seed the faults fall on other calls.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Where ca.pem is written; default: a folder of its own, which goes with the process.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, _) = load::plan(sources)?;
        let choice = choice(&loaded.config.connect, self.region.as_deref(), Some(&self.instance))?;
        let temporary;
        let folder = match &self.folder {
            Some(folder) => folder,
            None => {
                temporary = Folder::new(SIMULATE).map_err(cannot)?;
                temporary.path()
            }
        };
        let runtime = Runtime::new().map_err(cannot)?;
        let ended = runtime.block_on(self.simulate(&choice, folder));
        // A read of standard input, which nothing ends, must not hold the end back.
        runtime.shutdown_background();
        ended
    }

    async fn simulate(&self, choice: &Choice, folder: &Path) -> Result<(), Failure> {
        // Before anything is said: whoever hears that the region is ready may end it at once.
        let mut signals = Signals::new().map_err(cannot)?;
        let region = Region::start(&choice.regions[0], self.seed).await.map_err(cannot)?;
        self.fault.iter().for_each(|rated| region.faults().set(*rated));
        let ca = folder.join("ca.pem");
        fs::write(&ca, region.authority())
            .map_err(|error| Failure::Usage(format!("{}: can't be written: {error}", ca.display())))?;
        let configuration = configuration(&region, choice).map_err(cannot)?;
        say(&format!(
            "# A simulated Connect region. It lives until this process ends.\n# ca: {}\n# url: {}\n\n{configuration}\n\
             # Ready. A line NAME=RATE on standard input changes a fault.",
            ca.display(),
            region.url(CALL),
        ))?;
        tokio::select! {
            () = signals.next() => {}
            () = change(&region) => {}
        }
        Ok(())
    }
}

/// The part of a list that a simulated region stands for: one region and one instance of it, by default the
/// first ones that it has.
pub(super) fn choice(
    connect: &Choice,
    region: Option<&str>,
    instance: Option<&str>,
) -> Result<Choice, Failure> {
    let wrong = |given: String, why: String| Failure::Usage(format!("--{given}: {why}"));
    // A list of all regions, or instances, begins with a star.
    let first = |all: &[String], other: &str| {
        all.iter().find(|one| *one != "*").cloned().unwrap_or_else(|| other.to_owned())
    };
    let code = match region {
        Some(code) => catalogue::region(code).map_err(|why| wrong(format!("region {code}"), why))?,
        None => first(&connect.regions, "us-east-1"),
    };
    let alias = match instance {
        Some(alias) => catalogue::alias(alias).map_err(|hint| {
            let why = format!("an alias has 1 to 63 letters, digits and inner hyphens {hint}");
            wrong(format!("instance {alias:?}"), why.trim_end().to_owned())
        })?,
        None => first(&connect.instances, ALIAS),
    };
    Ok(Choice {
        regions: vec![code],
        instances: vec![alias],
        attachment_buckets: vec![BUCKET.to_owned()],
        ..connect.clone()
    })
}

fn cannot(why: impl fmt::Display) -> Failure {
    Failure::Usage(format!("can't simulate a region: {why}"))
}

/// Follows what is written on standard input; never ends.
async fn change(region: &Region) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.parse::<Rated>() {
            Ok(rated) => {
                region.faults().set(rated);
                tell(format_args!("fault {rated}"));
            }
            Err(_) if line.trim().is_empty() => {}
            Err(why) => tell(why),
        }
    }
    std::future::pending().await
}
