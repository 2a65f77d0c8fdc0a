//! One sandbox as YAML.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::artifacts::Imported;
use super::super::depends;
use super::super::duration::show_duration;
use super::super::groups::{self, GroupMembers};
use super::super::life::Restart;
use super::super::network::NetworkSpec;
use super::super::size::Size;
use super::super::spec::{Meta, SandboxSpec};
use crate::net::NetworkLimits;
use crate::net::policy::Scope;

/// How bodies of several lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// After `|`, as people do.
    Blocks,
    /// In double quotes, which can say everything.
    Quotes,
}

/// The entry to write.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) spec: &'a SandboxSpec,
    pub(super) style: Style,
}

impl Entry<'_> {
    /// The entry as lines of a block map: its name in `column`, every level `step` further right.
    pub(super) fn block(&self, column: usize, step: usize) -> Vec<String> {
        let mut block = Block { lines: Vec::new(), column, step, style: self.style };
        block.open(self.name);
        block.sandbox(self.spec);
        block.lines
    }

    /// The entry as `"name": {…}` for a flow map.
    pub(super) fn flow(&self) -> String {
        let mut value = json!(self.spec);
        // As in blocks, the number of the era where there is one.
        if let Some(mib) = self.spec.memory.and_then(Size::whole_mib) {
            value["memory"] = json!(mib);
        }
        format!("{}: {}", double_quoted(self.name), in_flow(&value))
    }
}

/// A value on one line, as both JSON and YAML read it.
fn in_flow(value: &Value) -> String {
    match value {
        Value::String(text) => double_quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(in_flow).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{}: {}", double_quoted(key), in_flow(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Lines in the making.
struct Block {
    lines: Vec<String>,
    column: usize,
    step: usize,
    style: Style,
}

impl Block {
    fn push(&mut self, line: &str) {
        self.lines.push(format!("{}{line}", " ".repeat(self.column)));
    }

    fn open(&mut self, key: &str) {
        self.push(&format!("{}:", scalar(key)));
        self.column += self.step;
    }

    fn close(&mut self) {
        self.column -= self.step;
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.push(&format!("{}: {value}", scalar(key)));
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.raw(key, &scalar(value));
        }
    }

    fn list<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        if values.is_empty() {
            return;
        }
        self.open(key);
        for value in values {
            self.push(&format!("- {}", scalar(value.as_ref())));
        }
        self.close();
    }

    /// A body of maybe several lines.
    fn body(&mut self, key: &str, body: &str) {
        if self.style == Style::Quotes || !wants_block(body) {
            return self.raw(key, &scalar(body));
        }
        let indicator =
            if body.starts_with([' ', '\t', '\n']) { self.step.to_string() } else { String::new() };
        let chomping = if body.ends_with('\n') { "" } else { "-" };
        self.raw(key, &format!("|{indicator}{chomping}"));
        self.column += self.step;
        for line in body.strip_suffix('\n').unwrap_or(body).split('\n') {
            if line.is_empty() {
                self.lines.push(String::new());
            } else {
                self.push(line);
            }
        }
        self.close();
    }

    fn meta(&mut self, meta: &Meta) {
        if *meta == Meta::default() {
            return self.raw("meta", "{}");
        }
        self.open("meta");
        self.list("authors", &meta.authors);
        self.text("description", meta.description.as_deref());
        self.text("homepage", meta.homepage.as_deref());
        self.text("repository", meta.repository.as_deref());
        self.text("readme", meta.readme.as_deref());
        self.list("tags", &meta.tags);
        self.text("icon", meta.icon.as_deref());
        self.close();
    }

    fn groups(&mut self, members: &GroupMembers) {
        if groups::is_list(members) {
            return self.list("groups", &members.keys().collect::<Vec<_>>());
        }
        self.open("groups");
        for (name, member) in members {
            self.raw(name, &in_flow(&json!(member)));
        }
        self.close();
    }

    fn life(&mut self, spec: &SandboxSpec) {
        if depends::is_list(&spec.depends_on) {
            self.list("depends_on", &spec.depends_on.keys().collect::<Vec<_>>());
        } else {
            self.open("depends_on");
            for (name, condition) in &spec.depends_on {
                self.raw(name, &format!("{{condition: {condition}}}"));
            }
            self.close();
        }
        if spec.restart != Restart::No {
            self.raw("restart", &scalar(&spec.restart.to_string()));
        }
        if spec.idle {
            self.raw("idle", "true");
        }
        self.artifacts(spec);
        self.duration("max_duration", spec.max_duration);
        self.duration("idle_timeout", spec.idle_timeout);
        let Some(health) = &spec.healthcheck else { return };
        self.open("healthcheck");
        self.raw("test", &in_flow(&json!(health.test)));
        self.duration("interval", health.interval);
        self.duration("timeout", health.timeout);
        if let Some(retries) = health.retries {
            self.raw("retries", &retries.to_string());
        }
        self.duration("start_period", health.start_period);
        self.close();
    }

    fn artifacts(&mut self, spec: &SandboxSpec) {
        if !spec.imports.is_empty() {
            self.open("imports");
            for (key, imported) in &spec.imports {
                match imported {
                    Imported::To(target) => self.text(key, Some(target)),
                    Imported::Of(names) => self.raw(key, &in_flow(&json!(names))),
                }
            }
            self.close();
        }
        if !spec.exports.is_empty() {
            self.open("exports");
            for (name, path) in &spec.exports {
                self.text(name, Some(path));
            }
            self.close();
        }
    }

    fn duration(&mut self, key: &str, length: Option<Duration>) {
        self.text(key, length.map(show_duration).as_deref());
    }

    fn network(&mut self, network: &NetworkSpec) {
        let rules: Vec<String> = network.rules.iter().map(ToString::to_string).collect();
        if network.is_short() {
            return self.list("network", &rules);
        }
        self.open("network");
        self.text("scope", network.scope.map(Scope::as_str));
        self.list("rules", &rules);
        if let Some(log) = network.log {
            self.raw("log", if log { "true" } else { "false" });
        }
        let NetworkLimits { bandwidth, max_connections, connection_rate } = network.limits;
        self.text("bandwidth", bandwidth.as_ref().map(ToString::to_string).as_deref());
        self.text("proxy", network.proxy.as_ref().map(ToString::to_string).as_deref());
        for (key, limit) in [("max_connections", max_connections), ("connection_rate", connection_rate)] {
            if let Some(limit) = limit {
                self.raw(key, &limit.to_string());
            }
        }
        self.close();
    }

    fn sandbox(&mut self, spec: &SandboxSpec) {
        self.text("image", Some(&spec.image));
        self.text("version", spec.version.as_ref().map(ToString::to_string).as_deref());
        if let Some(meta) = &spec.meta {
            self.meta(meta);
        }
        if let Some(memory) = spec.memory {
            self.raw("memory", &memory.whole_mib().map_or_else(|| memory.to_string(), |mib| mib.to_string()));
        }
        if let Some(cpus) = spec.cpus {
            self.raw("cpus", &cpus.to_string());
        }
        if let Some(disk) = spec.disk {
            self.raw("disk", &disk.to_string());
        }
        if let Some(limit) = spec.pids_limit {
            self.raw("pids_limit", &limit.to_string());
        }
        self.text("user", spec.user.as_deref());
        self.text("workdir", spec.workdir.as_deref());
        self.text("shell", spec.shell.as_deref());
        if let Some(tty) = spec.tty {
            self.raw("tty", if tty { "true" } else { "false" });
        }
        self.list("env_file", &spec.env_file);
        let envs: Vec<String> = spec.envs.iter().map(ToString::to_string).collect();
        self.list("envs", &envs);
        let volumes: Vec<String> = spec.volumes.iter().map(ToString::to_string).collect();
        self.list("volumes", &volumes);
        let tmpfs: Vec<String> = spec.tmpfs.iter().map(ToString::to_string).collect();
        self.list("tmpfs", &tmpfs);
        self.life(spec);
        self.text("scope", spec.scope.map(Scope::as_str));
        self.network(&spec.network);
        let ports: Vec<String> = spec.ports.iter().map(ToString::to_string).collect();
        self.list("ports", &ports);
        if !spec.secrets.is_empty() {
            self.open("secrets");
            for (name, secret) in &spec.secrets {
                self.raw(name, &in_flow(&json!(secret)));
            }
            self.close();
        }
        self.groups(&spec.groups);
        self.text("exec", spec.exec.as_deref());
        self.list("command", &spec.command);
        if !spec.scripts.is_empty() {
            self.open("scripts");
            for (name, body) in &spec.scripts {
                self.body(name, body);
            }
            self.close();
        }
    }
}

