//! Rules that types alone do not express; the same for a file and for the flags of `msb add`.

use std::collections::HashSet;

use super::decode::short;
use super::error::Error;
use super::spec::{SandboxSpec, Sandboxfile};
use super::{artifacts, clashes, depends, groups, life, modules, secrets};

/// Longest name of a sandbox or script.
const LONGEST_NAME: usize = 63;
/// Longest image reference or path.
const LONGEST_TEXT: usize = 4096;
/// Least memory a guest kernel starts with, and least writable disk, in MiB.
const LEAST_MIB: u64 = 64;
/// Most memory or disk, in MiB: 16 TiB, the limit of ext4 with 4 KiB blocks and 32-bit block numbers.
const MOST_MIB: u64 = 16 << 20;

/// What the regular expression of a name is, for the JSON schema.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$";

/// A broken rule and where it was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Keys from the top of the file down.
    pub(super) path: Vec<String>,
    /// Whether the last key itself is wrong, not its value.
    pub(super) at_key: bool,
    /// The headline.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Problem {
    /// The error for a sandbox that is not (yet) in a file.
    pub(super) fn without_place(self) -> Error {
        Error::Invalid { message: self.message, snippet: None, hint: self.hint }
    }
}

/// Collects where a rule of one sandbox is broken.
pub(super) struct Checker<'a> {
    pub(super) name: &'a str,
}

impl Checker<'_> {
    pub(super) fn problem(&self, keys: &[&str], rule: &str, hint: Option<&str>) -> Problem {
        let message = format!("`{}` of sandbox `{}` {rule}", short(&keys.join(".")), short(self.name));
        let path = ["sandboxes", self.name].iter().chain(keys).map(|&key| key.to_owned()).collect();
        Problem { path, at_key: false, message, hint: hint.map(str::to_owned) }
    }

    /// A text that ends up as a path, a name or an argument.
    pub(super) fn text(&self, keys: &[&str], text: &str) -> Result<(), Problem> {
        if text.is_empty() {
            return Err(self.problem(keys, "is empty", None));
        }
        if text.contains('\0') {
            return Err(self.problem(keys, "contains a NUL byte", None));
        }
        if text.len() > LONGEST_TEXT {
            return Err(self.problem(keys, &format!("is longer than {LONGEST_TEXT} bytes"), None));
        }
        Ok(())
    }
}

/// Checks every sandbox of a file.
pub(super) fn file(file: &Sandboxfile) -> Result<(), Problem> {
    file.sandboxes.iter().try_for_each(|(name, spec)| sandbox(name, spec))?;
    modules::check(file)?;
    groups::check_file(file)?;
    depends::check(file)?;
    clashes::check(file)
}

/// Checks the sandbox `spec`, called `name`.
pub(super) fn sandbox(name: &str, spec: &SandboxSpec) -> Result<(), Problem> {
    sandbox_name(name)?;
    let checker = Checker { name };
    image(&checker, &spec.image)?;
    sizes(&checker, spec)?;
    texts(&checker, spec)?;
    scripts(&checker, spec)?;
    targets(&checker, spec)?;
    life::check(&checker, spec)?;
    artifacts::check(&checker, spec)?;
    network(&checker, spec)?;
    secrets::check(&checker, spec)?;
    groups::check(&checker, spec)?;
    for (index, var) in spec.envs.iter().enumerate() {
        let broken = if var.key.is_empty() {
            "has a variable without a name"
        } else if var.key.contains('=') {
            "has a variable with `=` in its name"
        } else if var.key.contains('\0') || var.value.contains('\0') {
            "has a variable with a NUL byte"
        } else {
            continue;
        };
        return Err(checker.problem(&["envs", &index.to_string()], broken, None));
    }
    Ok(())
}

/// The rule of names of sandboxes, scripts, groups and volumes, to whom broke it.
pub const NAME_RULE: &str =
    "use letters, digits, `.`, `_` and `-`, at most 63, starting with a letter or digit";

/// Whether `name` keeps [`NAME_RULE`].
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}

fn name_rule(name: &str) -> String {
    let rule = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 63 characters"
    } else if name.contains('~') {
        "`~` separates a sandbox from a script, as in `app~test`"
    } else {
        "use letters, digits, `_`, `.` and `-`, and begin with a letter or digit"
    };
    rule.to_owned()
}

fn sandbox_name(name: &str) -> Result<(), Problem> {
    if is_name(name) {
        return Ok(());
    }
    Err(Problem {
        path: vec!["sandboxes".to_owned(), name.to_owned()],
        at_key: true,
        message: format!("`{}` cannot be the name of a sandbox", short(name)),
        hint: Some(name_rule(name)),
    })
}

