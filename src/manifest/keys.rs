//! The keys of the format: which are known, which come later, and what a mistyped one was meant to be.

use strsim::{damerau_levenshtein, jaro_winkler};

/// Most names a suggestion lists.
const MOST_NEAREST: usize = 3;

/// Keys of the Sandboxfile format which this version does not have yet.
const UNSUPPORTED: &[&str] = &["builds", "init"];

/// What other tools call the same thing.
const SYNONYMS: &[(&str, &str)] = &[
    ("cmd", "command"),
    ("cpu", "cpus"),
    ("cwd", "workdir"),
    ("depends", "depends_on"),
    ("disk_size", "disk"),
    ("entrypoint", "exec"),
    ("env", "envs"),
    ("environment", "envs"),
    ("environments", "envs"),
    ("health", "healthcheck"),
    ("from", "image"),
    ("networks", "groups"),
    ("mem", "memory"),
    ("mounts", "volumes"),
    ("expose", "ports"),
    ("publish", "ports"),
    ("rules", "network"),
    ("mem_limit", "memory"),
    ("module", "modules"),
    ("pids", "pids_limit"),
    ("include", "modules"),
    ("ram", "memory"),
    ("requires", "depends_on"),
    ("restart_policy", "restart"),
    ("run", "scripts"),
    ("sandbox", "sandboxes"),
    ("script", "scripts"),
    ("services", "sandboxes"),
    ("start", "scripts"),
    ("storage", "disk"),
    ("vcpus", "cpus"),
    ("volume", "volumes"),
    ("working_dir", "workdir"),
];

/// What to say about a key that is not accepted where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Part of the format, but not of this version.
    Unsupported,
    /// Not part of the format; the likely right keys, the likeliest first.
    Unknown(Vec<String>),
}

/// Judges `key`, found where only `expected` are accepted.
pub(super) fn judge(key: &str, expected: &[&str]) -> Verdict {
    if UNSUPPORTED.contains(&key) {
        return Verdict::Unsupported;
    }
    let lower = key.to_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(other, ours)| *other == lower && expected.contains(ours));
    if let Some((_, ours)) = synonym {
        return Verdict::Unknown(vec![(*ours).to_owned()]);
    }
    let near = nearest(&lower, expected.iter().copied());
    if near.is_empty() && !nearest(&lower, UNSUPPORTED.iter().copied()).is_empty() {
        // `port:`: better the truth about `ports` than a far-fetched known key.
        return Verdict::Unknown(nearest(&lower, UNSUPPORTED.iter().copied()));
    }
    Verdict::Unknown(near)
}

/// Whether `key` belongs to the format but not to this version.
pub(super) fn is_unsupported(key: &str) -> bool {
    UNSUPPORTED.contains(&key)
}

/// The `candidates` a person who typed `name` most likely meant, the likeliest first, at most three.
///
/// A candidate counts when it differs from `name` by case alone, begins with it, or is at most a third of its
/// length in typing mistakes away.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // Names come from files and command lines: a long one is no typing mistake, and distances cost n × m.
    if name.chars().count() > 128 {
        return Vec::new();
    }
    let wanted = name.to_lowercase();
    let mut scored: Vec<(usize, f64, &str)> = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 512)
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = damerau_levenshtein(&wanted, &lower);
            let longest = wanted.chars().count().max(lower.chars().count());
            let begins = wanted.chars().count() >= 2 && lower.starts_with(&wanted);
            let close = distance <= (longest / 3).max(1) && distance < longest;
            (close || begins).then(|| (distance, jaro_winkler(&wanted, &lower), candidate))
        })
        .collect();
    scored.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(b.2)));
    scored.into_iter().take(MOST_NEAREST).map(|(_, _, candidate)| candidate.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SANDBOX: &[&str] = &[
        "image",
        "memory",
        "cpus",
        "envs",
        "env_file",
        "workdir",
        "shell",
        "scripts",
        "command",
        "exec",
        "meta",
        "version",
        "user",
        "disk",
        "tty",
        "volumes",
        "tmpfs",
        "depends_on",
        "restart",
        "healthcheck",
        "idle",
        "max_duration",
        "idle_timeout",
        "scope",
        "network",
        "ports",
        "secrets",
        "groups",
    ];

    fn first(key: &str) -> String {
        match judge(key, SANDBOX) {
            Verdict::Unsupported => "unsupported".to_owned(),
            Verdict::Unknown(near) => near.first().cloned().unwrap_or_default(),
        }
    }

    #[test]
    fn mistyped_keys_find_the_right_one() {
        let table = [
            ("imagee", "image"),
            ("Image", "image"),
            ("imgae", "image"),
            ("memroy", "memory"),
            ("cpu", "cpus"),
            ("environment", "envs"),
            ("env-file", "env_file"),
            ("working_dir", "workdir"),
            ("script", "scripts"),
            ("builds", "unsupported"),
            ("dependson", "depends_on"),
            ("health", "healthcheck"),
            ("port", "ports"),
            ("publish", "ports"),
            ("zzz", ""),
        ];
        for (key, right) in table {
            assert_eq!(first(key), right, "{key}");
        }
    }

    #[test]
    fn nearest_orders_by_distance_and_keeps_three() {
        let names = ["apply", "apps", "application", "web", "App"];
        assert_eq!(nearest("app", names), ["App", "apps", "apply"]);
        assert_eq!(nearest("wbe", names), ["web"]);
        assert!(nearest("", names).is_empty());
        assert!(nearest(&"a".repeat(10_000), names).is_empty());
    }
}