/// Whether every character may stand in YAML as it is.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| {
        !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
            && !c.is_control()
    })
}

/// Whether a block after `|` reads better than quotes and can say the same.
fn wants_block(body: &str) -> bool {
    let lines = body.contains('\n') || (body.contains('\'') && body.contains(['"', '\\']));
    let last = body.strip_suffix('\n').unwrap_or(body).rsplit('\n').next().unwrap_or("");
    // Empty lines at the end would take the empty lines of the file below along.
    lines && !last.trim().is_empty() && body.split('\n').all(|line| is_printable(&line.replace('\t', " ")))
}

/// A scalar that every YAML reader takes for this text: plain where that is beyond doubt, else quoted.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.contains(['"', '\\']) && !text.contains('\'') && is_printable(text) {
        format!("'{text}'")
    } else {
        double_quoted(text)
    }
}

fn is_plain(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'));
    let inner = |c: char| c.is_ascii_alphanumeric() || "_./:@=+,-$()~^;<>| ".contains(c);
    first && text.chars().all(inner) && !text.ends_with([' ', ':']) && !text.contains(": ") && !is_typed(text)
}

/// Whether a YAML reader of any version could take the plain text for a number, a date, a boolean or nothing.
fn is_typed(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.parse::<f64>().is_ok()
        || word.contains(&lower.trim_start_matches(['.', '+', '-']))
        || ["0x", "0o", "0b"].iter().any(|radix| lower.starts_with(radix))
        || text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '_' | '-' | '+'))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_printable(c.encode_utf8(&mut [0; 4])) => quoted.push(c),
            c => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
