//! Lengths of time as people write them, the same in a Sandboxfile and on the command line.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serializer, de};

use super::decode::{Text, short};

/// Reads a length of time: numbers with `ms`, `s`, `m`, `h`, `d` or `w`, such as `30s` or `1h 30m`. A day has 24 hours here.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let span: Option<Span> = text.parse().ok();
    let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    length
        .and_then(|length| length.try_into().ok())
        .ok_or_else(|| "write a number with s, m, h, d or w, such as 12h, 30d or `1w 2d`".to_owned())
}

/// The text that [`parse_duration`] reads as this length.
pub(super) fn show_duration(length: Duration) -> String {
    format!("{:#}", SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX))
}

pub(super) fn serialize<S: Serializer>(length: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match length {
        Some(length) => serializer.serialize_str(&show_duration(*length)),
        None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(Text(text)) = Option::deserialize(deserializer)? else { return Ok(None) };
    parse_duration(&text).map(Some).map_err(|advice| {
        de::Error::custom(format_args!("`{}` is not a length of time: {advice}", short(&text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3600));
        assert_eq!(parse_duration("12h"), hours(12));
        assert_eq!(parse_duration("30d"), hours(720));
        assert_eq!(parse_duration("1w 2d"), hours(216));
        assert_eq!(parse_duration("0s"), hours(0));
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        for wrong in ["", "30", "-1d", "1 month", "x"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for milliseconds in [0, 1, 999, 1000, 61_001, 3_600_000, 90_000_000, 1 << 40] {
            let length = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(&show_duration(length)), Ok(length));
        }
    }
}
