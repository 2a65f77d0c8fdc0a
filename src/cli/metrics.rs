//! `msb metrics` and `msb top`: what goes on in running sandboxes.

use std::time::Duration;

use serde::Serialize;

use crate::agent::{self, Connection, Measurements, Metrics, MetricsSpec};
use crate::manifest::parse_duration;
use crate::net::gateway::Traffic;
use crate::sandbox::{self, headline};
use crate::ui::{self, Table, human_bytes};

use super::Outcome;
use super::args::{FileArgs, Format, FormatArgs};
use super::failure::Failure;
use super::settings::Context;
use super::target::Target;

/// Processes that `top` shows of each sandbox.
const TOP_PROCESSES: u16 = 15;
/// What a single look at a sandbox measures over.
const SAMPLE: Duration = Duration::from_millis(250);

/// Show processors, memory, disk and network of running sandboxes
///
/// Rates are over the interval, or over a quarter of a second where it is looked at once. --format json has all that is
/// measured, one array per look. CONNECTIONS are those that are open; DENIED is how often the network policy has refused something.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb metrics\n  msb metrics app --format json\n  msb metrics --watch --interval 5s app db"
)]
pub(super) struct MetricsArgs {
    /// Sandboxes [default: all that run here]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
    /// Go on until interrupted or all of them have ended
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2s")]
    interval: Duration,
    #[command(flatten)]
    format: FormatArgs,
}

/// Show the processes of running sandboxes, live
///
/// Ends with q or Ctrl-C, or when all of them have ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb top\n  msb top app --interval 500ms")]
pub(super) struct TopArgs {
    /// Sandboxes [default: all that run here]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: FileArgs,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2s")]
    interval: Duration,
}

/// One look at one sandbox, for programs.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Processors in use, 100 for one of them.
    cpu_percent: f64,
    /// Memory its machine takes on the host.
    resident_bytes: Option<u64>,
    /// What has gone over its network, as the host counts it.
    traffic: Option<Traffic>,
    guest: Metrics,
}

/// A sandbox that is looked at again and again.
struct Watched {
    target: Target,
    vmm_pid: Option<u32>,
    measurements: Measurements,
    last: Metrics,
    // Ends when this is dropped.
    _connection: Connection,
}

impl MetricsArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let targets = running(context, &self.file, &self.names)?;
        let interval = if self.watch { self.interval } else { SAMPLE };
        look(context, &targets, interval, 0, async |rows| {
            match self.format.format {
                Format::Json => context.ui.json(&rows)?,
                Format::Table => context.ui.data(table(rows))?,
            }
            Ok(self.watch)
        })
    }
}

impl TopArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if !ui::has_terminal() {
            return Err(Failure::new("`msb top` needs a terminal").hint("use `msb metrics --format json`"));
        }
        let targets = running(context, &self.file, &self.names)?;
        let screen = ui::Screen::enter()?;
        let result = look(context, &targets, self.interval, TOP_PROCESSES, async |rows| {
            screen.show(&page(rows))?;
            Ok(!screen.wants_to_quit())
        });
        drop(screen);
        result
    }
}

/// The sandboxes to look at.
fn running(context: &Context, file: &FileArgs, names: &[String]) -> Result<Vec<Target>, Failure> {
    if !names.is_empty() {
        return context.targets(&file.project(), names);
    }
    let project = file.project().load()?;
    let mut targets = context.all_targets(project.as_ref())?;
    targets.retain(|target| target.is_running().unwrap_or(false));
    if targets.is_empty() {
        return Err(Failure::new("no sandbox runs here").hint("`msb ps` shows those of other projects"));
    }
    Ok(targets)
}

