//! Changes to the text of a Sandboxfile that leave every other line as it is.
//!
//! The text is never printed anew from the types: an edit finds the bytes of an entry through the YAML parser and
//! inserts or cuts whole lines there. The outcome is read again and compared with what was wanted before anybody
//! sees it, so that an unusual way of writing YAML ends in [`Error::CannotEdit`] and not in a broken file.

mod insert;
mod lines;
mod remove;
mod write;

use std::path::Path;

use indexmap::IndexMap;

use super::error::Error;
use super::save::{self, Lock};
use super::spec::{SandboxSpec, Sandboxfile};
use super::{LARGEST_FILE, check, parse};
use write::Style;

/// `text` with the sandbox `name` after all others; `path` is named in errors.
///
/// # Errors
/// [`Error::SandboxExists`]; [`Error::Invalid`] when the name or `spec` breaks a rule; what [`parse`] says about
/// `text`; [`Error::CannotEdit`].
pub fn add(text: &str, path: &Path, name: &str, spec: &SandboxSpec) -> Result<String, Error> {
    check::sandbox(name, spec).map_err(check::Problem::without_place)?;
    let mut wanted = parse(text, path)?;
    if wanted.sandboxes.contains_key(name) {
        return Err(Error::SandboxExists { name: name.to_owned() });
    }
    wanted.sandboxes.insert(name.to_owned(), spec.clone());
    check::file(&wanted).map_err(check::Problem::without_place)?;
    // A body that does not survive as a block is written in quotes.
    for style in [Style::Blocks, Style::Quotes] {
        let entry = write::Entry { name, spec, style };
        let Some(edited) = insert::insert(text, &entry) else { continue };
        if edited.len() > LARGEST_FILE {
            return Err(Error::TooLarge { path: path.to_owned(), limit: LARGEST_FILE });
        }
        if is(&edited, path, &wanted) {
            return Ok(edited);
        }
    }
    Err(Error::CannotEdit { reason: format!("`{name}` does not fit into the way `sandboxes` is written") })
}

/// `text` without the sandboxes `names`, each with its own comments; `path` is named in errors.
///
/// # Errors
/// [`Error::UnknownSandbox`] for a name that is not there; what [`parse`] says about `text`;
/// [`Error::CannotEdit`], for one when another sandbox uses a part of this one through a YAML anchor.
pub fn remove<S: AsRef<str>>(text: &str, path: &Path, names: &[S]) -> Result<String, Error> {
    let mut wanted = parse(text, path)?;
    for name in names {
        wanted.sandbox(name.as_ref())?;
    }
    let mut edited = text.to_owned();
    for name in names.iter().map(AsRef::as_ref) {
        // A name given twice is gone already.
        if wanted.sandboxes.shift_remove(name).is_none() {
            continue;
        }
        edited =
            remove::remove(&edited, name).filter(|edited| is(edited, path, &wanted)).ok_or_else(|| {
                Error::CannotEdit { reason: format!("other parts of the file depend on `{name}`") }
            })?;
    }
    Ok(edited)
}

/// Whether `text` means `wanted`, order included.
fn is(text: &str, path: &Path, wanted: &Sandboxfile) -> bool {
    let same_order =
        |a: &IndexMap<String, SandboxSpec>, b: &IndexMap<String, SandboxSpec>| a.keys().eq(b.keys());
    parse(text, path).is_ok_and(|got| got == *wanted && same_order(&got.sandboxes, &wanted.sandboxes))
}

/// Adds sandboxes to the file `path`: all or none, in one step, taking turns with other writers.
///
/// # Errors
/// As [`add`]; [`Error::Read`], [`Error::Write`], [`Error::Busy`].
pub fn add_to_file(path: &Path, sandboxes: &[(&str, &SandboxSpec)]) -> Result<(), Error> {
    change(path, |text| {
        sandboxes.iter().try_fold(text.to_owned(), |text, (name, spec)| add(&text, path, name, spec))
    })
}

/// Removes sandboxes from the file `path`: all or none, in one step, taking turns with other writers.
///
/// # Errors
/// As [`remove`]; [`Error::Read`], [`Error::Write`], [`Error::Busy`].
pub fn remove_from_file<S: AsRef<str>>(path: &Path, names: &[S]) -> Result<(), Error> {
    change(path, |text| remove(text, path, names))
}

/// Reads, changes and replaces a file under one lock, so that no other edit falls in between.
fn change(path: &Path, edit: impl FnOnce(&str) -> Result<String, Error>) -> Result<(), Error> {
    let target = save::behind_links(path)?;
    let lock = Lock::beside(&target)?;
    let text = save::read(path)?;
    let edited = edit(&text)?;
    if edited == text { Ok(()) } else { save::replace(&lock, &target, edited.as_bytes()) }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
