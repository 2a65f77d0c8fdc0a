#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;

use super::super::{EnvVar, Healthcheck, Imported, Meta, Restart, Size, Test, Tmpfs, Volume, VolumeSource};
use super::tests::{file, small};
use super::*;
use crate::net::group::is_findable;
use crate::net::policy::Scope;
use crate::net::secret::Secret;

/// Texts that YAML readers are prone to take for something else.
const ODD: &[&str] = &[
    "true",
    "no",
    "~",
    "null",
    "1.0",
    "0x1f",
    "1e3",
    "-",
    "? a",
    "- a",
    "a: b",
    "a #b",
    "\u{2028}",
    "\u{feff}x",
    "12:30:45",
    "2001-01-01",
    "\n",
    "\n\n",
    "a\n\n",
    " ",
    "a ",
    "\ta\n",
    "=",
    "<<",
    "!x",
    "&x",
    "*x",
    "%x",
    "@x",
    "`x",
    "a:",
    "{}",
    "[]",
];

/// Rules of every form.
const RULES: &[&str] = &[
    "allow *.example.com:443",
    "deny [2001:db8::/32]:80-90,1",
    "deny any",
    "allow from icmp://::1",
    "allow host",
];

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/.:=-]{1,12}",
        "[ -~]{1,20}",
        "(?s)[^\0]{1,30}",
        "([ \t]{0,3}[a-z#'\"\\\\:|>-]{0,8}[ ]{0,2}\n){0,5}[a-z ]{0,4}"
            .prop_filter("not empty", |s| !s.is_empty()),
        prop::sample::select(ODD).prop_map(str::to_owned),
    ]
}

prop_compose! {
    fn any_spec()(
        image in "[a-z0-9./:@-]{1,20}",
        texts in prop::collection::vec(any_text(), 12),
        numbers in (64u32..20_000, 1u8.., 64u32..2_000_000),
        has in any::<u16>(),
        tty in any::<Option<bool>>(),
        scripts in prop::collection::vec(("[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", any_text()), 0..4),
        life in (any::<[Option<u32>; 6]>(), any::<bool>()),
        volumes in prop::collection::vec(("[./~]", "[^\0]{0,8}", "/[a-z :]{1,8}[a-z]", any::<bool>()), 0..3),
        envs in prop::collection::vec(("[^=\0]{1,6}", any_text()), 0..3),
        network in (any::<[bool; 2]>(), prop::sample::subsequence(RULES, 0..=RULES.len())),
    ) -> SandboxSpec {
        let mut spec = SandboxSpec::new(image);
        let text = |n: usize| (has & (1 << n) != 0).then(|| texts[n].clone());
        spec.shell = text(0);
        spec.user = text(1);
        spec.workdir = text(2).map(|dir| format!("/{dir}"));
        spec.env_file = text(3).into_iter().collect();
        match has & 0x30 { 0 => spec.exec = text(6), _ => spec.command = texts[7..9].to_vec() }
        spec.meta = text(9).map(|description| Meta {
            description: Some(description),
            tags: texts[10..].to_vec(),
            ..Meta::default()
        });
        spec.memory = text(11).map(|_| Size::from_mib(numbers.0));
        spec.cpus = text(10).map(|_| numbers.1);
        spec.disk = text(8).map(|_| Size::from_mib(numbers.2));
        spec.version = text(5).map(|_| semver::Version::new(1, 2, 3));
        spec.tty = tty;
        spec.scripts = scripts.into_iter().collect();
        for (at, (first, rest, target, read_only)) in volumes.into_iter().enumerate() {
            // Behind a slash, so that it is nobody else's home.
            let source = VolumeSource::Host(format!("{first}/{rest}").into());
            spec.volumes.push(Volume { source, target: format!("/{at}{target}"), read_only });
            spec.tmpfs.push(Tmpfs { target: format!("/t{at}"), size: None, mode: 0o700 });
        }
        let (lengths, idle) = life;
        let length = |n: usize| lengths[n].map(|ms| Duration::from_millis(u64::from(ms) + 1));
        spec.max_duration = length(0);
        spec.idle_timeout = length(1);
        spec.restart = match lengths[2] { None => Restart::No, Some(0) => Restart::Always, count => Restart::OnFailure(count.filter(|n| n % 2 == 0)) };
        spec.idle = idle && spec.command.is_empty() && spec.exec.is_none();
        spec.healthcheck = text(4).map(|line| Healthcheck {
            test: match line.as_str() { "" => Test::Program(vec!["CMD".into(), line]), _ => Test::Shell(line) },
            interval: length(3),
            timeout: length(4),
            retries: lengths[5].map(|count| count.max(1)),
            start_period: length(5),
        });
        spec.pids_limit = lengths[1].map(|count| count.max(1));
        for (n, script) in spec.scripts.keys().enumerate() {
            spec.imports.insert(format!("./{script}"), Imported::To(format!("/import: {n}")));
            if !spec.idle {
                spec.exports.insert(script.clone(), format!("/export: {n}"));
            }
        }
        let scope = Scope::ALL[usize::from(has % 4)];
        spec.scope = network.0[0].then_some(scope);
        spec.network.scope = (network.0[1] && !network.0[0]).then_some(scope);
        spec.network.log = network.0[1].then_some(network.0[0]);
        spec.network.limits.bandwidth = network.0[0].then(|| "up=1M,down=20M".parse().unwrap());
        spec.network.proxy = network.0[0].then(|| "http://proxy.example:3128".parse().unwrap());
        spec.network.limits.connection_rate = network.0[1].then_some(7);
        spec.network.rules = network.1.iter().map(|rule| rule.parse().unwrap()).collect();
        spec.ports = network.1.iter().zip(1..).map(|(_, at)| format!("{}:{at}/udp", 100 + at).parse().unwrap()).collect();
        for (n, rule) in network.1.iter().enumerate() {
            let from = ["env:A: b", "file:./x'", "command:a \"b\"", "keyring:s/a", "env:S4"][n];
            let secret: Secret = format!("S{n}={from}@*.example.com,a.b:in={}", if rule.len() > 8 { "body" } else { "basic,header" }).parse().unwrap();
            spec.secrets.insert(secret.name.clone(), secret.into());
        }
        for (at, rule) in network.1.iter().enumerate() {
            let hostname = network.0[0].then(|| format!("h{at}.x{}", rule.len()).parse().unwrap());
            let member = spec.groups.entry(format!("g{at}")).or_default();
            member.network.hostname = hostname;
        }
        spec.envs = envs.into_iter().map(|(key, value)| EnvVar { key, value }).collect();
        spec
    }
}

