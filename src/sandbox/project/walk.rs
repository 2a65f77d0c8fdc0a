//! Doing things to sandboxes that depend on each other: in order where they do, at the same time where they do not.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, PoisonError};

use indexmap::IndexMap;

use crate::manifest::Dependencies;

/// The sandboxes `names` of `all` and everything they need, in the order of `all`.
#[must_use]
pub fn with_needed(all: &IndexMap<String, Dependencies>, names: &[String]) -> Vec<String> {
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut left: Vec<&str> = names.iter().map(String::as_str).collect();
    while let Some(name) = left.pop() {
        if wanted.insert(name) {
            left.extend(all.get(name).into_iter().flat_map(IndexMap::keys).map(String::as_str));
        }
    }
    all.keys().filter(|name| wanted.contains(name.as_str())).cloned().collect()
}

/// Names, each with those that come before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(IndexMap<String, Vec<String>>);

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending<E> {
    /// It was done.
    Done,
    /// It failed.
    Failed(E),
    /// It was left out because the one named here failed or was left out.
    LeftOut(String),
}

impl Steps {
    /// Each after those it depends on. What is not in `all` is not waited for, and a circle in no order.
    #[must_use]
    pub fn up(all: &IndexMap<String, Dependencies>) -> Self {
        let before = |needed: &Dependencies| -> Vec<String> {
            needed.keys().filter(|name| all.contains_key(*name)).cloned().collect()
        };
        Self::without_circles(all.iter().map(|(name, needed)| (name.clone(), before(needed))).collect())
    }

    /// Each after those that depend on it.
    #[must_use]
    pub fn down(all: &IndexMap<String, Dependencies>) -> Self {
        let mut steps: IndexMap<String, Vec<String>> =
            all.keys().map(|name| (name.clone(), Vec::new())).collect();
        for (name, needed) in all {
            for needed in needed.keys() {
                if let Some(before) = steps.get_mut(needed) {
                    before.push(name.clone());
                }
            }
        }
        Self::without_circles(steps)
    }

    /// What was started from different versions of a file may depend on each other in a circle, and still has to stop.
    fn without_circles(mut steps: IndexMap<String, Vec<String>>) -> Self {
        let mut done: HashSet<String> = HashSet::new();
        while done.len() < steps.len() {
            let ready: Vec<String> = steps
                .iter()
                .filter(|(name, before)| {
                    !done.contains(*name) && before.iter().all(|name| done.contains(name))
                })
                .map(|(name, _)| name.clone())
                .collect();
            if ready.is_empty() {
                for (_, before) in steps.iter_mut().filter(|(name, _)| !done.contains(*name)) {
                    before.retain(|name| done.contains(name));
                }
            }
            done.extend(ready);
        }
        Self(steps)
    }

    /// Calls `act` with every name, each on a thread of its own once all that come before it are done; what follows one that
    /// fails is left out. Gives the endings in the order of the names.
    pub fn walk<E: Send>(&self, act: impl Fn(&str) -> Result<(), E> + Sync) -> Vec<(String, Ending<E>)> {
        // Whether each that has ended was done.
        let ended: Mutex<HashMap<&str, bool>> = Mutex::default();
        let bell = Condvar::new();
        let step = |name: &'_ str, before: &[String]| {
            let mut seen = ended.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(failed) = before.iter().find(|name| seen.get(name.as_str()) == Some(&false)) {
                    return Ending::LeftOut(failed.clone());
                }
                if before.iter().all(|name| seen.contains_key(name.as_str())) {
                    break;
                }
                seen = bell.wait(seen).unwrap_or_else(PoisonError::into_inner);
            }
            drop(seen);
            match act(name) {
                Ok(()) => Ending::Done,
                Err(error) => Ending::Failed(error),
            }
        };
        std::thread::scope(|scope| {
            let (step, ended, bell) = (&step, &ended, &bell);
            let threads: Vec<_> = self
                .0
                .iter()
                .map(|(name, before)| {
                    scope.spawn(move || {
                        let _told = Told { name, ended, bell };
                        let ending = step(name, before);
                        let is_done = matches!(ending, Ending::Done);
                        ended.lock().unwrap_or_else(PoisonError::into_inner).insert(name, is_done);
                        (name.clone(), ending)
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(ending) => ending,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        })
    }
}

/// Tells those who wait that a step has ended, even by a panic.
struct Told<'a> {
    name: &'a str,
    ended: &'a Mutex<HashMap<&'a str, bool>>,
    bell: &'a Condvar,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(self.name).or_insert(false);
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifest::Condition;

    fn graph(edges: &[(&str, &[&str])]) -> IndexMap<String, Dependencies> {
        let needs =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Condition::Started)).collect();
        edges.iter().map(|(name, names)| ((*name).to_owned(), needs(names))).collect()
    }

    fn walked(steps: &Steps) -> Vec<String> {
        let order = Mutex::new(Vec::new());
        let endings = steps.walk(|name| {
            order.lock().unwrap().push(name.to_owned());
            Ok::<_, ()>(())
        });
        assert!(endings.iter().all(|(_, ending)| *ending == Ending::Done));
        order.into_inner().unwrap()
    }

    const DIAMOND: &[(&str, &[&str])] =
        &[("web", &["db", "cache"]), ("db", &["net"]), ("cache", &["net"]), ("net", &[]), ("other", &[])];

    #[test]
    fn what_is_needed_comes_along() {
        let all = graph(DIAMOND);
        assert_eq!(with_needed(&all, &["cache".into()]), ["cache", "net"]);
        assert_eq!(with_needed(&all, &["web".into()]), ["web", "db", "cache", "net"]);
    }

    #[test]
    fn up_goes_by_dependencies_and_down_the_other_way() {
        let all = graph(DIAMOND);
        let place = |order: &[String], name: &str| order.iter().position(|n| n == name).unwrap();
        let (up, down) = (walked(&Steps::up(&all)), walked(&Steps::down(&all)));
        assert_eq!((up.len(), down.len()), (5, 5));
        for (name, needed) in DIAMOND.iter().flat_map(|(name, all)| all.iter().map(move |n| (name, n))) {
            assert!(place(&up, needed) < place(&up, name), "{up:?}");
            assert!(place(&down, name) < place(&down, needed), "{down:?}");
        }
    }

    #[test]
    fn what_does_not_depend_on_each_other_goes_at_the_same_time() {
        let barrier = std::sync::Barrier::new(2);
        let all = graph(&[("a", &[]), ("b", &[])]);
        // Would not end one after the other.
        Steps::up(&all).walk(|_| {
            barrier.wait();
            Ok::<_, ()>(())
        });
    }

    #[test]
    fn what_follows_a_failure_is_left_out() {
        let endings = Steps::up(&graph(DIAMOND)).walk(|name| if name == "db" { Err("no") } else { Ok(()) });
        let of =
            |name: &str| endings.iter().find(|(n, _)| n == name).map(|(_, ending)| ending.clone()).unwrap();
        assert_eq!(of("db"), Ending::Failed("no"));
        assert_eq!(of("web"), Ending::LeftOut("db".into()));
        assert_eq!((of("cache"), of("other")), (Ending::Done, Ending::Done));
    }

    #[test]
    fn a_circle_still_stops() {
        let all = graph(&[("a", &["b"]), ("b", &["a", "c"]), ("c", &[]), ("d", &["gone"])]);
        assert_eq!(walked(&Steps::down(&all)).len(), 4);
    }
}
