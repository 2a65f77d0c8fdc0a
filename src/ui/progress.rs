//! Progress of a pull, load or push: on a terminal one bar per layer and one for the whole, plain lines elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Ui, human_bytes};
use crate::image::{Event, LayerSummary, Progress};

const LAYER: &str = "  {prefix:.dim} [{bar:30.green/dim}] {bytes:>10}/{total_bytes:<10} {binary_bytes_per_sec:>12} {msg:.yellow}";
const ENDED: &str = "  {prefix:.dim} {msg}";
const STATUS: &str = "{spinner} {msg}";
const TOTAL: &str = "{spinner} {msg}: {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// Draws what the image store reports about one image. Bars vanish when this is dropped.
#[derive(Debug)]
pub struct PullProgress {
    ui: Ui,
    bars: MultiProgress,
    state: Mutex<State>,
}

/// How a transfer is spoken of.
#[derive(Debug)]
struct Words {
    doing: &'static str,
    present: &'static str,
}

const PULLING: Words = Words { doing: "Getting", present: "already here" };
const PUSHING: Words = Words { doing: "Pushing", present: "already there" };

impl Default for &'static Words {
    fn default() -> Self {
        &PULLING
    }
}

#[derive(Debug, Default)]
struct State {
    words: &'static Words,
    layers: Vec<Layer>,
    /// By digest as the user sees it.
    numbers: HashMap<String, usize>,
    /// The line about the whole image, below its layers.
    whole: Option<ProgressBar>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    bar: ProgressBar,
    size: u64,
    started: Instant,
}

impl PullProgress {
    /// Draws on standard error as `ui` allows.
    #[must_use]
    pub fn new(ui: Ui) -> Self {
        let target =
            if ui.draws_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { ui, bars: MultiProgress::with_draw_target(target), state: Mutex::default() }
    }

    /// For another image, drawn below this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { ui: self.ui, bars: self.bars.clone(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line about the image as a whole: a spinner below the layers, or plain text.
    fn status(&self, text: String) {
        if self.ui.draws_progress() {
            self.whole(&mut self.state()).set_message(text);
        } else {
            self.ui.note(text);
        }
    }

    fn whole(&self, state: &mut State) -> ProgressBar {
        let whole = state.whole.get_or_insert_with(|| {
            let spinner = self.bars.add(ProgressBar::new_spinner().with_style(style(STATUS)));
            if self.ui.draws_progress() {
                spinner.enable_steady_tick(Duration::from_millis(120));
            }
            spinner
        });
        whole.clone()
    }

    fn add_layers(&self, words: &'static Words, image: &str, layers: &[LayerSummary], bytes: u64) {
        let size = if bytes > 0 { format!(", {}", human_bytes(bytes)) } else { String::new() };
        self.status(format!("{} {image} ({} layers{size})", words.doing, layers.len()));
        let mut state = self.state();
        state.words = words;
        let whole = self.whole(&mut state);
        whole.set_length(bytes);
        if bytes > 0 {
            whole.set_message(image.to_owned());
            whole.set_style(style(TOTAL));
        }
        for (number, layer) in layers.iter().enumerate() {
            let name = short(&layer.digest.to_string());
            let bar = ProgressBar::new(layer.size).with_prefix(name.clone()).with_style(style(ENDED));
            let bar = self.bars.insert_before(&whole, bar.with_message("waiting"));
            state.numbers.entry(name.clone()).or_insert(number);
            state.layers.push(Layer { name, bar, size: layer.size, started: Instant::now() });
        }
    }

    fn with_layer(&self, layer: usize, act: impl FnOnce(&mut Layer, &ProgressBar)) {
        let mut state = self.state();
        let whole = self.whole(&mut state);
        if let Some(layer) = state.layers.get_mut(layer) {
            act(layer, &whole);
        }
    }

    fn start(&self, layer: usize, total: u64) {
        self.with_layer(layer, |layer, _| {
            layer.started = Instant::now();
            layer.bar.reset();
            layer.bar.set_length(total);
            layer.bar.set_message("");
            layer.bar.set_style(style(LAYER));
        });
    }

    fn advance(&self, layer: usize, bytes: u64) {
        self.with_layer(layer, |layer, whole| {
            whole.inc(bytes.saturating_sub(layer.bar.position()));
            layer.bar.set_position(bytes);
        });
    }

    fn end(&self, layer: usize, is_new: bool) {
        let mut line = None;
        let present = self.state().words.present;
        self.with_layer(layer, |layer, whole| {
            let rate = layer.size as f64 / layer.started.elapsed().as_secs_f64().max(1e-3);
            let message = match is_new {
                true => format!("done, {} at {}/s", human_bytes(layer.size), human_bytes(rate as u64)),
                false => present.to_owned(),
            };
            if is_new {
                whole.inc(layer.size.saturating_sub(layer.bar.position()));
            } else {
                // What is not transferred is no part of what is left to do.
                whole.set_length(whole.length().unwrap_or_default().saturating_sub(layer.size));
            }
            layer.bar.set_style(style(ENDED));
            layer.bar.finish_with_message(message.clone());
            line = Some(format!("{} {message}", layer.name));
        });
        if let Some(line) = line.filter(|_| !self.ui.draws_progress()) {
            self.ui.note(line);
        }
    }

    fn resume(&self, digest: &str, offset: u64, reason: &str) {
        let name = short(digest);
        let (drawn, offset) = (self.ui.draws_progress(), human_bytes(offset));
        let number = self.state().numbers.get(&name).copied();
        match number {
            Some(number) if drawn => {
                self.with_layer(number, |layer, _| layer.bar.set_message(format!("resumed at {offset}")));
            }
            _ => self.status(format!("{reason}; resuming {name} at {offset}")),
        }
    }
}

impl Progress for PullProgress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Resolving { reference } => self.status(format!("Resolving {}", reference.short())),
            Event::Resolved { layers, bytes, reference, .. } => {
                self.add_layers(&PULLING, &reference.short(), layers, bytes);
            }
            Event::Pushing { reference, layers } => {
                self.add_layers(
                    &PUSHING,
                    &reference.short(),
                    layers,
                    layers.iter().map(|layer| layer.size).sum(),
                );
            }
            Event::LayerCached { layer } => self.end(layer, false),
            Event::LayerStarted { layer, total } => self.start(layer, total),
            Event::LayerProgress { layer, bytes } => self.advance(layer, bytes),
            Event::LayerDone { layer } => self.end(layer, true),
            Event::Retrying { digest, offset, reason } => self.resume(&digest.to_string(), offset, reason),
            Event::Notice(notice) => {
                // A word that stays: bars go, and with them what is written on them.
                self.bars.suspend(|| self.ui.note(notice));
            }
            Event::WaitingForOtherProcess { digest } => {
                self.status(format!("Waiting for another pull of {}", short(&digest.to_string())));
            }
            Event::Assembling { reference } => {
                self.whole(&mut self.state()).set_style(style(STATUS));
                self.status(format!("Assembling {}", reference.short()));
            }
            _ => {}
        }
    }
}

impl Drop for PullProgress {
    fn drop(&mut self) {
        let state = self.state();
        for bar in state.layers.iter().map(|layer| &layer.bar).chain(&state.whole) {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
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
