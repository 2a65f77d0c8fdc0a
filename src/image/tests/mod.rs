//! The store as a whole: against a real registry, a registry that misbehaves, and archives of real tools.
#![allow(clippy::unwrap_used)]

mod authorization;
mod export;
mod fake_registry;
mod fixture;
mod hostile;
mod hostile_archives;
mod load;
mod processes;
mod pull;
mod registries;
mod removal;
mod store;

use std::path::Path;
use std::sync::Mutex;

use super::*;

/// Keeps what was reported, as short words.
#[derive(Default)]
struct Record(Mutex<Vec<String>>);

impl Record {
    fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.starts_with(word)).count()
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Progress for Record {
    fn event(&self, event: Event<'_>) {
        let word = match event {
            Event::Resolving { .. } => "resolving".to_owned(),
            Event::Resolved { layers, bytes, .. } => format!("resolved {} {bytes}", layers.len()),
            Event::LayerCached { layer } => format!("cached {layer}"),
            Event::LayerStarted { layer, total } => format!("started {layer} {total}"),
            Event::LayerProgress { layer, bytes } => format!("progress {layer} {bytes}"),
            Event::LayerDone { layer } => format!("done-layer {layer}"),
            Event::Retrying { offset, .. } => format!("retrying {offset}"),
            Event::Notice(notice) => format!("notice {notice}"),
            Event::WaitingForOtherProcess { .. } => "waiting".to_owned(),
            Event::Pushing { layers, .. } => format!("pushing {}", layers.len()),
            Event::Assembling { .. } => "assembling".to_owned(),
            Event::Done { digest, .. } => format!("done {digest}"),
        };
        self.0.lock().unwrap().push(word);
    }
}

/// All files of a store by path relative to it, sorted.
fn files(root: &Path) -> Vec<String> {
    let mut found: Vec<String> = walkdir::WalkDir::new(root)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| entry.path().strip_prefix(root).unwrap().display().to_string())
        .collect();
    found.sort();
    found
}

/// Nothing but empty folders.
fn assert_empty(root: &Path) {
    assert_eq!(files(root), Vec::<String>::new());
}

/// A complete image: every file is there and `fsck.erofs` has no complaint about the layers.
fn assert_sound(image: &Image) {
    let descriptor = std::fs::read_to_string(&image.disk).unwrap();
    for extent in &image.extents {
        assert!(descriptor.contains(&format!("\"{}\"", extent.display())), "{descriptor}");
        assert!(super::store::is_intact(extent), "{}", extent.display());
    }
    assert_eq!(image.extents.len(), image.config.diff_ids.len() + 1);
    assert!(image.extents[0].with_file_name("manifest.json").is_file());
}
