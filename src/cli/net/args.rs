//! Flags about the network of a sandbox.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::super::args::parse_name;
use super::super::failure::Failure;
use super::super::project::current_dir;
use crate::manifest::{Count, NetworkSpec};
use crate::net::group::Membership;
use crate::net::policy::{Action, Rule, Scope};
use crate::net::port::PortSpec;
use crate::net::proxy::{ProxyError, ProxySource};
use crate::net::secret::{Secret, SecretError};
use crate::net::{Bandwidth, Network, NetworkLimits};

/// What a sandbox may reach, and which of its ports are published.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct NetworkArgs {
    /// Instead of the scope written down.
    pub(in crate::cli) scope: Option<Scope>,
    /// Before the rules written down, in the order of the command line.
    pub(in crate::cli) rules: Vec<Rule>,
    /// Beside the ports written down.
    pub(in crate::cli) ports: Vec<PortSpec>,
    /// Whether what the image exposes is published.
    pub(in crate::cli) publish_all: bool,
    /// Whether connections that are let through are recorded.
    pub(in crate::cli) log: bool,
    /// Instead of the limits written down.
    pub(in crate::cli) limits: NetworkLimits,
    /// Instead of the proxy written down.
    pub(in crate::cli) proxy: Option<ProxySource>,
    /// Instead of those of the same names written down.
    pub(in crate::cli) secrets: Vec<Secret>,
    /// Beside the groups written down.
    pub(in crate::cli) groups: Vec<String>,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyArgs {
    /// Instead of the scope there is.
    pub(super) scope: Option<Scope>,
    /// Before the rules there are, in the order of the command line.
    pub(super) rules: Vec<Rule>,
}

/// The flags about what it may reach, each by itself.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
struct PolicyFlags {
    /// What it reaches where no rule says otherwise: none, group (its groups), public (those and the internet, nothing private),
    /// any [default: public]
    #[arg(long, value_name = "SCOPE", ignore_case = true)]
    scope: Option<ScopeArg>,
    /// Let it reach a host, address, network or group, as in example.com:443, *.example.com, tcp://10.0.0.0/8:22, host:5432; the
    /// groups are any, host (this machine), lan, loopback, link-local, internet, metadata, multicast and group. With `from` in
    /// front, let that reach its published ports. The first rule that matches decides (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = allowed)]
    allow: Vec<Rule>,
    /// Keep it from reaching something, written as behind --allow (can be repeated)
    #[arg(long, value_name = "RULE", value_parser = denied)]
    deny: Vec<Rule>,
}

/// All flags, each by itself.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
struct Flags {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Publish a port of the sandbox, as in 8080:80, 53:53/udp, 0:80 for a free one; on this machine's loopback unless an
    /// address says otherwise, as in 0.0.0.0:8080:80 (can be repeated)
    #[arg(short, long, value_name = "[BIND:]HOST:GUEST[/udp]")]
    port: Vec<PortSpec>,
    /// Publish every port that the image exposes on a free port of this machine
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Record connections that are let through as well, with names and bytes, for `msb events`; those that are not always are
    #[arg(long)]
    log_connections: bool,
    /// Have its TCP connections go through a proxy, as in socks5://proxy.example:1080, http://127.0.0.1:3128, env:ALL_PROXY, or
    /// file:/PATH of a file with the URL; UDP and pings go nowhere then. socks5:// is told addresses; socks5h:// and http:// are
    /// told names, which they look up themselves
    #[arg(long, value_name = "URL", value_parser = ProxyParser)]
    proxy: Option<ProxySource>,
    /// Bytes per second it may send and receive, as in 10M, or up=1M,down=20M
    #[arg(long, value_name = "RATE")]
    bandwidth: Option<Bandwidth>,
    /// Connections it may have at once
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    max_connections: Option<Count>,
    /// Connections it may begin per second; those beyond wait
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    connection_rate: Option<Count>,
    /// Let it use a secret it never has: NAME becomes a variable with a placeholder, which is replaced on its way to these hosts
    /// alone. The value comes from the caller's variable NAME, or from env:VAR, file:PATH, command:LINE or keyring:SERVICE/ACCOUNT;
    /// `:in=` names the parts of a request it may stand in: header, basic, query, path, body [default: header,basic] (can be
    /// repeated)
    #[arg(long, value_name = "NAME[=SOURCE]@HOST[,HOST][:in=PART]", value_parser = SecretParser)]
    secret: Vec<Secret>,
    /// Put it into a group, which is made if need be: the sandboxes of a group reach each other by name (can be repeated)
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    group: Vec<String>,
}

