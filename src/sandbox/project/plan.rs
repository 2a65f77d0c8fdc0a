//! What has to be done so that what runs is what the Sandboxfile says.

use serde::Serialize;
use serde_json::Value;

use super::super::database::Record;
use super::super::plan::Definition;
use crate::image::Digest;
use crate::net::Network;

/// What is done to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It does not run, and should.
    Start,
    /// It runs as something else than it should.
    Restart,
    /// The same, where what differs can be changed while it runs.
    Update,
    /// It runs, and is not in the file any more.
    Stop,
    /// It is as it should be.
    Keep,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The sandbox.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// Why: for a restart or an update, the keys of the Sandboxfile that have changed.
    pub reasons: Vec<String>,
}

/// What is known of the last run of a sandbox.
#[derive(Debug, Clone, Copy)]
pub struct Last<'a> {
    /// Its row.
    pub record: &'a Record,
    /// Whether it runs, or waits to be started again.
    pub is_up: bool,
    /// The image its disk was made for.
    pub digest: Option<&'a Digest>,
}

/// One sandbox of the file beside what was last run under its name.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What the file says; `None` for one that is not in it any more.
    pub wanted: Option<&'a Definition>,
    /// The image it is pinned to; `None` when that is not known, or does not matter.
    pub pinned: Option<&'a Digest>,
    /// Whether its image may differ.
    pub any_image: bool,
    /// Whether others only wait for its end.
    pub is_job: bool,
    /// Its last run.
    pub last: Option<Last<'a>>,
}