fn image(checker: &Checker<'_>, image: &str) -> Result<(), Problem> {
    checker.text(&["image"], image)?;
    if image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let rule = "is not an image reference: it contains white space";
        return Err(checker.problem(&["image"], rule, Some("write it like python:3.12-slim")));
    }
    Ok(())
}

fn sizes(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    for (key, size) in [("memory", spec.memory), ("disk", spec.disk)] {
        let Some(size) = size else { continue };
        if size.mib() < LEAST_MIB {
            let rule = format!("is {size}, and must be at least {LEAST_MIB}M");
            return Err(checker.problem(&[key], &rule, Some("a whole number alone is MiB")));
        }
        if size.mib() > MOST_MIB {
            let rule = format!("is {size}, and can be at most 16T");
            return Err(checker.problem(&[key], &rule, Some("a whole number alone is MiB")));
        }
    }
    if spec.pids_limit == Some(0) {
        return Err(checker.problem(&["pids_limit"], "is 0, and must be at least 1", None));
    }
    if spec.cpus == Some(0) {
        return Err(checker.problem(&["cpus"], "is 0, and must be at least 1", None));
    }
    Ok(())
}

fn texts(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    let single =
        [("workdir", &spec.workdir), ("shell", &spec.shell), ("exec", &spec.exec), ("user", &spec.user)];
    for (key, text) in single {
        text.as_deref().map_or(Ok(()), |text| checker.text(&[key], text))?;
    }
    for (index, file) in spec.env_file.iter().enumerate() {
        checker.text(&["env_file", &index.to_string()], file)?;
    }
    if spec.workdir.as_deref().is_some_and(|workdir| !workdir.starts_with('/')) {
        let hint = "it is a folder inside the sandbox, such as /app";
        return Err(checker.problem(&["workdir"], "is not an absolute path", Some(hint)));
    }
    if spec.exec.is_some() && !spec.command.is_empty() {
        let hint = "write the program and its arguments as a list under `command`";
        return Err(checker.problem(&["exec"], "excludes `command`", Some(hint)));
    }
    if spec.command.first().is_some_and(String::is_empty) {
        return Err(checker.problem(&["command", "0"], "is empty, and must be a program", None));
    }
    match spec.command.iter().position(|argument| argument.contains('\0')) {
        Some(index) => Err(checker.problem(&["command", &index.to_string()], "contains a NUL byte", None)),
        None => Ok(()),
    }
}

/// Each place of the sandbox has one thing mounted on it.
fn targets(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    let volumes = spec.volumes.iter().map(|volume| ("volumes", &volume.target));
    let tmpfs = spec.tmpfs.iter().map(|tmpfs| ("tmpfs", &tmpfs.target));
    let second = |target: &str| format!("mounts a second thing on {}", short(target));
    let mut seen: HashSet<&str> = HashSet::new();
    for (index, (key, target)) in volumes.chain(tmpfs).enumerate() {
        if !seen.insert(target) {
            let index = if key == "tmpfs" { index - spec.volumes.len() } else { index };
            return Err(checker.problem(&[key, &index.to_string()], &second(target), None));
        }
    }
    match spec.imported().find(|import| !seen.insert(import.target)) {
        Some(twice) => Err(checker.problem(&["imports"], &second(twice.target), None)),
        None => Ok(()),
    }
}

/// The scope is said once, and each port of the host is published once.
fn network(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    if spec.scope.is_some() && spec.network.scope.is_some() {
        let hint = "keep one of `scope` and `network.scope`";
        return Err(checker.problem(&["network", "scope"], "is a second scope", Some(hint)));
    }
    for (index, port) in spec.ports.iter().enumerate() {
        if let Some(clash) = spec.ports[..index].iter().find_map(|other| other.clash(port)) {
            let rule = format!("publishes port {clash} of the host a second time");
            return Err(checker.problem(&["ports", &index.to_string()], &rule, None));
        }
    }
    Ok(())
}

fn scripts(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    for (script, body) in &spec.scripts {
        if !is_name(script) {
            let mut problem = checker.problem(&["scripts", script], "", Some(&name_rule(script)));
            problem.message = format!(
                "`{}` cannot be the name of a script (sandbox `{}`)",
                short(script),
                short(checker.name)
            );
            problem.at_key = true;
            return Err(problem);
        }
        if body.contains('\0') {
            return Err(checker.problem(&["scripts", script], "contains a NUL byte", None));
        }
    }
    Ok(())
}
