//! What sandboxes of one file take from each other: names in a group. Ports of the host are not among it: of sandboxes that publish the
//! same one, only one may ever be up.

use super::check::{Checker, Problem};
use super::spec::{SandboxSpec, Sandboxfile};
use crate::net::group::is_findable;
use crate::net::policy::Name;

/// Checks that sandboxes have different names in each group.
pub(super) fn check(file: &Sandboxfile) -> Result<(), Problem> {
    for (index, (name, spec)) in file.sandboxes.iter().enumerate() {
        let checker = Checker { name };
        for (other, before) in file.sandboxes.iter().take(index) {
            names(&checker, spec, (other, before))?;
        }
        own_names(&checker, spec)?;
    }
    Ok(())
}

/// Names that nobody could find a sandbox by.
fn own_names(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    let own = checker.name.parse::<Name>().ok().filter(|own| !is_findable(own));
    for (group, member) in &spec.groups {
        if let Some(own) = &own {
            let rule = format!("cannot be: nobody could find it by its name, as `{own}` leads elsewhere");
            let hint = "give the sandbox another name";
            return Err(checker.problem(&["groups", group], &rule, Some(hint)));
        }
        if let Some(hostname) = member.network.hostname.as_ref().filter(|name| !is_findable(name)) {
            let rule = format!("is `{hostname}`, which leads elsewhere");
            let hint = "addresses, localhost and what ends in msb.internal are no names of sandboxes";
            return Err(checker.problem(&["groups", group, "network", "hostname"], &rule, Some(hint)));
        }
    }
    Ok(())
}

/// The names that both sandboxes would have in a group.
fn names(
    checker: &Checker<'_>,
    spec: &SandboxSpec,
    (other, before): (&str, &SandboxSpec),
) -> Result<(), Problem> {
    let is_named = |name: &str, wanted: &Name| name.parse::<Name>().is_ok_and(|name| name == *wanted);
    for (group, member) in &spec.groups {
        let Some(theirs) = before.groups.get(group) else { continue };
        let (own, theirs) = (member.network.hostname.as_ref(), theirs.network.hostname.as_ref());
        let keys = ["groups", group, "network", "hostname"];
        let taken =
            |name: &Name| format!("is `{name}`, which is what `{other}` is called in group `{group}`");
        match own {
            Some(own) if is_named(other, own) || Some(own) == theirs => {
                return Err(checker.problem(&keys, &taken(own), None));
            }
            _ => {}
        }
        match theirs {
            Some(theirs) if is_named(checker.name, theirs) => {
                let rule = format!("is `{theirs}`, which is another sandbox of group `{group}`");
                return Err(Checker { name: other }.problem(&keys, &rule, None));
            }
            _ => {}
        }
        if checker.name.eq_ignore_ascii_case(other) {
            let rule = format!("has a sandbox `{other}` already, and names do not differ by case there");
            return Err(checker.problem(&keys[..2], &rule, Some("give one of the two another name")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::super::parse;

    fn said(of: &[(&str, &str)]) -> Option<String> {
        let one = |(name, line): &(&str, &str)| format!("  {name}:\n    image: x\n    {line}\n");
        let text = format!("sandboxes:\n{}", of.iter().map(one).collect::<String>());
        let error = parse(&text, Path::new("f")).err()?;
        Some(format!("{}: {error}", error.snippet().unwrap().to_string().lines().next().unwrap().trim()))
    }

    fn refused(of: &[(&str, &str)], place: &str, words: &str) {
        let said = said(of).unwrap_or_else(|| panic!("{of:?}"));
        assert!(said.contains(place) && said.contains(words), "{said}");
    }

    #[test]
    fn a_port_of_the_host_may_be_several_sandboxes() {
        let alternatives = [("a", "ports: [8080:80]"), ("b", "ports: [8080:80]")];
        assert_eq!(said(&alternatives), None);
    }

    #[test]
    fn a_name_in_a_group_is_one_sandbox() {
        let called = |name: &str| format!("groups: {{g: {{network: {{hostname: {name}}}}}}}");
        let (store, a, b) = (called("store"), called("A"), called("b"));
        refused(
            &[("a", "groups: [g]"), ("b", &a)],
            "f:7:",
            "is `a`, which is what `a` is called in group `g`",
        );
        refused(&[("a", &b), ("b", "groups: [g]")], "f:4:", "is `b`, which is another sandbox of group `g`");
        refused(&[("a", &store), ("b", &store)], "f:7:", "is `store`, which is what `a` is called");
        refused(&[("a", "groups: [g]"), ("A", "groups: [g]")], "f:7:", "do not differ by case");
        assert_eq!(said(&[("a", &a), ("b", &store), ("c", "groups: [h]")]), None);
        assert_eq!(said(&[("a", "groups: [g]"), ("A", "groups: [h]")]), None);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["localhost", "x.localhost", "host.msb.internal", "10.0.0.1", "127.1", "0x7f.1"] {
            let line = format!("groups: {{g: {{network: {{hostname: {name}}}}}}}");
            refused(&[("a", &line)], "f:4:", "which leads elsewhere");
        }
        refused(&[("localhost", "groups: [g]")], "f:4:", "nobody could find it");
        assert_eq!(said(&[("localhost", "idle: true")]), None);
        assert_eq!(said(&[("db1", "groups: {g: {network: {hostname: 1password}}}")]), None);
    }
}
