//! `depends_on:`, what a sandbox needs before it starts: a list of names, or a map with conditions.

use std::fmt;
use std::str::FromStr;

use indexmap::IndexMap;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};

use super::artifacts;
use super::check::{Checker, Problem};
use super::decode::{Text, short};
use super::error::meant;
use super::keys::nearest;
use super::spec::{SandboxSpec, Sandboxfile};

/// What a sandbox depends on, by name, in the order it is written.
pub type Dependencies = IndexMap<String, Condition>;

/// How far a sandbox must have come before another one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Condition {
    /// Its machine is up and its main process started.
    #[default]
    Started,
    /// Its health check has succeeded.
    Healthy,
    /// Its main process has ended with exit code 0.
    Completed,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        })
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As compose has it, too.
        match text.strip_prefix("service_").unwrap_or(text) {
            "started" => Ok(Self::Started),
            "healthy" => Ok(Self::Healthy),
            "completed" | "completed_successfully" => Ok(Self::Completed),
            _ => Err(format!("`{}` is not a condition: write started, healthy or completed", short(text))),
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The value of one entry of the map.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    condition: Condition,
}

/// Whether names alone say everything.
pub(super) fn is_list(dependencies: &Dependencies) -> bool {
    dependencies.values().all(|condition| *condition == Condition::Started)
}