/// Names of `--scope`.
#[derive(Debug, Clone, Copy)]
struct ScopeArg(Scope);

impl ValueEnum for ScopeArg {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Scope::None), Self(Scope::Group), Self(Scope::Public), Self(Scope::Any)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.as_str()))
    }
}

/// Reads a [`Secret`].
#[derive(Debug, Clone)]
struct SecretParser;

/// Reads a [`ProxySource`].
#[derive(Debug, Clone)]
struct ProxyParser;

impl TypedValueParser for SecretParser {
    type Value = Secret;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Secret, clap::Error> {
        read_silently((command, "--secret"), value, |text| {
            text.parse().map_err(|error: SecretError| error.to_string())
        })
    }
}

impl TypedValueParser for ProxyParser {
    type Value = ProxySource;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ProxySource, clap::Error> {
        read_silently((command, "--proxy"), value, |text| {
            text.parse().map_err(|error: ProxyError| match error.hint() {
                Some(hint) => format!("{error}: {hint}"),
                None => error.to_string(),
            })
        })
    }
}

/// Reads a value. What cannot be read may have a password in it, and is not repeated as clap does.
fn read_silently<T>(
    (command, flag): (&Command, &str),
    value: &OsStr,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, clap::Error> {
    value.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(read).map_err(|error| {
        let text = format!("invalid value for '{flag}': {error}\n");
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command)
    })
}

fn allowed(text: &str) -> Result<Rule, String> {
    Rule::with_action(Action::Allow, text).map_err(|error| error.to_string())
}

fn denied(text: &str) -> Result<Rule, String> {
    Rule::with_action(Action::Deny, text).map_err(|error| error.to_string())
}

