//! `msb image inspect`.

use serde::Serialize;

use crate::image::{Details, LayerDetails};
use crate::ui::{Table, age_of, human_bytes};

use super::super::Outcome;
use super::super::args::Format;
use super::super::settings::Context;
use super::super::{seconds, short_digest};

/// Show everything known about images
///
/// An image is named, or given by its digest or the first digits of one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  msb image inspect python:3.11\n  \
    msb image inspect 4f1c8e | jq -r '.[0].layers[].diff_id'")]
pub(in crate::cli) struct Args {
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Json, value_name = "FORMAT")]
    format: Format,
}

/// One image.
#[derive(Debug, Serialize)]
struct Inspected {
    digest: String,
    /// The index it was chosen from for this platform.
    index: Option<String>,
    media_type: String,
    names: Vec<String>,
    platform: String,
    /// When it was built, as its builder wrote it.
    created: Option<String>,
    size_bytes: u64,
    /// Seconds since 1970.
    last_used: u64,
    used_by: Vec<String>,
    config: Config,
    layers: Vec<LayerDetails>,
}

/// What the image says about how to run it.
#[derive(Debug, Serialize)]
struct Config {
    digest: String,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Vec<String>,
    volumes: Vec<String>,
    labels: std::collections::BTreeMap<String, String>,
}

impl Args {
    pub(in crate::cli) fn run(self, context: &Context) -> Outcome {
        let (store, uses) = (context.store()?, context.image_uses()?);
        let details = self.images.iter().map(|image| store.details(&context.selector(image), &uses));
        let inspected: Vec<Inspected> = details
            .map(|details| details.map(|details| inspected(context, details)))
            .collect::<Result<_, _>>()?;
        match self.format {
            Format::Json => context.ui.json(&inspected)?,
            Format::Table => {
                let tables: Vec<String> = inspected.iter().map(|image| table(image).to_string()).collect();
                context.ui.data(tables.join("\n\n"))?;
            }
        }
        Ok(0)
    }
}

fn inspected(context: &Context, details: Details) -> Inspected {
    let config = details.config;
    Inspected {
        digest: details.digest.to_string(),
        index: details.index.map(|index| index.to_string()),
        media_type: details.media_type,
        names: context.show_all(&details.names),
        platform: config.platform.to_string(),
        created: config.created,
        size_bytes: details.size,
        last_used: seconds(details.last_used),
        used_by: details.users,
        config: Config {
            digest: details.config_digest.to_string(),
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: config.working_dir,
            user: config.user,
            stop_signal: config.stop_signal,
            exposed_ports: config.exposed_ports,
            volumes: config.volumes,
            labels: config.labels,
        },
        layers: details.layers,
    }
}

fn table(image: &Inspected) -> Table {
    let mut table = Table::new(["DIGEST", &image.digest]);
    let mut row = |key: &str, value: String| {
        if !value.is_empty() {
            table.row([key.to_owned(), value]);
        }
    };
    let config = &image.config;
    row("NAMES", image.names.join(", "));
    row("PLATFORM", image.platform.clone());
    row("CREATED", image.created.as_deref().and_then(age_of).unwrap_or_default());
    row("SIZE", human_bytes(image.size_bytes));
    row("USED BY", image.used_by.join(", "));
    row("ENTRYPOINT", config.entrypoint.join(" "));
    row("CMD", config.cmd.join(" "));
    row("ENV", config.env.join(" "));
    row("WORKDIR", config.working_dir.clone().unwrap_or_default());
    row("USER", config.user.clone().unwrap_or_default());
    for layer in &image.layers {
        row(
            "LAYER",
            format!("{}   {}", short_digest(&layer.diff_id.to_string()), human_bytes(layer.size_bytes)),
        );
    }
    table
}
