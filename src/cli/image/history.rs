//! `msb image history`.

use serde::Serialize;

use crate::image::Details;
use crate::ui::{Table, age_of, human_bytes};

use super::super::Outcome;
use super::super::args::{Format, FormatArgs};
use super::super::settings::Context;
use super::super::short_digest;

/// Longest command shown in the table.
const LONGEST: usize = 60;

/// Show how an image was built, the latest step first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  msb image history python:3.11")]
pub(in crate::cli) struct Args {
    /// Image: a name, a digest, or the first digits of one
    image: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// One step.
#[derive(Debug, Serialize)]
struct Row {
    /// The layer it made, by diff_id; none where it changed no file.
    layer: Option<String>,
    created: Option<String>,
    created_by: String,
    comment: String,
    /// What the layer takes here.
    size_bytes: u64,
}

impl Args {
    pub(in crate::cli) fn run(self, context: &Context) -> Outcome {
        let rows = rows(&context.store()?.details(&context.selector(&self.image), &[])?);
        match self.format.format {
            Format::Json => context.ui.json(&rows)?,
            Format::Table => context.ui.data(table(&rows))?,
        }
        Ok(0)
    }
}

/// The steps with their layers. Layers that no step accounts for come as steps of their own.
fn rows(details: &Details) -> Vec<Row> {
    let mut layers = details.layers.iter();
    let mut rows: Vec<Row> = Vec::new();
    for entry in &details.history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        rows.push(Row {
            layer: layer.map(|layer| layer.diff_id.to_string()),
            created: entry.created.clone(),
            created_by: entry.created_by.clone(),
            comment: entry.comment.clone(),
            size_bytes: layer.map_or(0, |layer| layer.size_bytes),
        });
    }
    rows.extend(layers.map(|layer| Row {
        layer: Some(layer.diff_id.to_string()),
        created: None,
        created_by: String::new(),
        comment: String::new(),
        size_bytes: layer.size_bytes,
    }));
    rows.reverse();
    rows
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["LAYER", "CREATED", "SIZE", "CREATED BY", "COMMENT"]);
    for row in rows {
        table.row([
            row.layer.as_deref().map_or_else(|| "-".to_owned(), short_digest),
            row.created.as_deref().and_then(age_of).unwrap_or_default(),
            human_bytes(row.size_bytes),
            one_line(&row.created_by),
            one_line(&row.comment),
        ]);
    }
    table
}

/// A builder's text on one line of bounded length.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_on_one_line() {
        assert_eq!(one_line("RUN a \\\n\t && b\u{1b}"), "RUN a \\ && b");
        assert_eq!(one_line(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }
}
