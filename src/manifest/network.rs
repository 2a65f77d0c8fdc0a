//! `scope:`, `network:` and `ports:`.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::decode::{Text, short};
use crate::net::policy::{Rule, Scope};
use crate::net::port::PortSpec;
use crate::net::proxy::{ProxyError, ProxySource};
use crate::net::{Bandwidth, NetworkLimits};

/// Rules alone, `network: [RULE, …]`, or with more: `network: {scope: SCOPE, rules: [RULE, …], log: true}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// As the key `scope` of the sandbox, where files of the era have it.
    pub scope: Option<Scope>,
    /// What is allowed and denied; the first that matches decides.
    pub rules: Vec<Rule>,
    /// Whether connections that are let through are recorded.
    pub log: Option<bool>,
    /// `bandwidth`, `max_connections` and `connection_rate`.
    pub limits: NetworkLimits,
    /// Through whom its connections go.
    pub proxy: Option<ProxySource>,
}

impl NetworkSpec {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is but a list of rules.
    pub(super) fn is_short(&self) -> bool {
        *self == Self { rules: self.rules.clone(), ..Self::default() }
    }
}

impl Serialize for NetworkSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Long<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            scope: Option<Scope>,
            #[serde(skip_serializing_if = "<[Rule]>::is_empty")]
            rules: &'a [Rule],
            #[serde(skip_serializing_if = "Option::is_none")]
            log: Option<bool>,
            #[serde(flatten)]
            limits: NetworkLimits,
            #[serde(skip_serializing_if = "Option::is_none")]
            proxy: Option<&'a ProxySource>,
        }
        if self.is_short() {
            return self.rules.serialize(serializer);
        }
        let Self { scope, ref rules, log, limits, ref proxy } = *self;
        Long { scope, rules, log, limits, proxy: proxy.as_ref() }.serialize(serializer)
    }
}

/// A text that is read by its own rules, so that a mistake is reported at its own line.
struct One<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

fn all<T>(read: Option<Vec<One<T>>>) -> Vec<T> {
    read.unwrap_or_default().into_iter().map(|One(item)| item).collect()
}

/// A number of things of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(u32);

/// Why a text is no [`Count`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` cannot be: write a whole number from 1 to 4294967295")]
pub struct CountError(String);

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        match text.parse() {
            Ok(count) if count > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self(count)),
            _ => Err(CountError(short(text))),
        }
    }
}

impl From<Count> for u32 {
    fn from(count: Count) -> Self {
        count.0
    }
}

/// A proxy, or why it is none and what to do about it.
struct Proxy(ProxySource);

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: ProxyError| match error.hint() {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        })
    }
}

pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    Option::<One<T>>::deserialize(deserializer).map(|read| read.map(|One(read)| read))
}

pub(super) fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scope>, D::Error> {
    Option::<One<Scope>>::deserialize(deserializer).map(|scope| scope.map(|One(scope)| scope))
}

pub(super) fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PortSpec>, D::Error> {
    Option::deserialize(deserializer).map(all)
}

pub(super) fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NetworkSpec, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = NetworkSpec;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of rules")
        }

        fn visit_unit<E>(self) -> Result<NetworkSpec, E> {
            Ok(NetworkSpec::default())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<NetworkSpec, E> {
            match text.parse::<Scope>() {
                Ok(scope) => Err(E::custom(format_args!("rules stand here; write `scope: {scope}` instead"))),
                Err(_) => Err(E::invalid_type(Unexpected::Str(text), &self)),
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NetworkSpec, A::Error> {
            let mut network = NetworkSpec::default();
            while let Some(One(rule)) = list.next_element()? {
                network.rules.push(rule);
            }
            Ok(network)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NetworkSpec, A::Error> {
            const KEYS: [&str; 7] =
                ["scope", "rules", "log", "bandwidth", "max_connections", "connection_rate", "proxy"];
            let mut network = NetworkSpec::default();
            while let Some(Text(key)) = map.next_key()? {
                match key.as_str() {
                    "scope" => {
                        network.scope = map.next_value::<Option<One<Scope>>>()?.map(|One(scope)| scope)
                    }
                    "rules" => network.rules = all(map.next_value()?),
                    "log" => network.log = map.next_value()?,
                    "bandwidth" => {
                        let read = map.next_value::<Option<One<Bandwidth>>>()?;
                        network.limits.bandwidth = read.map(|One(bandwidth)| bandwidth);
                    }
                    "proxy" => {
                        let read = map.next_value::<Option<One<Proxy>>>()?;
                        network.proxy = read.map(|One(Proxy(proxy))| proxy);
                    }
                    "max_connections" => {
                        let read = map.next_value::<Option<One<Count>>>()?;
                        network.limits.max_connections = read.map(|One(count)| count.into());
                    }
                    "connection_rate" => {
                        let read = map.next_value::<Option<One<Count>>>()?;
                        network.limits.connection_rate = read.map(|One(count)| count.into());
                    }
                    _ => return Err(de::Error::unknown_field(&key, &KEYS)),
                }
            }
            Ok(network)
        }
    }
    deserializer.deserialize_any(Either)
}