prop_compose! {
    /// Sandboxfiles with comments and gaps, as people leave them.
    fn any_file()(
        head in "(# [a-z]{0,5}\n|\n){0,3}",
        lead in "(  # [a-z]{0,5}\n|\n|      # deep\n){0,3}",
        entries in prop::collection::vec(
            ("(  # [a-z]{0,5}\n|\n){0,2}", "( # c)?", "(    # cpus: 1\n|\n|    cpus: 2\n|    envs: \\{a: b\\}\n)?", "(    exec: x\n|    scripts:\n      s: \\|\n        # x\n\n        y\n|    scripts:\n      s: \\|\\+\n        y\n\n|    command: \\[a,\n      b\\]\n)?", "(      # deep\n|    # own\n|  # level\n|\n){0,2}"),
            0..4,
        ),
        tail in "(\n|# [a-z]{0,5}\n)?(meta:\n  icon: i\n|\n)?",
    ) -> String {
        let mut text = format!("{head}sandboxes:\n{lead}");
        for (index, (above, behind, middle, last, below)) in entries.into_iter().enumerate() {
            text.push_str(&format!("{above}  s{index}:{behind}\n    image: x{behind}\n{middle}{last}{below}"));
        }
        text.push_str(&tail);
        text
    }
}

proptest! {
    #[test]
    fn what_is_added_is_read_back(name in "[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", spec in any_spec(), text in any_file()) {
        prop_assume!(!parse(&text, file()).unwrap().sandboxes.contains_key(&name));
        prop_assume!(spec.groups.is_empty() || name.parse().is_ok_and(|name| is_findable(&name)));
        let edited = add(&text, file(), &name, &spec).unwrap();
        prop_assert_eq!(&parse(&edited, file()).unwrap().sandboxes[&name], &spec);
        let in_flow = add("{\"sandboxes\": {\"zzz\": {\"image\": \"x\"}}}", file(), &name, &spec).unwrap();
        prop_assert_eq!(&parse(&in_flow, file()).unwrap().sandboxes[&name], &spec);
    }

    #[test]
    fn remove_undoes_add(spec in any_spec(), text in any_file()) {
        let edited = add(&text, file(), "app", &spec).unwrap();
        prop_assert_eq!(remove(&edited, file(), &["app"]).unwrap(), text);
    }

    #[test]
    fn remove_leaves_the_lines_of_others(text in any_file()) {
        let names: Vec<String> = parse(&text, file()).unwrap().sandboxes.keys().cloned().collect();
        for name in &names {
            let edited = remove(&text, file(), &[name]).unwrap();
            // What is left is the old text with lines missing, in order.
            let mut old = text.lines();
            prop_assert!(edited.lines().all(|line| old.by_ref().any(|kept| kept == line)), "{}", edited);
        }
        prop_assert!(remove(&text, file(), &names).is_ok());
    }

    #[test]
    fn edits_of_any_text_are_answered(text in "((sandboxes|app|image)?(:|: |\\n|\\n  |\\n    |\"|\\[|\\{|\\]|\\}|#|&a|\\*a|\\||,|\\? |\r\n)){0,40}") {
        let _ = add(&text, file(), "app", &small());
        let _ = remove(&text, file(), &["app"]);
    }
}
