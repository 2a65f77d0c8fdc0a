//! `msb net explain`.

use std::path::Path;

use super::super::Outcome;
use super::super::args::{FileArgs, Format, FormatArgs};
use super::super::failure::Failure;
use super::super::settings::Context;
use super::super::target::Target;
use super::NetworkArgs;
use crate::net::group::Registry;
use crate::net::policy::Direction;
use crate::net::{Circle, Explanation, Network, Whom};
use crate::sandbox;
use crate::ui::Table;

/// Say whether a sandbox may reach something, and which rule or scope decides
///
/// Names are looked up, as they would be for the sandbox. Nothing is connected to. For a sandbox that runs it is about what is in
/// force now, for others about what they would be started with. Between sandboxes of a group the rules of both decide. `unknown`
/// is what nobody can say, as when no name server answers.
#[derive(Debug, clap::Args)]
#[command(override_usage = "msb net explain [OPTIONS] [NAME] PEER")]
#[command(
    after_help = "Examples:\n  msb net explain app https://example.com\n  msb net explain app tcp://host:5432\n  \
    msb net explain --scope none --allow '*.example.com' tcp://api.example.com:443\n  \
    msb net explain app --from 192.168.1.5:8080    who may connect to its port 8080\n  \
    msb net explain app tcp://db:5432    another sandbox of a group of its"
)]
pub(in crate::cli) struct Args {
    /// The sandbox (without one: what the flags alone say), then a host or address with a port, as in
    /// tcp://example.com:443, https://example.com, udp://10.0.0.1:53, icmp://1.1.1.1
    // One list: clap takes the first of two arguments for the required one when a flag follows it.
    #[arg(value_name = "NAME PEER", required = true)]
    words: Vec<String>,
    /// PEER connects to the sandbox, whose published port it names
    #[arg(long)]
    from: bool,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let (name, peer) = match self.words.as_slice() {
            [peer] => (None, peer),
            [name, peer] => (Some(name), peer),
            words => {
                let words = words.join(" ");
                return Err(Failure::new(format!("`{words}`: one sandbox and one peer at a time")).code(2));
            }
        };
        let whom: Whom = peer.parse()?;
        let target = name.map(|name| context.target(&self.file.project(), name)).transpose()?;
        let (mut network, mut groups) = match &target {
            Some(target) => (context.network_of(target)?.0, target.definition.groups.clone()),
            None => (Network::default(), Vec::new()),
        };
        self.network.apply(&mut network)?;
        self.network.join(&mut groups);
        let groups = Registry::new(&context.paths).known(&groups).map_err(sandbox::Error::from)?;
        let circle = Circle {
            groups: &groups,
            folder: target.as_ref().map(|target| target.folder.as_path()),
            network: &|folder| context.network_in(folder),
        };
        let direction = if self.from { Direction::In } else { Direction::Out };
        let explained = network.explain(&whom, direction, &circle)?;
        match self.format.format {
            Format::Json => context.ui.json(&explained)?,
            Format::Table => context.ui.data(table(&explained))?,
        }
        Ok(0)
    }
}

impl Context {
    /// The network of the sandbox that keeps what it writes in `folder`, if it is known: the one in force, else the one it last had.
    fn network_in(&self, folder: &Path) -> Option<Network> {
        let record = self.database().ok()?.in_folder(folder).ok()??;
        Some(self.network_of(&Target::of_record(record)).ok()?.0)
    }
}

fn table(explained: &Explanation) -> Table {
    let mut table = Table::new(["STEP", "VERDICT", "DECIDED BY"]);
    let verdict = |allowed| match allowed {
        Some(true) => "allowed",
        Some(false) => "denied",
        None => "unknown",
    };
    for step in &explained.steps {
        table.row([step.what.clone(), verdict(step.allowed).to_owned(), step.reason.clone()]);
    }
    table
}
