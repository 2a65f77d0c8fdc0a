//! New projects: the Sandboxfile from a template, and its state kept out of git.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::keys::nearest;
use super::save::{self, Lock};
use super::{FILE_NAMES, STATE_DIR};

/// Every template: its name and the Sandboxfile it makes. The first is the one for nothing in particular.
const TEMPLATES: &[(&str, &str)] = &[
    ("default", include_str!("../../templates/default.yaml")),
    ("alpine", include_str!("../../templates/alpine.yaml")),
    ("debian", include_str!("../../templates/debian.yaml")),
    ("go", include_str!("../../templates/go.yaml")),
    ("node", include_str!("../../templates/node.yaml")),
    ("python", include_str!("../../templates/python.yaml")),
    ("rust", include_str!("../../templates/rust.yaml")),
];

/// What [`init`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The new Sandboxfile.
    pub sandboxfile: PathBuf,
    /// What happened to the `.gitignore` beside it.
    pub gitignore: GitignoreChange,
}

/// What [`init`] did to `.gitignore`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitignoreChange {
    /// There was none; it has the entry now.
    Created,
    /// It was there and got the entry.
    Appended,
    /// It had the entry.
    Unchanged,
}

/// The names of the templates, `default` first.
pub fn template_names() -> Vec<&'static str> {
    TEMPLATES.iter().map(|(name, _)| *name).collect()
}

/// Writes a Sandboxfile into `dir` (made if need be) from `template`, and `menv/` into its `.gitignore`.
///
/// # Errors
/// [`Error::Exists`] when the folder has a Sandboxfile, which is then left alone; [`Error::UnknownTemplate`];
/// [`Error::Write`].
pub fn init(dir: &Path, template: Option<&str>) -> Result<InitReport, Error> {
    let wanted = template.unwrap_or(TEMPLATES[0].0);
    let (_, content) = TEMPLATES.iter().find(|(name, _)| *name == wanted).ok_or_else(|| {
        Error::UnknownTemplate { name: wanted.to_owned(), nearest: nearest(wanted, template_names()) }
    })?;
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })?;
    let sandboxfile = dir.join(FILE_NAMES[0]);
    let lock = Lock::beside(&sandboxfile)?;
    if let Some(path) = FILE_NAMES.iter().map(|name| dir.join(name)).find(|p| p.symlink_metadata().is_ok()) {
        return Err(Error::Exists { path });
    }
    save::create(&lock, &sandboxfile, content.as_bytes())?;
    let gitignore = ignore_state(&lock, &dir.join(".gitignore"))?;
    Ok(InitReport { sandboxfile, gitignore })
}

/// Adds the state folder to the `.gitignore` at `path`, once.
fn ignore_state(lock: &Lock, path: &Path) -> Result<GitignoreChange, Error> {
    let old = match save::read_bytes(path) {
        Ok(old) => old,
        Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            save::create(lock, path, format!("{STATE_DIR}/\n").as_bytes())?;
            return Ok(GitignoreChange::Created);
        }
        Err(error) => return Err(error),
    };
    if old.split(|byte| *byte == b'\n').any(ignores_state) {
        return Ok(GitignoreChange::Unchanged);
    }
    let line_break = if old.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
    let mut new = old;
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.extend_from_slice(line_break.as_bytes());
    }
    new.extend_from_slice(format!("{STATE_DIR}/{line_break}").as_bytes());
    save::replace(lock, &save::behind_links(path)?, &new)?;
    Ok(GitignoreChange::Appended)
}

/// Whether a line of `.gitignore` already covers the state folder.
fn ignores_state(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"/").unwrap_or(line);
    let line = line.strip_suffix(b"/").unwrap_or(line);
    line == STATE_DIR.as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{load, parse};
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for (name, content) in TEMPLATES {
            let file = parse(content, Path::new(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(file.sandboxes.is_empty(), *name == "default", "{name}");
            assert!(content.ends_with('\n') && content.is_ascii(), "{name}");
            for (sandbox, spec) in &file.sandboxes {
                assert!(spec.script(sandbox, SandboxScript::START).is_ok(), "{name}: no start script");
            }
        }
    }

    use super::super::SandboxSpec as SandboxScript;

    #[test]
    fn makes_a_project_once() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("new");
        let report = init(&dir, Some("python")).unwrap();
        assert_eq!(report.gitignore, GitignoreChange::Created);
        assert_eq!(load(&report.sandboxfile).unwrap().sandboxes.len(), 1);
        assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "menv/\n");

        let again = init(&dir, None).unwrap_err();
        assert_eq!(again.to_string(), format!("`{}` already exists", dir.join("Sandboxfile").display()));
        fs::rename(dir.join("Sandboxfile"), dir.join("Sandboxfile.yaml")).unwrap();
        assert!(matches!(init(&dir, None), Err(Error::Exists { .. })));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no litter");
    }

    #[test]
    fn gitignore_keeps_its_style() {
        let table: [(&str, &str, GitignoreChange); 6] = [
            ("target\n", "target\nmenv/\n", GitignoreChange::Appended),
            ("target", "target\nmenv/\n", GitignoreChange::Appended),
            ("target\r\n", "target\r\nmenv/\r\n", GitignoreChange::Appended),
            ("", "menv/\n", GitignoreChange::Appended),
            ("/menv\n# x\n", "/menv\n# x\n", GitignoreChange::Unchanged),
            ("a\r\nmenv/\r\n", "a\r\nmenv/\r\n", GitignoreChange::Unchanged),
        ];
        for (before, after, change) in table {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(".gitignore"), before).unwrap();
            assert_eq!(init(dir.path(), None).unwrap().gitignore, change);
            assert_eq!(fs::read_to_string(dir.path().join(".gitignore")).unwrap(), after);
        }
    }

    #[test]
    fn unknown_template_names_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let error = init(dir.path(), Some("pyton")).unwrap_err();
        assert_eq!(error.to_string(), "no template `pyton`");
        assert_eq!(error.hint().unwrap(), "did you mean `python`?");
        let error = init(dir.path(), Some("cobol")).unwrap_err();
        assert!(error.hint().unwrap().starts_with("the templates are default, alpine"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
