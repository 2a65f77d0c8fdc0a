//! `modules:`, sandboxes of other Sandboxfiles that belong to this project as well, under names of its own.
//!
//! ```yaml
//! modules:
//!   ../database:              # a Sandboxfile, or the folder of one, relative to this file
//!     db:                     # its sandbox `db`, under the same name
//!     migrate: {as: prepare}  # its sandbox `migrate`, here called `prepare`
//! ```

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::artifacts::{self, Imported, Imports};
use super::check::{self, Problem};
use super::decode::short;
use super::error::{Error, meant};
use super::keys::nearest;
use super::locate::locate;
use super::spec::{SandboxSpec, Sandboxfile};
use super::volume::VolumeSource;
use super::{depends, diagnose, save};

/// Most files that one project is made of.
const MOST_FILES: usize = 64;

/// By path of a Sandboxfile, what is taken from it.
pub type Modules = IndexMap<String, Components>;

/// By its name there, each sandbox that is taken.
pub type Components = IndexMap<String, Option<Component>>;

/// How a sandbox is taken from another Sandboxfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name in this project; the one it has there when left out.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

impl Sandboxfile {
    /// Whether `name` is here that of a sandbox of a module.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.modules.values().flat_map(names).any(|(_, here)| here == name)
    }
}

/// The sandboxes taken from one module: their names there and here.
fn names(components: &Components) -> impl Iterator<Item = (&str, &str)> {
    components.iter().map(|(there, taken)| {
        let alias = taken.as_ref().and_then(|taken| taken.alias.as_deref());
        (there.as_str(), alias.unwrap_or(there))
    })
}

fn problem(keys: &[&str], message: String, hint: Option<String>) -> Problem {
    let path = ["modules"].iter().chain(keys).map(|&key| key.to_owned()).collect();
    Problem { path, at_key: true, message, hint }
}

/// Checks what can be told without the other files: every name is one, and there once.
pub(super) fn check(file: &Sandboxfile) -> Result<(), Problem> {
    let mut seen = std::collections::HashSet::new();
    for (place, components) in &file.modules {
        if place.is_empty() || place.contains('\0') {
            return Err(problem(
                &[place],
                "a module is the path of a Sandboxfile or its folder".to_owned(),
                None,
            ));
        }
        if components.is_empty() {
            let hint = "name its sandboxes below it, such as `db:`, or take it away".to_owned();
            return Err(problem(&[place], format!("nothing is taken from `{}`", short(place)), Some(hint)));
        }
        for (there, here) in names(components) {
            let refused =
                |message: String, hint: &str| Err(problem(&[place, there], message, Some(hint.to_owned())));
            if !check::is_name(here) {
                let hint = "use letters, digits, `_`, `.` and `-`, and begin with a letter or digit";
                return refused(format!("`{}` cannot be the name of a sandbox", short(here)), hint);
            }
            if file.sandboxes.contains_key(here) || !seen.insert(here) {
                let hint = format!("give it another name: `{there}: {{as: NAME}}`");
                return refused(format!("there are two sandboxes `{here}`"), &hint);
            }
        }
    }
    Ok(())
}

/// Reads the Sandboxfile `path` and everything its modules lead to. What comes back has no modules any more: their sandboxes
/// are its own, with paths and names as they are seen from here.
pub(super) fn load(path: &Path) -> Result<Sandboxfile, Error> {
    Assembly::default().load(path)
}

/// The files of a project being read.
#[derive(Default)]
struct Assembly {
    /// From the first file to the one being read.
    way: Vec<PathBuf>,
    /// How many there were.
    count: usize,
}

impl Assembly {
    fn load(&mut self, path: &Path) -> Result<Sandboxfile, Error> {
        let text = save::read(path)?;
        let mut file = super::parse(&text, path)?;
        let placed = |problem| diagnose::problem(problem, &text, path);
        let modules = std::mem::take(&mut file.modules);
        if !modules.is_empty() {
            self.way.push(canonical(path)?);
            for (place, components) in &modules {
                let (module, base) = self.module(path, place).map_err(|failed| match failed {
                    Failed::Here(problem) => placed(problem),
                    Failed::There(error) => error,
                })?;
                let taken = take(&module, (place, components), &base).map_err(placed)?;
                let groups = taken.iter().flat_map(|(_, spec)| spec.groups.keys());
                for (name, group) in groups.filter_map(|name| Some((name, module.groups.get(name)?))) {
                    file.groups.entry(name.clone()).or_insert_with(|| group.clone());
                }
                file.sandboxes.extend(taken);
            }
            self.way.pop();
            depends::check(&file).map_err(placed)?;
        }
        artifacts::link(&mut file).map_err(placed)?;
        Ok(file)
    }

