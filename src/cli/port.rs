//! `msb port`.

use crate::net::port::{PortSpec, Transport};
use crate::sandbox::Published;
use crate::ui::Table;

use super::Outcome;
use super::args::{FileArgs, Format, FormatArgs};
use super::failure::Failure;
use super::settings::Context;

/// Show where the ports of a running sandbox are published
///
/// With PORT, only the addresses of that one are printed, one per line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb port web\n  msb port web 80\n  msb port dns 53/udp")]
pub(super) struct Args {
    /// Sandbox: of the Sandboxfile, made by `create`, or installed
    name: String,
    /// Port of the sandbox
    #[arg(value_name = "PORT[/udp]")]
    port: Option<PortSpec>,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let target = context.target(&self.file.project(), &self.name)?;
        let live = target.client(context)?.status()?;
        let wanted = |published: &&Published| match &self.port {
            None => true,
            Some(port) => published.guest == port.guest && published.transport == port.transport,
        };
        let ports: Vec<Published> = live.ports.iter().filter(wanted).copied().collect();
        match (&self.port, self.format.format) {
            (Some(port), _) if ports.is_empty() => {
                let name = text(port.guest, port.transport);
                return Err(Failure::new(format!("port {name} of sandbox `{}` is not published", self.name))
                    .hint("`msb port` with the name alone lists those that are"));
            }
            (_, Format::Json) => context.ui.json(&ports)?,
            (Some(_), Format::Table) => {
                for published in ports {
                    context.ui.data(published.host)?;
                }
            }
            (None, Format::Table) => {
                let mut table = Table::new(["PORT", "PUBLISHED AT"]);
                for published in ports {
                    let port = text(published.guest, published.transport);
                    table.row([port, published.host.to_string()]);
                }
                context.ui.data(table)?;
            }
        }
        Ok(0)
    }
}

fn text(port: u16, transport: Transport) -> String {
    format!("{port}/{transport}")
}
