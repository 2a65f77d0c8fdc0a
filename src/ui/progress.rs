//! Progress of a pull or load: one bar per layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Ui, human_bytes};
use crate::image::{Event, LayerSummary, Progress};

const LAYER: &str = "{prefix:.dim} [{bar:30.green/dim}] {bytes:>10}/{total_bytes:<10} {binary_bytes_per_sec}";
const ENDED: &str = "{prefix:.dim} {msg}";

/// Draws what the image store reports. Bars vanish when this is dropped.
#[derive(Debug)]
pub struct PullProgress {
    ui: Ui,
    bars: MultiProgress,
    layers: Mutex<HashMap<usize, ProgressBar>>,
    status: Mutex<Option<ProgressBar>>,
}

impl PullProgress {
    /// Draws on standard error as `ui` allows.
    #[must_use]
    pub fn new(ui: Ui) -> Self {
        let target =
            if ui.draws_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { ui, bars, layers: Mutex::default(), status: Mutex::default() }
    }

    /// A line about the image as a whole: a spinner below the layers, or plain text.
    fn status(&self, text: String) {
        if !self.ui.draws_progress() {
            self.ui.note(text);
            return;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let spinner = status.get_or_insert_with(|| {
            let spinner = self.bars.add(ProgressBar::new_spinner());
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        spinner.set_message(text);
    }

    fn add_layers(&self, layers: &[LayerSummary]) {
        let mut bars = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, layer) in layers.iter().enumerate() {
            let bar = ProgressBar::new(layer.size)
                .with_prefix(short(&layer.digest.to_string()))
                .with_style(style(ENDED));
            bars.insert(index, self.bars.insert(index, bar.with_message("waiting")));
        }
    }

    fn with_layer(&self, layer: usize, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(&layer) {
            act(bar);
        }
    }

    fn end_layer(&self, layer: usize, message: &'static str) {
        self.with_layer(layer, |bar| {
            bar.set_style(style(ENDED));
            bar.finish_with_message(message);
        });
    }
}

impl Progress for PullProgress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Resolving { reference } => self.status(format!("Resolving {}", reference.short())),
            Event::Resolved { layers, bytes, reference, .. } => {
                self.add_layers(layers);
                let size = if bytes > 0 { format!(", {}", human_bytes(bytes)) } else { String::new() };
                self.status(format!("Getting {} ({} layers{size})", reference.short(), layers.len()));
            }
            Event::LayerCached { layer } => self.end_layer(layer, "already here"),
            Event::LayerStarted { layer, total } => self.with_layer(layer, |bar| {
                bar.set_length(total);
                bar.set_style(style(LAYER));
            }),
            Event::LayerProgress { layer, bytes } => self.with_layer(layer, |bar| bar.set_position(bytes)),
            Event::LayerDone { layer } => self.end_layer(layer, "done"),
            Event::Retrying { digest, offset, reason } => {
                let digest = short(&digest.to_string());
                self.status(format!("{reason}; resuming {digest} at {}", human_bytes(offset)));
            }
            Event::Notice(notice) => self.status(notice.to_string()),
            Event::WaitingForOtherProcess { digest } => {
                self.status(format!("Waiting for another msb to finish {}", short(&digest.to_string())));
            }
            Event::Assembling { reference } => self.status(format!("Assembling {}", reference.short())),
            _ => {}
        }
    }
}

impl Drop for PullProgress {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that does not take this.
        let _ = self.bars.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn short(digest: &str) -> String {
    digest.split(':').next_back().unwrap_or_default().chars().take(12).collect()
}