/// What has to be done about `sandboxes`, in their order. What neither runs nor is wanted is left out.
#[must_use]
pub fn plan(sandboxes: &[Comparison<'_>]) -> Vec<Change> {
    let mut changes: Vec<Change> = sandboxes.iter().filter_map(change).collect();
    // Who has something of a sandbox that runs again gets what that exports then, and may itself export something.
    loop {
        let stale = changes.iter().position(|change| {
            change.action == Action::Keep
                && change.reasons.is_empty()
                && imports_anew(change, sandboxes, &changes)
        });
        let Some(stale) = stale.and_then(|stale| changes.get_mut(stale)) else { return changes };
        (stale.action, stale.reasons) = (Action::Restart, vec!["imports".to_owned()]);
    }
}

/// Whether a sandbox imports from one that is to be started.
fn imports_anew(change: &Change, sandboxes: &[Comparison<'_>], changes: &[Change]) -> bool {
    let wanted =
        sandboxes.iter().filter_map(|sandbox| sandbox.wanted).find(|wanted| wanted.name == change.name);
    let exporters =
        wanted.into_iter().flat_map(|wanted| &wanted.imports).filter_map(|import| import.export.as_ref());
    exporters.into_iter().any(|(exporter, _)| {
        changes
            .iter()
            .any(|other| other.name == *exporter && matches!(other.action, Action::Start | Action::Restart))
    })
}

fn change(sandbox: &Comparison<'_>) -> Option<Change> {
    let is_up = sandbox.last.is_some_and(|last| last.is_up);
    let Some(wanted) = sandbox.wanted else {
        let last = sandbox.last.filter(|_| is_up)?;
        let reasons = vec!["not in the Sandboxfile".to_owned()];
        return Some(Change { name: last.record.name.clone(), action: Action::Stop, reasons });
    };
    let (action, reasons) = match sandbox.last {
        None => (Action::Start, vec!["new".to_owned()]),
        Some(last) => {
            let differences = differences(sandbox, wanted, &last);
            let has_completed = sandbox.is_job && last.record.exit_code == Some(0);
            match (is_up, differences.is_empty()) {
                (true, true) => (Action::Keep, Vec::new()),
                (true, false) if can_be_updated(wanted, &last.record.definition, &differences) => {
                    (Action::Update, differences)
                }
                (true, false) => (Action::Restart, differences),
                (false, true) if has_completed => (Action::Keep, vec!["completed".to_owned()]),
                (false, _) => (Action::Start, vec!["not running".to_owned()]),
            }
        }
    };
    Some(Change { name: wanted.name.clone(), action, reasons })
}

/// The keys of the Sandboxfile by which a run differs from what is wanted.
fn differences(sandbox: &Comparison<'_>, wanted: &Definition, last: &Last<'_>) -> Vec<String> {
    let (new, old) = (fields(wanted), fields(&last.record.definition));
    // What it waits for before it starts is over when it runs.
    let matters = |key: &str| key != "depends_on" && !(sandbox.any_image && key == "image");
    let mut keys: Vec<String> = new
        .iter()
        .filter(|(key, value)| matters(key) && old.get(*key) != Some(*value))
        .map(|(key, _)| key_of(key).to_owned())
        .collect();
    let moved = matches!((sandbox.pinned, last.digest), (Some(pinned), Some(digest)) if pinned != digest);
    if moved && !sandbox.any_image && !keys.iter().any(|key| key == "image") {
        keys.push("image".to_owned());
    }
    keys
}

/// Whether nothing differs but what the network lets through.
fn can_be_updated(wanted: &Definition, last: &Definition, differences: &[String]) -> bool {
    let (wanted, last) = (&wanted.network, &last.network);
    let alike = Network { scope: wanted.scope, rules: wanted.rules.clone(), ..last.clone() };
    // What has no network at all has nothing that could be told.
    differences == ["network"] && alike == *wanted && !last.is_off()
}

fn fields(definition: &Definition) -> serde_json::Map<String, Value> {
    match serde_json::to_value(definition) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

/// The key of the Sandboxfile for a field of a definition.
fn key_of(field: &str) -> &str {
    match field {
        "memory_mib" => "memory",
        "env" => "envs",
        field => field,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifest::Condition;
    use crate::sandbox::{Import, Kind, State};
    use jiff::Timestamp;

    fn record(definition: &Definition, exit_code: Option<u8>) -> Record {
        Record {
            id: 1,
            name: definition.name.clone(),
            kind: Kind::Project,
            folder: "/p/menv/app".into(),
            sandboxfile: Some("/p/Sandboxfile".into()),
            definition: definition.clone(),
            created: Timestamp::UNIX_EPOCH,
            state: State::Running,
            started: None,
            finished: None,
            pid: None,
            exit_code,
            message: None,
            restarts: 0,
        }
    }

    fn planned(comparison: Comparison<'_>) -> Option<(Action, Vec<String>)> {
        plan(&[comparison]).pop().map(|change| (change.action, change.reasons))
    }

    fn words(action: Action, reasons: &[&str]) -> Option<(Action, Vec<String>)> {
        Some((action, reasons.iter().map(|reason| (*reason).to_owned()).collect()))
    }

    #[test]
    fn what_runs_as_it_should_is_kept_and_what_differs_is_restarted() {
        let old = Definition::new("app", "busybox");
        let record = record(&old, None);
        let (here, there) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        let last = Some(Last { record: &record, is_up: true, digest: Some(&here) });
        let with = |wanted, pinned| Comparison { wanted, pinned, any_image: false, is_job: false, last };
        assert_eq!(planned(with(Some(&old), Some(&here))), words(Action::Keep, &[]));
        assert_eq!(planned(with(Some(&old), None)), words(Action::Keep, &[]));
        assert_eq!(planned(with(Some(&old), Some(&there))), words(Action::Restart, &["image"]));
        let mut closed = old.clone();
        closed.network.rules.push("deny 1.1.1.1".parse().unwrap());
        assert_eq!(planned(with(Some(&closed), None)), words(Action::Update, &["network"]));
        let mut logged = closed.clone();
        logged.network.log = true;
        assert_eq!(planned(with(Some(&logged), None)), words(Action::Restart, &["network"]));
        let kept = Comparison { any_image: true, ..with(Some(&old), Some(&there)) };
        assert_eq!(planned(kept), words(Action::Keep, &[]));
        let mut new = old.clone();
        new.memory_mib = Some(256);
        new.env.push(("A".into(), "1".into()));
        assert_eq!(planned(with(Some(&new), None)), words(Action::Restart, &["envs", "memory"]));
        let mut ordered = old.clone();
        ordered.depends_on.insert("db".into(), Condition::Started);
        assert_eq!(planned(with(Some(&ordered), None)), words(Action::Keep, &[]));
        assert_eq!(planned(with(None, None)), words(Action::Stop, &["not in the Sandboxfile"]));
    }

    #[test]
    fn who_imports_from_what_runs_again_is_restarted() {
        let train = Definition::new("train", "busybox");
        let mut web = Definition::new("web", "busybox");
        let export = ("train".to_owned(), "model".to_owned());
        web.imports.push(Import::of_export(std::path::Path::new("/p/menv/train"), export, "/model"));
        let (trained, serving) = (record(&train, Some(0)), record(&web, None));
        let plans = |train: &Definition| {
            let last = |record, is_up| Some(Last { record, is_up, digest: None });
            let of = |wanted, is_job, last| Comparison {
                wanted: Some(wanted),
                pinned: None,
                any_image: false,
                is_job,
                last,
            };
            let both = [of(&web, false, last(&serving, true)), of(train, true, last(&trained, false))];
            plan(&both).into_iter().map(|change| (change.action, change.reasons)).collect::<Vec<_>>()
        };
        assert_eq!(plans(&train)[0], (Action::Keep, Vec::new()));
        let changed = Definition { command: vec!["x".into()], ..train.clone() };
        assert_eq!(plans(&changed)[0], (Action::Restart, vec!["imports".to_owned()]));
    }

    #[test]
    fn what_does_not_run_is_started_unless_it_has_done_its_job() {
        let wanted = Definition::new("job", "busybox");
        let new =
            Comparison { wanted: Some(&wanted), pinned: None, any_image: false, is_job: true, last: None };
        assert_eq!(planned(new), words(Action::Start, &["new"]));
        let (done, failed) = (record(&wanted, Some(0)), record(&wanted, Some(1)));
        let after = |record, is_job| {
            let last = Some(Last { record, is_up: false, digest: None });
            planned(Comparison { is_job, last, ..new })
        };
        assert_eq!(after(&done, true), words(Action::Keep, &["completed"]));
        assert_eq!(after(&failed, true), words(Action::Start, &["not running"]));
        assert_eq!(after(&done, false), words(Action::Start, &["not running"]));
        let mut changed = wanted.clone();
        changed.command = vec!["x".into()];
        let last = Some(Last { record: &done, is_up: false, digest: None });
        let again = Comparison { wanted: Some(&changed), last, ..new };
        assert_eq!(planned(again), words(Action::Start, &["not running"]));
        let gone = Comparison { wanted: None, last, ..new };
        assert_eq!(planned(gone), None);
    }
}