/// Looks at all of them once per `interval`, until `show` has had enough or all of them have ended.
fn look(
    context: &Context,
    targets: &[Target],
    interval: Duration,
    processes: u16,
    mut show: impl AsyncFnMut(&[Row]) -> Result<bool, Failure>,
) -> Outcome {
    let clients = targets.iter().map(|target| Ok((target, target.client(context)?, target.client(context)?)));
    let clients = clients.collect::<Result<Vec<_>, Failure>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut watched = Vec::new();
        for (target, mut status, client) in clients {
            let vmm_pid = status.status()?.vmm_pid;
            let connection = client.join(false)?;
            let milliseconds = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).max(1);
            let spec = MetricsSpec { interval_ms: Some(milliseconds), processes };
            let mut measurements = agent::metrics(&connection, spec).map_err(failed)?;
            let last = measurements.next().await.map_err(failed)?.unwrap_or_default();
            let target = target.clone();
            watched.push(Watched { target, vmm_pid, measurements, last, _connection: connection });
        }
        loop {
            let mut rows = Vec::new();
            let mut still = Vec::new();
            for mut one in watched {
                // One that has ended is looked at no more.
                if let Ok(Some(now)) = one.measurements.next().await {
                    let live = one.target.client(context).ok().and_then(|mut client| client.status().ok());
                    rows.push(one.row(now, live.and_then(|live| live.traffic)));
                    still.push(one);
                }
            }
            watched = still;
            if watched.is_empty() || !show(&rows).await? {
                return Ok(0);
            }
        }
    });
    runtime.shutdown_background();
    result
}

fn failed(error: agent::ToolError) -> Failure {
    Failure::new(headline(&error))
}

impl Watched {
    fn row(&mut self, now: Metrics, traffic: Option<Traffic>) -> Row {
        let busy = now.cpu.total_ns.saturating_sub(self.last.cpu.total_ns);
        let time = now.uptime_ns.saturating_sub(self.last.uptime_ns).max(1);
        let row = Row {
            name: self.target.name().to_owned(),
            traffic,
            cpu_percent: busy as f64 * 100.0 / time as f64,
            resident_bytes: self.vmm_pid.and_then(sandbox::resident_bytes),
            guest: now.clone(),
        };
        self.last = now;
        row
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "NAME",
        "CPU",
        "MEMORY",
        "ON HOST",
        "DISK",
        "BLOCK IN / OUT",
        "NET IN / OUT",
        "CONNECTIONS",
        "DENIED",
        "PROCESSES",
    ]);
    for row in rows {
        let guest = &row.guest;
        table.row([
            row.name.clone(),
            format!("{:.1}%", row.cpu_percent),
            format!("{} / {}", human_bytes(guest.memory.used), human_bytes(guest.memory.total)),
            row.resident_bytes.map_or_else(|| "-".to_owned(), human_bytes),
            format!("{} / {}", human_bytes(guest.disk.used), human_bytes(guest.disk.size)),
            format!("{} / {}", human_bytes(guest.block.read_bytes), human_bytes(guest.block.written_bytes)),
            format!(
                "{} / {}",
                human_bytes(guest.network.read_bytes),
                human_bytes(guest.network.written_bytes)
            ),
            row.traffic.map_or_else(|| "-".to_owned(), |traffic| traffic.open.to_string()),
            row.traffic.map_or_else(|| "-".to_owned(), |traffic| traffic.denied.to_string()),
            guest.process_count.to_string(),
        ]);
    }
    table
}

/// A screen of `top`.
fn page(rows: &[Row]) -> String {
    let mut text = table(rows).to_string();
    for row in rows {
        let mut table = Table::new(["PID", "USER", "STATE", "TIME", "MEMORY", "COMMAND"]);
        for process in &row.guest.processes {
            table.row([
                process.pid.to_string(),
                process.uid.to_string(),
                process.state.to_string(),
                format!("{:.2} s", process.cpu_ns as f64 / 1e9),
                human_bytes(process.memory),
                String::from_utf8_lossy(process.command.as_bytes()).into_owned(),
            ]);
        }
        text.push_str(&format!("\n\n{}\n{table}", row.name));
    }
    text
}
