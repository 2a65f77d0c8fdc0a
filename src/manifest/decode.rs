//! How single values of a Sandboxfile are read. A mistake is reported here, where the reader knows its place.

use std::fmt;
use std::hash::Hash;

use indexmap::IndexMap;
use semver::Version;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// A scalar exactly as it is written (`1.10` stays `1.10`), without NUL bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Neither an argument nor a variable nor a path can carry it into the guest.
        if text.contains('\0') { Err(de::Error::custom("a NUL byte is not allowed")) } else { Ok(Self(text)) }
    }
}

fn strings(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|Text(text)| text).collect()
}

/// A key without a value (`sandboxes:`) means the same as no key.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|Text(text)| text)
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<Text>::deserialize(deserializer).map(|text| text.map(|Text(text)| text))
}

pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    or_default(deserializer).map(strings)
}

pub(super) fn scripts<'de, D>(deserializer: D) -> Result<IndexMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let read: IndexMap<Text, Text> = or_default(deserializer)?;
    Ok(read.into_iter().map(|(Text(name), Text(body))| (name, body)).collect())
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one path or a list of paths")
        }

        fn visit_unit<E>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }

        fn visit_str<E: de::Error>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut many = Vec::new();
            while let Some(Text(text)) = list.next_element()? {
                many.push(text);
            }
            Ok(many)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

pub(super) fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let Some(Text(text)) = Option::deserialize(deserializer)? else { return Ok(None) };
    match text.parse::<u8>() {
        Ok(cpus) if cpus >= 1 => Ok(Some(cpus)),
        _ => Err(de::Error::custom(format_args!("`{}` is not a whole number from 1 to 255", short(&text)))),
    }
}

pub(super) fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Version>, D::Error> {
    let Some(Text(text)) = Option::deserialize(deserializer)? else { return Ok(None) };
    Version::parse(&text).map(Some).map_err(|error| {
        de::Error::custom(format_args!("`{}` is not a semantic version such as 1.0.0: {error}", short(&text)))
    })
}

/// The text as an error may repeat it: one short line.
pub(super) fn short(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if text.chars().count() > 60 {
        short.push('…');
    }
    short
}