impl Args for PolicyArgs {
    fn augment_args(command: Command) -> Command {
        PolicyFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        PolicyFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for PolicyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = PolicyFlags::from_arg_matches(matches)?;
        let places = |id: &str| matches.indices_of(id).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        // Which of `--allow` and `--deny` comes first matters.
        let mut rules: Vec<(usize, Rule)> = places("allow").into_iter().zip(flags.allow).collect();
        rules.extend(places("deny").into_iter().zip(flags.deny));
        rules.sort_by_key(|(place, _)| *place);
        Ok(Self {
            scope: flags.scope.map(|ScopeArg(scope)| scope),
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for NetworkArgs {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for NetworkArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        Ok(Self {
            scope: flags.policy.scope,
            rules: flags.policy.rules,
            ports: flags.port,
            publish_all: flags.publish_all,
            log: flags.log_connections,
            proxy: flags.proxy,
            limits: NetworkLimits {
                bandwidth: flags.bandwidth,
                max_connections: flags.max_connections.map(u32::from),
                connection_rate: flags.connection_rate.map(u32::from),
            },
            secrets: flags.secret,
            groups: flags.group,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl NetworkArgs {
    /// What a Sandboxfile says for the flags; the scope and the ports have keys of their own.
    pub(in crate::cli) fn spec(&self) -> NetworkSpec {
        NetworkSpec {
            scope: None,
            rules: self.rules.clone(),
            log: self.log.then_some(true),
            limits: self.limits,
            proxy: self.proxy.clone(),
        }
    }

    /// Puts the sandbox into the groups of the flags, beside those it is in.
    pub(in crate::cli) fn join(&self, groups: &mut Vec<Membership>) {
        for name in &self.groups {
            let membership = Membership::of_user(name);
            if !groups.contains(&membership) {
                groups.push(membership);
            }
        }
    }

    /// Puts the flags over a network: the scope instead of its own, the rules before its own, the ports beside its own.
    pub(in crate::cli) fn apply(&self, network: &mut Network) -> Result<(), Failure> {
        network.scope = self.scope.unwrap_or(network.scope);
        network.rules.splice(0..0, self.rules.iter().cloned());
        network.publish_exposed |= self.publish_all;
        network.log |= self.log;
        network.proxy = self.proxy.clone().or(network.proxy.take());
        let (limits, written) = (&self.limits, &mut network.limits);
        written.bandwidth = limits.bandwidth.or(written.bandwidth);
        written.max_connections = limits.max_connections.or(written.max_connections);
        written.connection_rate = limits.connection_rate.or(written.connection_rate);
        let here = current_dir()?;
        for (index, secret) in self.secrets.iter().enumerate() {
            let name = &secret.name;
            if self.secrets[..index].iter().any(|other| other.name == *name) {
                return Err(Failure::new(format!("--secret gives `{name}` twice"))
                    .hint(format!("name all its hosts in one, as in {name}@api.example.com,*.example.org"))
                    .code(2));
            }
            network.secrets.retain(|other| other.name != secret.name);
            network.secrets.push(Secret { folder: here.clone(), ..secret.clone() });
        }
        for port in &self.ports {
            if let Some((clash, other)) =
                network.ports.iter().find_map(|other| Some((other.clash(port)?, other)))
            {
                return Err(Failure::new(format!(
                    "`{port}` publishes port {clash} of this machine, and `{other}` does so already"
                ))
                .hint("choose another port, or 0 for a free one")
                .code(2));
            }
            network.ports.push(port.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        network: NetworkArgs,
    }

    fn read(words: &[&str]) -> NetworkArgs {
        Line::try_parse_from(["x"].iter().chain(words)).unwrap().network
    }

    #[test]
    fn rules_keep_their_order_and_come_before_those_written_down() {
        let args = read(&[
            "--deny",
            "any:25",
            "--allow",
            "lan",
            "--deny=from udp://any",
            "--scope",
            "ANY",
            "-p",
            "0:80",
            "-P",
            "--allow",
            "x",
        ]);
        let mut network = Network { rules: vec!["deny host".parse().unwrap()], ..Network::default() };
        args.apply(&mut network).unwrap();
        let rules: Vec<String> = network.rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["deny any:25", "allow lan", "deny from udp://any", "allow x", "deny host"]);
        assert_eq!((network.scope, network.publish_exposed, network.ports.len()), (Scope::Any, true, 1));
        let mut untouched = network.clone();
        read(&[]).apply(&mut untouched).unwrap();
        assert_eq!(untouched, network);
    }

    #[test]
    fn a_port_is_published_once() {
        let mut network = Network { ports: vec!["80:80".parse().unwrap()], ..Network::default() };
        assert!(read(&["-p", "81:80", "-p", "80:81/udp"]).apply(&mut network).is_ok());
        assert!(read(&["-p", "79-80:79-80"]).apply(&mut network).is_err());
    }

    #[test]
    fn a_secret_is_given_once_and_takes_the_place_of_one_written_down() {
        let written = || Network { secrets: vec!["KEY@a.example".parse().unwrap()], ..Network::default() };
        let mut network = written();
        read(&["--secret", "KEY@b.example"]).apply(&mut network).unwrap();
        assert_eq!(network.secrets[0].hosts[0].to_string(), "b.example");
        let twice = read(&["--secret", "KEY@b.example", "--secret", "KEY@c.example"]);
        assert!(twice.apply(&mut written()).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        for (words, text) in [
            (["--allow", "ftp://x"], "`ftp` is not a protocol"),
            (["--max-connections", "-1"], "write a whole number from 1 to 4294967295"),
            (["--connection-rate", "0"], "write a whole number from 1 to 4294967295"),
            (["--scope", "lan"], "possible values: none, group, public, any"),
            (["--port", "80:x"], "`x` is not a port"),
            (["--proxy", "socks5://me:hunter2@proxy"], "with a password is not for"),
            (["--proxy", "ftp://me:hunter2@proxy"], "that is not the URL of a proxy"),
            (["--secret", "KEY=hunter2@api.example"], "says where the value is"),
        ] {
            let error = Line::try_parse_from(["x"].iter().chain(&words)).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
