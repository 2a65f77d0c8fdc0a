//! Amounts of memory and disk as people write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::decode::short;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// What a size may look like, for the JSON schema.
const PATTERN: &str = r"^[0-9]+(\.[0-9]{1,6})?\s*([kKmMgGtT]([iI]?[bB])?|[bB])?$";

/// An amount of memory or disk in bytes.
///
/// Text form, the same in a Sandboxfile (`memory:`, `disk:`) and on the command line (`--memory`, `--disk`):
/// a whole number alone is MiB (`1024` = 1 GiB); with a unit it is that unit, case ignored: `K`, `M`, `G`, `T`,
/// each also as `KB` or `KiB`, and `B` for bytes. All units are powers of 1024. A fraction is fine as long as
/// it comes out in whole bytes (`1.5G`). The greatest size is 1 PiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Why a text is not a [`Size`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Neither a number nor a number with a unit.
    #[error("`{0}` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)")]
    Malformed(String),
    /// The letters after the number are no unit.
    #[error("`{unit}` in `{text}` is not a unit: use K, M, G or T")]
    Unit {
        /// The whole text.
        text: String,
        /// The part taken for the unit.
        unit: String,
    },
    /// The fraction does not come out in whole bytes, or a fraction stands without a unit.
    #[error("`{0}` is not a whole number of bytes")]
    Fraction(String),
    /// More than [`Size::MAX`].
    #[error("`{0}` is too large: the greatest size is 1024T")]
    TooLarge(String),
}

impl Size {
    /// The greatest size that can be written: 1 PiB.
    pub const MAX: Self = Self(1 << 50);

    /// A size of this many bytes; `None` above [`Size::MAX`].
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes <= Self::MAX.0 { Some(Self(bytes)) } else { None }
    }

    /// A size of this many MiB.
    pub const fn from_mib(mib: u32) -> Self {
        let bytes = mib as u64 * MIB;
        if bytes <= Self::MAX.0 { Self(bytes) } else { Self::MAX }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in MiB, rounded up, as a VMM takes it.
    pub const fn mib(self) -> u64 {
        self.0.div_ceil(MIB)
    }

    /// The size in MiB when it is a whole number of them.
    pub(super) const fn whole_mib(self) -> Option<u64> {
        if self.0.is_multiple_of(MIB) { Some(self.0 / MIB) } else { None }
    }
}

/// Bytes per unit, by the letters after the number.
fn unit(letters: &str) -> Option<u64> {
    let lower = letters.to_ascii_lowercase();
    Some(match lower.as_str() {
        "" | "m" | "mb" | "mib" => MIB,
        "b" => 1,
        "k" | "kb" | "kib" => KIB,
        "g" | "gb" | "gib" => GIB,
        "t" | "tb" | "tib" => TIB,
        _ => return None,
    })
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let trimmed = text.trim();
        let shown = || short(trimmed);
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, letters) = trimmed.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let has_point = number.contains('.');
        if whole.is_empty() || fraction.contains('.') || (has_point && fraction.is_empty()) {
            return Err(SizeError::Malformed(shown()));
        }
        let letters = letters.trim_start();
        let per_unit =
            unit(letters).ok_or_else(|| SizeError::Unit { text: shown(), unit: short(letters) })?;
        if has_point && (letters.is_empty() || fraction.len() > 6) {
            return Err(SizeError::Fraction(shown()));
        }
        // Exact: a 64-bit whole part and six decimal digits times 2^40 stay far below 2^128.
        let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge(shown()))?;
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let fraction: u128 = if has_point { fraction.parse().unwrap_or(0) } else { 0 };
        let scaled = (u128::from(whole) * scale + fraction) * u128::from(per_unit);
        if !scaled.is_multiple_of(scale) {
            return Err(SizeError::Fraction(shown()));
        }
        u64::try_from(scaled / scale)
            .ok()
            .and_then(Self::from_bytes)
            .ok_or_else(|| SizeError::TooLarge(shown()))
    }
}

impl fmt::Display for Size {
    /// The shortest exact form with a unit: `512M`, `2G`, `1536M`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(TIB, "T"), (GIB, "G"), (MIB, "M"), (KIB, "K")];
        let fits = units.iter().find(|(bytes, _)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        match fits {
            Some((bytes, letter)) => write!(f, "{}{letter}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 1024 (MiB), 512M or 2G")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, mib: u64) -> Result<Size, E> {
                mib.to_string().parse().map_err(E::custom)
            }
        }
        // As text, because YAML readers would turn an unquoted `1.50` or `0x10` into another number.
        deserializer.deserialize_str(SizeVisitor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "MiB as a whole number (1024), or a number with a unit (512M, 2G, 1GiB). Units are powers of 1024.",
            "oneOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": PATTERN },
            ],
            "examples": [1024, "512M", "2G"],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let table = [
            ("1024", GIB),
            ("64", 64 * MIB),
            ("512M", 512 * MIB),
            ("512m", 512 * MIB),
            ("8G", 8 * GIB),
            ("1GiB", GIB),
            ("1gb", GIB),
            ("1 GiB", GIB),
            ("1.5G", 1536 * MIB),
            ("0.25T", 256 * GIB),
            ("4096K", 4 * MIB),
            ("1000B", 1000),
            (" 2G ", 2 * GIB),
            ("0", 0),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let bad = [
            "",
            "G",
            "-1",
            "1.G",
            ".5G",
            "1..5G",
            "1.5",
            "1.5B",
            "12x",
            "1GG",
            "99999999999999999999",
            "2048T",
        ];
        let shown: Vec<String> =
            bad.iter().map(|text| format!("{text:?}: {}", text.parse::<Size>().unwrap_err())).collect();
        assert_eq!(
            shown,
            [
                r#""": `` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#""G": `G` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#""-1": `-1` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#""1.G": `1.G` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#"".5G": `.5G` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#""1..5G": `1..5G` is not a size: write MiB as a whole number (1024) or use a unit (512M, 2G)"#,
                r#""1.5": `1.5` is not a whole number of bytes"#,
                r#""1.5B": `1.5B` is not a whole number of bytes"#,
                r#""12x": `x` in `12x` is not a unit: use K, M, G or T"#,
                r#""1GG": `GG` in `1GG` is not a unit: use K, M, G or T"#,
                r#""99999999999999999999": `99999999999999999999` is too large: the greatest size is 1024T"#,
                r#""2048T": `2048T` is too large: the greatest size is 1024T"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn display_reads_back(bytes in 0..=Size::MAX.bytes()) {
            let size = Size::from_bytes(bytes).unwrap();
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = text.parse::<Size>();
        }
    }
}
