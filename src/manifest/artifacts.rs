//! `imports:` and `exports:`, files that a sandbox gets from the host or from another sandbox, and those it gives.
//!
//! ```yaml
//! train:
//!   exports: {model: /out/model.bin}     # a name, and the file or folder of this sandbox
//! web:
//!   imports:
//!     model: /srv/model.bin              # what the one sandbox exports that has something of this name
//!     train: {model: /srv/model.bin}     # the same, said in full
//!     ./web.conf: /etc/web.conf          # a file of the host
//! ```

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::check::{Checker, Problem, is_name};
use super::decode::{Text, or_default, short};
use super::depends::{Condition, Dependencies};
use super::error::meant;
use super::keys::nearest;
use super::spec::{SandboxSpec, Sandboxfile};
use super::volume::target_of;

/// What a sandbox exports: names, and files or folders in it by absolute paths.
pub type Exports = IndexMap<String, String>;

/// What a sandbox imports, as it is written.
pub type Imports = IndexMap<String, Imported>;

/// The value of one entry of `imports:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Imported {
    /// Where the one thing goes that the key means: a path of the host, or the name of an export.
    To(String),
    /// Where the exports go of the sandbox that the key names.
    Of(IndexMap<String, String>),
}

/// One thing that a sandbox imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import<'a> {
    /// What.
    pub source: ImportSource<'a>,
    /// Where in the sandbox: an absolute path.
    pub target: &'a str,
}

/// What is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportSource<'a> {
    /// A file or folder of the host, as written: absolute, relative to the Sandboxfile, or below `~`.
    Host(&'a str),
    /// What another sandbox of the project exports.
    Export {
        /// The sandbox; `None` for the only one that exports something of this name.
        sandbox: Option<&'a str>,
        /// The name of the export.
        name: &'a str,
    },
}

impl SandboxSpec {
    /// Everything it imports, in the order it is written.
    pub fn imported(&self) -> impl Iterator<Item = Import<'_>> {
        self.imports.iter().flat_map(|(key, imported)| match imported {
            Imported::To(target) if is_host(key) => {
                vec![Import { source: ImportSource::Host(key), target }]
            }
            Imported::To(target) => {
                vec![Import { source: ImportSource::Export { sandbox: None, name: key }, target }]
            }
            Imported::Of(names) => {
                let of = |(name, target)| {
                    let source = ImportSource::Export { sandbox: Some(key.as_str()), name };
                    Import { source, target }
                };
                names.iter().map(|(name, target)| of((name.as_str(), target.as_str()))).collect()
            }
        })
    }
}

/// Whether the key of an import is a path of the host.
fn is_host(key: &str) -> bool {
    key.starts_with(['/', '.', '~'])
}

/// An absolute path in a sandbox, checked where the reader knows its place.
struct Place(String);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        target_of(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Imported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImportedVisitor;
        impl<'de> Visitor<'de> for ImportedVisitor {
            type Value = Imported;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an absolute path in the sandbox, or a map from names of exports to such paths")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Imported, E> {
                target_of(text.as_bytes()).map(Imported::To).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Imported, A::Error> {
                let mut names = IndexMap::new();
                while let Some((Text(name), Place(target))) = map.next_entry()? {
                    names.insert(name, target);
                }
                Ok(Imported::Of(names))
            }
        }
        deserializer.deserialize_any(ImportedVisitor)
    }
}

pub(super) fn exports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Exports, D::Error> {
    let read: IndexMap<Text, Place> = or_default(deserializer)?;
    Ok(read.into_iter().map(|(Text(name), Place(path))| (name, path)).collect())
}

