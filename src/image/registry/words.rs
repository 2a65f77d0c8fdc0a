//! Words of registries, made fit to be shown.

use serde::Deserialize;

/// Text from outside, fit for a terminal: no control characters, one line, not endless.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(limit).collect()
}

/// The messages in the specification's error format, else the text itself when it is short and no page.
pub(super) fn envelope(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => {
            let entries = envelope.errors.iter().take(3).map(|entry| match entry.message.as_str() {
                "" => entry.code.clone(),
                message => message.to_owned(),
            });
            printable(&entries.collect::<Vec<_>>().join("; "), 300)
        }
        Err(_) if body.starts_with(b"<") || body.starts_with(b"{") => String::new(),
        Err(_) => printable(&String::from_utf8_lossy(body), 200),
    }
}

/// A few tags to suggest: those that begin alike first, then the rest as the registry ordered them.
pub(super) fn nearest(wanted: &str, mut tags: Vec<String>) -> Vec<String> {
    let alike = |tag: &String| tag.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    tags.sort_by_key(|tag| std::cmp::Reverse(alike(tag)));
    tags.iter().take(5).map(|tag| printable(tag, 128)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_error_bodies() {
        let json = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m entry"},{"code":"X"}]}"#;
        assert_eq!(envelope(json), "no[31m entry; X");
        assert_eq!(envelope(b"<html>nginx</html>"), "");
        assert_eq!(envelope(b"try\nlater"), "try later");
    }

    #[test]
    fn suggests_tags() {
        let tags = ["1.0", "3.11", "3.12", "latest"].map(String::from).to_vec();
        assert_eq!(nearest("3.13", tags)[..2], ["3.11", "3.12"]);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body: Vec<u8>) {
            let _ = envelope(&body);
        }
    }
}