    /// The module at `place`, and its folder.
    fn module(&mut self, path: &Path, place: &str) -> Result<(Sandboxfile, PathBuf), Failed> {
        let here = |message: String, hint: Option<&str>| {
            Failed::Here(problem(&[place], message, hint.map(str::to_owned)))
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let found = match locate(Some(Path::new(place)), folder) {
            Ok(Some(found)) => found,
            Ok(None) | Err(Error::NotThere { .. }) => {
                let hint = "modules are Sandboxfiles or their folders, relative to this file";
                return Err(here(format!("there is no Sandboxfile at `{}`", short(place)), Some(hint)));
            }
            Err(error) => return Err(Failed::There(error)),
        };
        let found = canonical(&found).map_err(Failed::There)?;
        if let Some(from) = self.way.iter().position(|on_way| *on_way == found) {
            let round = self.way.get(from..).unwrap_or_default().iter().chain([&found]);
            let round: Vec<String> = round.map(|path| path.display().to_string()).collect();
            return Err(here(
                format!("modules lead to each other in a circle: {}", round.join(" -> ")),
                None,
            ));
        }
        self.count += 1;
        if self.count > MOST_FILES {
            return Err(here(format!("more than {MOST_FILES} modules"), None));
        }
        let module = self.load(&found).map_err(Failed::There)?;
        let base = found.parent().unwrap_or(Path::new("/")).to_owned();
        Ok((module, base))
    }
}

/// What is wrong with a module: with where it is named, or with itself.
enum Failed {
    Here(Problem),
    There(Error),
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The sandboxes that are taken from `module`, whose folder is `base`.
fn take(
    module: &Sandboxfile,
    (place, components): (&str, &Components),
    base: &Path,
) -> Result<Vec<(String, SandboxSpec)>, Problem> {
    let here =
        |there: &str| names(components).find(|(name, _)| *name == there).map(|(_, here)| here.to_owned());
    let mut taken = Vec::new();
    for (there, alias) in names(components) {
        let refused = |message: String, hint: Option<String>| Err(problem(&[place, there], message, hint));
        let Some(spec) = module.sandboxes.get(there) else {
            let near = nearest(there, module.sandboxes.keys().map(String::as_str));
            return refused(format!("`{}` has no sandbox `{}`", short(place), short(there)), meant(&near));
        };
        if let Some(missing) = spec.depends_on.keys().find(|name| here(name).is_none()) {
            let hint = format!("take that one as well: `{missing}:` beside it");
            return refused(format!("`{there}` needs `{missing}` of the same file"), Some(hint));
        }
        let Some(moved) = moved(spec.clone(), base, &here) else {
            let message = format!("the path of `{}` is not UTF-8 text", short(place));
            return refused(message, None);
        };
        taken.push((alias.to_owned(), moved));
    }
    Ok(taken)
}

/// A sandbox of a file in the folder `base` as it is seen from anywhere; `None` when that cannot be written as text.
fn moved(mut spec: SandboxSpec, base: &Path, here: &impl Fn(&str) -> Option<String>) -> Option<SandboxSpec> {
    // Links in `base` have been followed, so what is below it can be named from anywhere.
    let joined = |path: &Path| base.join(path).components().collect::<PathBuf>();
    let absolute = |path: &str| joined(Path::new(path)).to_str().map(str::to_owned);
    let place = |path: &str| if path.starts_with('~') { Some(path.to_owned()) } else { absolute(path) };
    spec.env_file = spec.env_file.iter().map(|path| absolute(path)).collect::<Option<_>>()?;
    for volume in &mut spec.volumes {
        if let VolumeSource::Host(path) = &mut volume.source
            && !path.starts_with("~")
        {
            *path = joined(path);
        }
    }
    for secret in spec.secrets.values_mut() {
        secret.folder = joined(&secret.folder);
    }
    let depends_on = std::mem::take(&mut spec.depends_on).into_iter();
    spec.depends_on =
        depends_on.map(|(name, condition)| Some((here(&name)?, condition))).collect::<Option<_>>()?;
    let imports = std::mem::take(&mut spec.imports).into_iter();
    let import = |(key, imported): (String, Imported)| match imported {
        Imported::To(target) => Some((place(&key)?, Imported::To(target))),
        Imported::Of(names) => Some((here(&key)?, Imported::Of(names))),
    };
    spec.imports = imports.map(import).collect::<Option<Imports>>()?;
    if let Some(meta) = &mut spec.meta {
        for path in [&mut meta.readme, &mut meta.icon].into_iter().flatten() {
            *path = absolute(path)?;
        }
    }
    Some(spec)
}

#[cfg(test)]
#[path = "modules/tests.rs"]
mod tests;