pub(super) fn serialize<S: Serializer>(
    dependencies: &Dependencies,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if is_list(dependencies) {
        let mut list = serializer.serialize_seq(Some(dependencies.len()))?;
        for name in dependencies.keys() {
            list.serialize_element(name)?;
        }
        return list.end();
    }
    let mut map = serializer.serialize_map(Some(dependencies.len()))?;
    for (name, condition) in dependencies {
        map.serialize_entry(name, &Entry { condition: *condition })?;
    }
    map.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dependencies, D::Error> {
    struct DependsVisitor;
    impl<'de> Visitor<'de> for DependsVisitor {
        type Value = Dependencies;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names, or a map from names to conditions")
        }

        fn visit_unit<E>(self) -> Result<Dependencies, E> {
            Ok(Dependencies::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dependencies, A::Error> {
            let mut dependencies = Dependencies::new();
            while let Some(Text(name)) = list.next_element()? {
                if dependencies.insert(name.clone(), Condition::Started).is_some() {
                    return Err(de::Error::custom(format_args!("`{}` is there twice", short(&name))));
                }
            }
            Ok(dependencies)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dependencies, A::Error> {
            let mut dependencies = Dependencies::new();
            while let Some((Text(name), entry)) = map.next_entry::<_, Option<Entry>>()? {
                dependencies.insert(name, entry.unwrap_or_default().condition);
            }
            Ok(dependencies)
        }
    }
    deserializer.deserialize_any(DependsVisitor)
}

/// Checks that every dependency of every sandbox exists, can come to what is asked of it, and leads to no cycle. What may be in
/// modules that have not been read is taken for good.
pub(super) fn check(file: &Sandboxfile) -> Result<(), Problem> {
    let mut edges: IndexMap<&str, Dependencies> = IndexMap::new();
    for (name, spec) in &file.sandboxes {
        let needs = artifacts::needs(file, name, spec)?;
        for (needed, condition) in &needs {
            dependency(file, name, (needed, *condition))?;
        }
        edges.insert(name, needs);
    }
    let Some(cycle) = cycle(edges.keys().copied(), |name| edges.get(name)) else { return Ok(()) };
    let (Some(first), Some(second)) = (cycle.first(), cycle.get(1)) else { return Ok(()) };
    let mut problem = Checker { name: first }.problem(&[key_of(file, first, second), second], "", None);
    problem.message = format!("sandboxes depend on each other in a circle: {}", cycle.join(" -> "));
    problem.hint = Some("take one of these dependencies away".to_owned());
    problem.at_key = true;
    Err(problem)
}

/// The key of `name` by which it needs `needed`.
fn key_of(file: &Sandboxfile, name: &str, needed: &str) -> &'static str {
    let written = file.sandboxes.get(name).is_some_and(|spec| spec.depends_on.contains_key(needed));
    if written { "depends_on" } else { "imports" }
}

/// Checks one dependency of `name`.
fn dependency(file: &Sandboxfile, name: &str, (needed, condition): (&str, Condition)) -> Result<(), Problem> {
    let checker = Checker { name };
    let at = [key_of(file, name, needed), needed];
    let Some(other) = file.sandboxes.get(needed) else {
        if file.takes(needed) {
            return Ok(());
        }
        let near = nearest(needed, file.sandboxes.keys().map(String::as_str).filter(|n| *n != name));
        let hint = meant(&near).unwrap_or_else(|| "it is not in this file".to_owned());
        let mut problem = checker.problem(&at, "", Some(&hint));
        problem.message =
            format!("sandbox `{}` depends on `{}`, which does not exist", short(name), short(needed));
        problem.at_key = true;
        return Err(problem);
    };
    match impossible(other, condition) {
        Some((rule, hint)) => {
            let mut problem = checker.problem(&at, "", Some(hint));
            problem.message =
                format!("sandbox `{}` waits for `{}`, which {rule}", short(name), short(needed));
            Err(problem)
        }
        None => Ok(()),
    }
}

/// Why `spec` never comes to `condition`, and what to do.
fn impossible(spec: &SandboxSpec, condition: Condition) -> Option<(&'static str, &'static str)> {
    match condition {
        Condition::Healthy if spec.healthcheck.is_none() => {
            Some(("has no health check", "give it a `healthcheck`, or wait until it is `started`"))
        }
        Condition::Completed if spec.idle => {
            Some(("is idle and never completes", "wait until it is `started`"))
        }
        Condition::Completed if spec.restart == super::Restart::Always => {
            Some(("is always started again and never completes", "give it `restart: on-failure` or none"))
        }
        _ => None,
    }
}

/// A circle of dependencies, its first name again at the end; `None` when there is none.
fn cycle<'a>(
    names: impl Iterator<Item = &'a str>,
    edges: impl Fn(&str) -> Option<&'a Dependencies>,
) -> Option<Vec<String>> {
    let mut finished = std::collections::HashSet::new();
    for start in names {
        // The names on the way from `start`, each with those of its dependencies that are still to be followed.
        let mut way: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut next = Some(start);
        loop {
            if let Some(name) = next.take()
                && !finished.contains(name)
            {
                if let Some(from) = way.iter().position(|(on_way, _)| *on_way == name) {
                    let round = way.get(from..).unwrap_or_default().iter().map(|(name, _)| *name);
                    return Some(round.chain([name]).map(str::to_owned).collect());
                }
                let below = edges(name).into_iter().flat_map(IndexMap::keys).map(String::as_str);
                way.push((name, below.collect()));
            }
            let Some((name, below)) = way.last_mut() else { break };
            if below.is_empty() {
                finished.insert(*name);
                way.pop();
            } else {
                next = Some(below.remove(0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn refused(lines: &str) -> String {
        let error = super::super::parse(&format!("sandboxes:\n{lines}"), Path::new("f")).unwrap_err();
        let at = error.snippet().map(|snippet| format!("{}:{}: ", snippet.line, snippet.column));
        format!("{}{error} ({})", at.unwrap_or_default(), error.hint().unwrap_or_default())
    }

    #[test]
    fn lists_and_maps_mean_the_same() {
        let text = "sandboxes:\n  db: {image: x, healthcheck: {test: 'true'}}\n  job: {image: x}\n  \
            a: {image: x, depends_on: [db, job]}\n  b:\n    image: x\n    depends_on:\n      db:\n      job: {}\n  \
            c: {image: x, depends_on: {db: {condition: healthy}, job: {condition: completed}}}\n";
        let file = super::super::parse(text, Path::new("f")).unwrap();
        let of = |name: &str| &file.sandboxes[name].depends_on;
        assert_eq!(of("a"), of("b"));
        assert_eq!(of("a")["db"], Condition::Started);
        assert_eq!((of("c")["db"], of("c")["job"]), (Condition::Healthy, Condition::Completed));
    }

    #[test]
    fn conditions_are_written_as_they_are_read() {
        let text = "sandboxes:\n  db: {image: x, healthcheck: {test: 'true'}}\n";
        let mut spec = SandboxSpec::new("z");
        spec.depends_on.insert("db".into(), Condition::Healthy);
        let edited = super::super::edit::add(text, Path::new("f"), "web", &spec).unwrap();
        let entry = "\n  web:\n    image: z\n    depends_on:\n      db: {condition: healthy}\n";
        assert_eq!(edited, format!("{text}{entry}"));
        spec.depends_on.insert("bd".into(), Condition::Started);
        let error = super::super::edit::add(text, Path::new("f"), "web", &spec).unwrap_err();
        assert!(error.to_string().contains("depends on `bd`"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line() {
        let db = "  db: {image: x}\n";
        let table = [
            (
                "  a:\n    image: x\n    depends_on: [bd]\n",
                "5:18: sandbox `a` depends on `bd`, which does not exist (did you mean `db`?)",
            ),
            (
                "  a:\n    image: x\n    depends_on:\n      db: {condition: healthy}\n",
                "6:11: sandbox `a` waits for `db`, which has no health check (give it a `healthcheck`, or wait until \
                    it is `started`)",
            ),
            (
                "  a:\n    image: x\n    depends_on:\n      db: {condition: ready}\n",
                "6:23: `depends_on.db.condition` of sandbox `a`: `ready` is not a condition: write started, healthy or \
                    completed ()",
            ),
            (
                "  a:\n    image: x\n    depends_on: [db, db]\n",
                "5:17: `depends_on` of sandbox `a`: `db` is there twice ()",
            ),
        ];
        for (lines, words) in table {
            let said = refused(&format!("{db}{lines}"));
            // Where a reader that has read a whole list says something, its place is near enough.
            let bare = |text: &str| text.split_once(": ").map(|(_, rest)| rest.to_owned());
            assert_eq!(bare(&said), bare(words), "{said}");
        }
    }

    #[test]
    fn a_circle_is_named() {
        let circle = "  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c, d]}\n  c: {image: x}\n  \
            d: {image: x, depends_on: [b]}\n";
        assert_eq!(
            refused(circle),
            "3:33: sandboxes depend on each other in a circle: b -> d -> b (take one of these dependencies away)"
        );
        let itself = refused("  a: {image: x, depends_on: [a]}\n");
        assert!(itself.contains("in a circle: a -> a"), "{itself}");
    }
}
