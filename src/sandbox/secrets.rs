//! The secrets of a sandbox that is about to start.

use nix::sys::resource::{Resource, setrlimit};

use super::Error;
use super::plan::Definition;
use crate::net::policy::{HostAddresses, Policy, Reason, Segment};
use crate::net::secret::{Secret, Secrets};

impl Definition {
    /// Reads the values of its secrets, and keeps them in this process.
    ///
    /// # Errors
    /// One cannot be had, could never be used, or its variable is another's.
    pub fn read_secrets(&self) -> Result<Secrets, Error> {
        let secrets = &self.network.secrets;
        if secrets.is_empty() {
            return Ok(Secrets::default());
        }
        for (index, secret) in secrets.iter().enumerate() {
            let name = &secret.name;
            if secrets[..index].iter().any(|other| other.name == *name)
                || self.env.iter().any(|(key, _)| key == name)
            {
                return Err(Error::SecretVariable { secret: name.clone() });
            }
        }
        let policy = self.network.policy(Segment::default(), HostAddresses::default());
        secrets.iter().try_for_each(|secret| self.check_reach(secret, &policy))?;
        keep_in_process()?;
        Ok(Secrets::read(secrets)?)
    }

    /// A secret all of whose hosts are out of reach was not meant so.
    fn check_reach(&self, secret: &Secret, policy: &Policy) -> Result<(), Error> {
        let unreachable = |why: String| Error::SecretUnreachable {
            secret: secret.name.clone(),
            hosts: secret.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            why,
        };
        if self.network.is_off() {
            return Err(unreachable(
                "the sandbox has no network: its scope is `none`, without a rule".into(),
            ));
        }
        let mut why = None;
        for host in &secret.hosts {
            // About names below a domain nobody can tell beforehand.
            let Some(name) = host.exact() else { return Ok(()) };
            let verdict = policy.decide_name(name);
            // The host's own name is answered by the gateway, and rules about addresses decide.
            if verdict.allowed || name.as_str() == crate::net::policy::HOST_NAME {
                return Ok(());
            }
            why = why.or(Some(match verdict.reason {
                Reason::Rule(number, rule) => format!("rule {number}, `{rule}`, keeps it from there"),
                _ => format!("its scope is `{}`, and no rule allows it", self.network.scope.as_str()),
            }));
        }
        why.map_or(Ok(()), |why| Err(unreachable(why)))
    }
}

/// From here on nobody but root looks into this process, and no core of it is written.
///
/// # Errors
/// The system's.
pub(super) fn keep_in_process() -> Result<(), Error> {
    let failed =
        |errno: nix::Error| Error::System { action: "keep secrets in this process", source: errno.into() };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    nix::sys::prctl::set_dumpable(false).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unreachable(rules: &[&str], scope: &str, secret: &str) -> Option<String> {
        let mut definition = Definition::new("a", "b");
        definition.network.scope = scope.parse().unwrap();
        definition.network.rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let policy = definition.network.policy(Segment::default(), HostAddresses::default());
        let secret: Secret = secret.parse().unwrap();
        definition.check_reach(&secret, &policy).err().map(|error| error.to_string())
    }

    #[test]
    fn a_secret_that_could_never_be_used_is_explained() {
        assert_eq!(unreachable(&[], "public", "K@api.example.com"), None);
        assert_eq!(unreachable(&["allow api.example.com"], "none", "K@api.example.com"), None);
        assert_eq!(unreachable(&["deny a.example"], "public", "K@a.example,b.example"), None);
        assert_eq!(
            unreachable(&[], "none", "K@api.example.com").unwrap(),
            "the secret `K` is for api.example.com, which the sandbox cannot reach: the sandbox has no network: its scope is \
             `none`, without a rule"
        );
        let denied = unreachable(&["deny *.example.com"], "public", "K@api.example.com").unwrap();
        assert!(denied.ends_with("rule 1, `deny *.example.com`, keeps it from there"), "{denied}");
        let scope = unreachable(&["allow other.example"], "none", "K@api.example.com").unwrap();
        assert!(scope.ends_with("its scope is `none`, and no rule allows it"), "{scope}");
    }

    #[test]
    fn a_variable_is_one_things_alone() {
        let mut definition = Definition::new("a", "b");
        definition.env.push(("K".into(), "1".into()));
        definition.network.secrets.push("K@a.example".parse().unwrap());
        assert!(matches!(definition.read_secrets(), Err(Error::SecretVariable { .. })));
    }
}