/// Checks the names of what one sandbox exports and imports.
pub(super) fn check(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    let wrong = |keys: &[&str], rule: &str, hint: &str| {
        let mut problem = checker.problem(keys, rule, Some(hint));
        problem.at_key = true;
        Err(problem)
    };
    let names = "a name has letters, digits, `_`, `.` and `-`, and begins with a letter or digit";
    if let Some(name) = spec.exports.keys().find(|name| !is_name(name)) {
        return wrong(&["exports", name], "is not a name", names);
    }
    if spec.idle && !spec.exports.is_empty() {
        let hint = "files are exported when a main process has ended well; an idle sandbox has none";
        return wrong(&["exports"], "is not for one that is idle", hint);
    }
    for (key, imported) in &spec.imports {
        let at = ["imports", key.as_str()];
        match imported {
            Imported::Of(_) if is_host(key) => {
                return wrong(&at, "takes one path", "write the path in the sandbox behind the colon");
            }
            Imported::To(_) if key.starts_with('~') && key != "~" && !key.starts_with("~/") => {
                return wrong(&at, "is somebody else's", "only one's own home folder can be written with ~");
            }
            Imported::To(_) if is_host(key) => {}
            _ if !is_name(key) => {
                return wrong(&at, "is neither a name nor a path", "write a path of the host as ./file");
            }
            Imported::Of(names_of) if names_of.is_empty() => {
                return wrong(&at, "imports nothing", "name an export and where it goes: `{model: /model}`");
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the sandbox `name` needs of others: `depends_on`, and to have completed whom it imports from.
///
/// Where `file` still has modules, what may be in them is left out.
pub(super) fn needs(file: &Sandboxfile, name: &str, spec: &SandboxSpec) -> Result<Dependencies, Problem> {
    let mut needs = spec.depends_on.clone();
    for import in spec.imported() {
        let ImportSource::Export { sandbox, name: export } = import.source else { continue };
        let Some(exporter) = exporter(file, name, (sandbox, export))? else { continue };
        let condition = needs.entry(exporter.to_owned()).or_default();
        *condition = Condition::Completed.max(*condition);
    }
    Ok(needs)
}

/// Says of every import whose it is, and makes it a dependency.
pub(super) fn link(file: &mut Sandboxfile) -> Result<(), Problem> {
    let mut linked = IndexMap::new();
    for (name, spec) in file.sandboxes.iter().filter(|(_, spec)| !spec.imports.is_empty()) {
        let mut imports = Imports::new();
        for import in spec.imported() {
            let ImportSource::Export { sandbox, name: export } = import.source else {
                let ImportSource::Host(path) = import.source else { continue };
                imports.insert(path.to_owned(), Imported::To(import.target.to_owned()));
                continue;
            };
            let Some(exporter) = exporter(file, name, (sandbox, export))? else { continue };
            let of = imports.entry(exporter.to_owned()).or_insert_with(|| Imported::Of(IndexMap::new()));
            if let Imported::Of(names) = of {
                names.insert(export.to_owned(), import.target.to_owned());
            }
        }
        linked.insert(name.clone(), (imports, needs(file, name, spec)?));
    }
    for (name, (imports, depends_on)) in linked {
        if let Some(spec) = file.sandboxes.get_mut(&name) {
            (spec.imports, spec.depends_on) = (imports, depends_on);
        }
    }
    Ok(())
}

/// The sandbox that exports what `name` imports; `None` for one that may be in a module.
fn exporter<'f>(
    file: &'f Sandboxfile,
    name: &str,
    (sandbox, export): (Option<&str>, &str),
) -> Result<Option<&'f str>, Problem> {
    let checker = Checker { name };
    let refused = |message: String, hint: Option<String>| {
        let keys: Vec<&str> = ["imports"].into_iter().chain(sandbox).chain([export]).collect();
        let mut problem = checker.problem(&keys, "", hint.as_deref());
        problem.message = format!("sandbox `{}` imports {message}", short(name));
        problem.at_key = true;
        Err(problem)
    };
    if let Some(sandbox) = sandbox {
        let Some((exporter, spec)) = file.sandboxes.get_key_value(sandbox) else {
            if file.takes(sandbox) {
                return Ok(None);
            }
            let near = nearest(sandbox, file.sandboxes.keys().map(String::as_str));
            return refused(format!("from `{}`, which does not exist", short(sandbox)), meant(&near));
        };
        if !spec.exports.contains_key(export) {
            let near = nearest(export, spec.exports.keys().map(String::as_str));
            let hint = meant(&near).unwrap_or_else(|| format!("add `exports: {{{export}: /path}}` to it"));
            return refused(format!("`{}`, which `{sandbox}` does not export", short(export)), Some(hint));
        }
        return Ok(Some(exporter));
    }
    let others = file.sandboxes.iter().filter(|(other, _)| *other != name);
    let found: Vec<&str> = others
        .clone()
        .filter(|(_, spec)| spec.exports.contains_key(export))
        .map(|(name, _)| name.as_str())
        .collect();
    match found.as_slice() {
        [one] => Ok(Some(one)),
        [] if !file.modules.is_empty() => Ok(None),
        [] => {
            let near = nearest(export, others.flat_map(|(_, spec)| spec.exports.keys()).map(String::as_str));
            let hint = meant(&near).unwrap_or_else(|| "write a file of the host as ./file".to_owned());
            refused(format!("`{}`, which no other sandbox exports", short(export)), Some(hint))
        }
        [one, other, ..] => {
            let hint = format!("say whose it is: `{one}: {{{export}: /path}}`");
            refused(format!("`{}`, which `{one}` and `{other}` export", short(export)), Some(hint))
        }
    }
}

#[cfg(test)]
#[path = "artifacts/tests.rs"]
mod tests;
