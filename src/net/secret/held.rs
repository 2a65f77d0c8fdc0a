//! The values of a run.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::crypto::ring;
use zeroize::Zeroizing;

use super::source::LARGEST;
use super::{Secret, SourceError};
use crate::net::policy::Name;

/// What every placeholder begins with: letters and digits alone pass unchanged through URLs, base64, JSON and shells.
const MARK: &str = "msbsecret";
/// Random characters of a placeholder, five bits each.
const RANDOM: usize = 26;

/// The secrets of one run with their values, which are overwritten when the last owner drops them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[Held]>);

/// A secret with its value.
pub struct Held {
    /// What is written down about it.
    pub secret: Secret,
    /// What the sandbox has in its stead.
    pub placeholder: String,
    value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("secret", &self.secret.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

impl Held {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    fn new(secret: &Secret, value: Zeroizing<Vec<u8>>) -> Self {
        Self { secret: secret.clone(), placeholder: placeholder(), value }
    }
}

impl Secrets {
    /// Reads the values of all.
    ///
    /// # Errors
    /// For the first that cannot be had.
    pub fn read(secrets: &[Secret]) -> Result<Self, SourceError> {
        let held = secrets.iter().map(|secret| Ok(Held::new(secret, secret.read()?)));
        Ok(Self(held.collect::<Result<_, _>>()?))
    }

    /// Those with these values, for tests.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&Secret, &str)]) -> Self {
        let held =
            pairs.iter().map(|(secret, value)| Held::new(secret, Zeroizing::new(value.as_bytes().into())));
        Self(held.collect())
    }

    /// Those with these values and placeholders, for tests that are repeated.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn known(all: &[(&Secret, &str, &str)]) -> Self {
        let held = all.iter().map(|(secret, value, placeholder)| Held {
            placeholder: (*placeholder).to_owned(),
            ..Held::new(secret, Zeroizing::new(value.as_bytes().into()))
        });
        Self(held.collect())
    }

    /// Sends the values to another process.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        for held in self.0.iter() {
            let length = u32::try_from(held.value.len()).map_err(io::Error::other)?;
            to.write_all(&length.to_le_bytes())?;
            to.write_all(&held.value)?;
        }
        Ok(())
    }

    /// Takes the values of `secrets` from the process that has sent them.
    ///
    /// # Errors
    /// The system's, or they are others.
    pub fn receive(secrets: &[Secret], from: &mut impl Read) -> io::Result<Self> {
        let held = secrets.iter().map(|secret| {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length) as usize;
            if length > LARGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut value = Zeroizing::new(vec![0; length]);
            from.read_exact(&mut value)?;
            Ok(Held::new(secret, value))
        });
        Ok(Self(held.collect::<io::Result<_>>()?))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.0.iter()
    }

    /// The one at this place.
    pub(crate) fn get(&self, index: usize) -> Option<&Held> {
        self.0.get(index)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them is for `host`.
    #[must_use]
    pub fn are_for(&self, host: &Name) -> bool {
        self.0.iter().any(|held| held.secret.is_for(host))
    }
}

/// A placeholder that nobody can guess: 130 random bits.
fn placeholder() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0; RANDOM];
    // The system's generator fails only where there is none.
    if ring::default_provider().secure_random.fill(&mut random).is_err() {
        unreachable!("Linux always has random numbers");
    }
    let letters = random.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
    MARK.chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_arrive_whole_and_are_never_shown() {
        let one: Secret = "A@a.example".parse().unwrap();
        let two: Secret = "B@b.example".parse().unwrap();
        let secrets = Secrets::of(&[(&one, "first"), (&two, "se\ncond")]);
        let mut pipe = Vec::new();
        secrets.send(&mut pipe).unwrap();
        let received = Secrets::receive(&[one.clone(), two.clone()], &mut pipe.as_slice()).unwrap();
        let values: Vec<&[u8]> = received.iter().map(Held::value).collect();
        assert_eq!(values, [&b"first"[..], b"se\ncond"]);
        assert!(!format!("{received:?}").contains("first"));
        pipe.truncate(7);
        assert!(Secrets::receive(&[one, two], &mut pipe.as_slice()).is_err());
    }

    #[test]
    fn placeholders_differ_and_pass_unchanged_through_urls_and_json() {
        let (one, two) = (placeholder(), placeholder());
        assert_ne!(one, two);
        assert_eq!(one.len(), MARK.len() + RANDOM);
        assert!(one.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    }
}
