//! `msb status`, also `ps`: what runs, and what it costs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::sandbox::{self, Client, Health, Kind, Live, Place, Record, State};
use crate::ui::{Table, age_of, human_bytes};

use super::Outcome;
use super::args::{Format, FormatArgs};
use super::failure::Failure;
use super::settings::Context;

/// Show running sandboxes, of all projects
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb ps\n  msb ps --all\n  msb status app --format json")]
pub(super) struct Args {
    /// Only sandboxes of these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// One line.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    kind: Kind,
    /// Folder of the Sandboxfile.
    project: Option<PathBuf>,
    image: String,
    state: State,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    exit_code: Option<u8>,
    message: Option<String>,
    restarts: u32,
    /// Where it has a health check: `starting`, `healthy` or `unhealthy`.
    health: Option<Health>,
    supervisor_pid: Option<u32>,
    vmm_pid: Option<u32>,
    hypervisor: Option<String>,
    cpus: Option<u8>,
    memory_mib: Option<u32>,
    /// Memory the machine takes on the host.
    resident_bytes: Option<u64>,
    /// Time processors of the host have spent on it.
    cpu_seconds: Option<f64>,
    disk_bytes: u64,
    /// Where it is in its groups.
    groups: Vec<Place>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut records = context.database()?.all()?;
        if let Some(name) = self.names.iter().find(|name| !records.iter().any(|record| record.name == **name))
        {
            return Err(Failure::new(format!("no sandbox `{name}` has ever run"))
                .hint("`msb list` shows what can be run"));
        }
        records.retain(|record| self.names.is_empty() || self.names.contains(&record.name));
        records.retain(|record| self.all || !self.names.is_empty() || is_up(record.state));
        let rows: Vec<Row> = records.into_iter().map(|record| row(context, record)).collect();
        match self.format.format {
            Format::Json => context.ui.json(&rows)?,
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }
}

fn is_up(state: State) -> bool {
    matches!(state, State::Starting | State::Running | State::Paused)
}

fn row(context: &Context, record: Record) -> Row {
    // One that is just ending has nothing to say, and is shown all the same.
    let live = is_up(record.state)
        .then(|| Client::connect(&context.paths, &record.name, &record.folder).ok()?.status().ok())
        .flatten();
    let vmm_pid = live.as_ref().and_then(|live: &Live| live.vmm_pid);
    Row {
        project: record.sandboxfile.as_deref().and_then(Path::parent).map(Path::to_owned),
        image: record.definition.image,
        state: live.as_ref().map_or(record.state, |live| live.state),
        started: record.started,
        finished: record.finished,
        exit_code: record.exit_code,
        message: record.message,
        restarts: record.restarts,
        health: live.as_ref().and_then(|live| Some(live.health.as_ref()?.status)),
        supervisor_pid: live.as_ref().map(|live| live.pid).or(record.pid),
        vmm_pid,
        hypervisor: live.as_ref().map(|live| live.hypervisor.clone()),
        cpus: live.as_ref().map(|live| live.cpus),
        memory_mib: live.as_ref().map(|live| live.memory_mib),
        resident_bytes: vmm_pid.and_then(sandbox::resident_bytes),
        cpu_seconds: vmm_pid.and_then(sandbox::cpu_time).as_ref().map(Duration::as_secs_f64),
        disk_bytes: sandbox::disk_usage(&record.folder),
        groups: live.map(|live| live.groups).unwrap_or_default(),
        name: record.name,
        kind: record.kind,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["NAME", "PROJECT", "STATE", "SINCE", "PID", "CPU TIME", "MEMORY", "DISK"]);
    for row in rows {
        let since = if is_up(row.state) { row.started } else { row.finished.or(row.started) };
        table.row([
            row.name.clone(),
            row.project.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
            health_text(state_text(row.state, row.exit_code, row.message.as_deref()), row.health),
            since.and_then(|time| age_of(&time.to_string())).unwrap_or_else(|| "-".to_owned()),
            row.supervisor_pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            row.cpu_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s")),
            row.resident_bytes.map_or_else(|| "-".to_owned(), human_bytes),
            human_bytes(row.disk_bytes),
        ]);
    }
    table
}

/// `running (healthy)`
fn health_text(state: String, health: Option<Health>) -> String {
    health.map_or_else(|| state.clone(), |health| format!("{state} ({health})"))
}

/// `running`, `stopped (3)`, `stopped: why`.
pub(super) fn state_text(state: State, exit_code: Option<u8>, message: Option<&str>) -> String {
    let word = match state {
        State::Created => "created",
        State::Starting => "starting",
        State::Running => "running",
        State::Paused => "paused",
        State::Stopped => "stopped",
    };
    match (state, exit_code, message) {
        (State::Stopped, Some(code), _) => format!("{word} ({code})"),
        (State::Stopped, None, Some(message)) => format!("{word}: {message}"),
        _ => word.to_owned(),
    }
}
