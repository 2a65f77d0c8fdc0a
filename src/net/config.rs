//! The network of a sandbox as it is written down.

use serde::{Deserialize, Serialize};

use super::NetworkLimits;
use super::policy::{HostAddresses, Policy, Rule, Scope, Segment};
use super::port::PortSpec;
use super::proxy::ProxySource;
use super::secret::Secret;

/// What a sandbox may reach and what reaches it: a part of its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What it may reach where no rule says otherwise.
    #[serde(default)]
    pub scope: Scope,
    /// What is allowed and denied; the first that matches decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Ports of the sandbox that are published on the host.
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    /// Whether the ports which the image exposes are published as well, each on a free port of the host.
    #[serde(default)]
    pub publish_exposed: bool,
    /// Whether connections that are let through are recorded as well as those that are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// How much of the network it may use.
    #[serde(default, skip_serializing_if = "NetworkLimits::is_empty")]
    pub limits: NetworkLimits,
    /// The proxy through which its connections go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySource>,
    /// What it may use towards their own hosts without having it.
    #[serde(default)]
    pub secrets: Vec<Secret>,
}

impl Network {
    /// Whether there is nothing to reach and nobody to be reached by, so that no network is needed at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.scope == Scope::None && self.rules.is_empty() && self.ports.is_empty() && !self.publish_exposed
    }

    /// The policy of this network on a host with these addresses, on this segment.
    #[must_use]
    pub fn policy(&self, segment: Segment, host: HostAddresses) -> Policy {
        Policy::new(self.scope, self.rules.clone(), segment, host)
    }
}
