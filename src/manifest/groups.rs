//! `groups:` at the top of the file and of a sandbox.

use std::fmt;
use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use semver::Version;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::check::{Checker, Problem, is_name};
use super::decode::{self, Text, short};
use super::error::meant;
use super::keys::nearest;
use super::network::optional;
use super::schema;
use super::spec::{Meta, SandboxSpec, Sandboxfile};
use crate::net::group::check_subnet;
use crate::net::policy::Name;

/// Sandboxes that reach each other by name, on a network of their own.
#[expect(clippy::manual_non_exhaustive, reason = "the private field is there to be refused by name")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// What this group is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// The version of this group, a semantic version such as 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "decode::version")]
    #[schemars(schema_with = "schema::version")]
    pub version: Option<Version>,
    /// Its network; one is chosen when left out.
    #[serde(
        default,
        deserialize_with = "decode::or_default",
        skip_serializing_if = "GroupNetwork::is_empty"
    )]
    pub network: GroupNetwork,
    #[serde(default, skip_serializing, rename = "volumes", deserialize_with = "no_volumes")]
    #[schemars(skip)]
    volumes: (),
}

/// The network of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupNetwork {
    /// Its addresses, as in 10.77.0.0/24: a private network (RFC 1918, fd00::/8).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional")]
    #[schemars(schema_with = "schema::subnet")]
    pub subnet: Option<IpNet>,
}

/// What a sandbox is in a group.
#[expect(clippy::manual_non_exhaustive, reason = "the private field is there to be refused by name")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMember {
    /// Where the others find it.
    #[serde(
        default,
        deserialize_with = "decode::or_default",
        skip_serializing_if = "MemberNetwork::is_empty"
    )]
    pub network: MemberNetwork,
    #[serde(default, skip_serializing, rename = "volumes", deserialize_with = "no_volumes")]
    volumes: (),
}

/// Where the others of a group find a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberNetwork {
    /// Its address in the group's network; one is chosen when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional")]
    pub ip: Option<IpAddr>,
    /// A name of its own in the group, beside that of the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional")]
    pub hostname: Option<Name>,
}

/// The groups of a sandbox, in the order they are written.
pub type GroupMembers = IndexMap<String, GroupMember>;

impl GroupNetwork {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl MemberNetwork {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Volumes belong to sandboxes here.
fn no_volumes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer)?;
    Err(de::Error::custom("groups have no volumes: name the same volume in `volumes` of each sandbox"))
}

/// Whether names alone say everything.
pub(super) fn is_list(groups: &GroupMembers) -> bool {
    groups.values().all(|member| *member == GroupMember::default())
}

pub(super) fn serialize<S: Serializer>(groups: &GroupMembers, serializer: S) -> Result<S::Ok, S::Error> {
    if is_list(groups) { serializer.collect_seq(groups.keys()) } else { serializer.collect_map(groups) }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GroupMembers, D::Error> {
    struct ListOrMap;
    impl<'de> Visitor<'de> for ListOrMap {
        type Value = GroupMembers;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of groups, or a map from their names to what the sandbox is there")
        }

        fn visit_unit<E>(self) -> Result<GroupMembers, E> {
            Ok(IndexMap::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<GroupMembers, A::Error> {
            let mut groups = IndexMap::new();
            while let Some(Text(name)) = list.next_element()? {
                if groups.contains_key(&name) {
                    return Err(de::Error::custom(format!("`{}` is there twice", short(&name))));
                }
                groups.insert(name, GroupMember::default());
            }
            Ok(groups)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GroupMembers, A::Error> {
            let mut groups = IndexMap::new();
            while let Some(Text(name)) = map.next_key()? {
                groups.insert(name, map.next_value::<Option<GroupMember>>()?.unwrap_or_default());
            }
            Ok(groups)
        }
    }
    deserializer.deserialize_any(ListOrMap)
}

/// Checks the groups of a sandbox, as far as that can be done without its file.
pub(super) fn check(checker: &Checker<'_>, spec: &SandboxSpec) -> Result<(), Problem> {
    for name in spec.groups.keys() {
        if !is_name(name) {
            let hint = "use letters, digits, `_`, `.` and `-`, and begin with a letter or digit";
            return Err(checker.problem(&["groups", name], "is not the name of a group", Some(hint)));
        }
    }
    Ok(())
}

/// Checks the groups of a file, and that everybody who is in one has a place there.
pub(super) fn check_file(file: &Sandboxfile) -> Result<(), Problem> {
    for (name, group) in &file.groups {
        if !is_name(name) {
            let message = format!("`{}` cannot be the name of a group", short(name));
            return Err(Problem {
                path: vec!["groups".into(), name.clone()],
                at_key: true,
                message,
                hint: None,
            });
        }
        let Some(subnet) = group.network.subnet else { continue };
        let path = ["groups", name, "network", "subnet"].map(str::to_owned).to_vec();
        let problem = |rule: String| Problem {
            path: path.clone(),
            at_key: false,
            message: format!("{subnet}, the network of group `{name}`, {rule}"),
            hint: None,
        };
        check_subnet(subnet).map_err(problem)?;
        let others = file.groups.iter().take_while(|(other, _)| *other != name);
        let mut others = others.filter_map(|(other, group)| Some((other, group.network.subnet?)));
        if let Some((other, _)) = others.find(|(_, net)| net.contains(&subnet) || subnet.contains(net)) {
            return Err(problem(format!("has addresses of group `{other}`")));
        }
    }
    file.sandboxes.iter().try_for_each(|(name, spec)| members(file, name, spec))
}

fn members(file: &Sandboxfile, sandbox: &str, spec: &SandboxSpec) -> Result<(), Problem> {
    let checker = Checker { name: sandbox };
    for (name, member) in &spec.groups {
        // Where groups are declared at all, one that is not is a mistyped one.
        if !file.groups.is_empty() && !file.groups.contains_key(name) {
            let near = nearest(name, file.groups.keys().map(String::as_str));
            let hint = meant(&near)
                .unwrap_or_else(|| format!("add `{name}: {{}}` to `groups` at the top of the file"));
            return Err(checker.problem(&["groups", name], "is not a group of this file", Some(&hint)));
        }
        let Some(address) = member.network.ip else { continue };
        let keys = ["groups", name, "network", "ip"];
        let subnet = file.groups.get(name).and_then(|group| group.network.subnet);
        match subnet {
            None => {
                let hint =
                    format!("add `{name}: {{network: {{subnet: …}}}}` to `groups` at the top of the file");
                return Err(checker.problem(&keys, "needs a group with a `subnet`", Some(&hint)));
            }
            Some(subnet) if !subnet.contains(&address) => {
                let rule = format!("is {address}, which is not in {subnet}, the network of the group");
                return Err(checker.problem(&keys, &rule, None));
            }
            Some(_) => {}
        }
        let others = file.sandboxes.iter().take_while(|(other, _)| *other != sandbox);
        let mut others = others.filter_map(|(other, spec)| Some((other, spec.groups.get(name)?.network.ip?)));
        if let Some((other, _)) = others.find(|(_, taken)| *taken == address) {
            return Err(checker.problem(&keys, &format!("is {address}, which is that of `{other}`"), None));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "groups/tests.rs"]
mod tests;
