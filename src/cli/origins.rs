//! `ccpgate origins`: the commands that approve the sites which embed the panel.

use std::fmt::Write as _;

use serde::Serialize;

use super::out::{say, say_json, tell};
use super::{Failure, load};
use crate::config::Sources;
use crate::ranges::select::Wanted;

/// Print the commands that approve the sites of connect.origins, which embed the panel.
///
/// AWS wants each site approved for each instance, by the instance's id.
#[derive(clap::Args)]
pub(super) struct Args {
    /// As an object.
    #[arg(long)]
    json: bool,
}

/// Stands for an id that isn't known.
const PLACEHOLDER: &str = "INSTANCE_ID";

#[derive(Serialize)]
struct Origins {
    schema_version: u32,
    /// Look the ids up; none where they are configured.
    lookups: Vec<String>,
    approvals: Vec<Approval>,
}

#[derive(Serialize)]
struct Approval {
    origin: String,
    instance_id: Option<String>,
    command: String,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        load::warn_in_short(sources, &loaded.config, &plan);
        let connect = &loaded.config.connect;
        if connect.origins.is_empty() {
            return Err(Failure::Usage(
                "connect.origins names no site; set it to those that embed the panel, such as \
                 [\"https://crm.example\"]"
                    .to_owned(),
            ));
        }
        let regions = Wanted::new(connect, false).regions;
        // An id doesn't tell its region.
        let region = match &regions[..] {
            [only] => only.as_str(),
            _ => "REGION",
        };
        let known = &connect.instance_ids;
        let ids: Vec<Option<&str>> = match &known[..] {
            [] => vec![None],
            known => known.iter().map(|id| Some(id.as_str())).collect(),
        };
        let mut approvals = Vec::new();
        for id in ids {
            approvals.extend(connect.origins.iter().map(|origin| Approval {
                origin: origin.clone(),
                instance_id: id.map(str::to_owned),
                command: format!(
                    "aws connect associate-approved-origin --region {region} --instance-id {} --origin {origin}",
                    id.unwrap_or(PLACEHOLDER)
                ),
            }));
        }
        let all = Origins {
            schema_version: 1,
            lookups: if known.is_empty() { lookups(&regions, &connect.instances) } else { Vec::new() },
            approvals,
        };
        if region == "REGION" {
            tell("connect.regions names several: write that of the instance in place of REGION");
        }
        if self.json { say_json(&all) } else { say(&all.text()) }
    }
}

impl Origins {
    fn text(&self) -> String {
        let mut text = String::new();
        if !self.lookups.is_empty() {
            let _ =
                writeln!(text, "# connect.instance_ids is empty. These give what {PLACEHOLDER} stands for:");
            for lookup in &self.lookups {
                let _ = writeln!(text, "{lookup}");
            }
            text.push('\n');
        }
        text.push_str(
            "# Once each; `DuplicateResourceException` says that it is approved already. It takes a few minutes to \
             have effect.\n",
        );
        for approval in &self.approvals {
            let _ = writeln!(text, "{}", approval.command);
        }
        text
    }
}

/// A command for each instance, or for all of a region.
fn lookups(regions: &[String], instances: &[String]) -> Vec<String> {
    let mut lookups = Vec::new();
    for region in regions {
        for alias in instances {
            let query = match alias.as_str() {
                "*" => "InstanceSummaryList[].[InstanceAlias,Id]".to_owned(),
                alias => format!("InstanceSummaryList[?InstanceAlias=='{alias}'].Id"),
            };
            lookups.push(format!(
                "aws connect list-instances --region {region} --query \"{query}\" --output text"
            ));
        }
    }
    lookups
}
