//! Env files: `KEY=VALUE` lines as docker and compose write them.
//!
//! - Empty lines and lines that begin with `#` are skipped; `export ` before a key is allowed.
//! - An unquoted value ends with the line or at a `#` after white space; white space around it is dropped.
//! - `'…'` is taken as it stands, except `\'`. In `"…"`, `\n`, `\r`, `\t`, `\\`, `\"` and `\$` are escapes.
//!   Both may run over several lines.
//! - Nothing is substituted: `$NAME` stays `$NAME`, so that no variable of the host reaches a sandbox unasked.

use std::path::Path;

use super::envs::EnvVar;
use super::error::Error;
use super::save;
use super::snippet::Snippet;

/// The variables of the env file `path`, in its order.
///
/// # Errors
/// When it cannot be read, or a line is not `KEY=VALUE`.
pub fn load(path: &Path) -> Result<Vec<EnvVar>, Error> {
    parse(&save::read(path)?, path)
}

/// The variables of `text`, the content of an env file; `path` is named in errors and not opened.
///
/// # Errors
/// [`Error::EnvFile`] for the first line that is not `KEY=VALUE`.
pub fn parse(text: &str, path: &Path) -> Result<Vec<EnvVar>, Error> {
    let mut reader = Reader { text, at: text.len() - text.trim_start_matches('\u{feff}').len() };
    let mut vars = Vec::new();
    while reader.find_assignment() {
        let var = reader.assignment().map_err(|mistake| Error::EnvFile {
            message: mistake.message,
            snippet: Box::new(Snippet::at(text, path, mistake.start, mistake.end)),
        })?;
        vars.push(var);
    }
    Ok(vars)
}

struct Mistake {
    message: String,
    start: usize,
    end: usize,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The rest of the line, without its break.
    fn line(&self) -> &'t str {
        let rest = self.rest();
        let line = rest.find('\n').map_or(rest, |end| &rest[..end]);
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    /// Steps over white space and comments; false at the end of the text.
    fn find_assignment(&mut self) -> bool {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return !self.rest().is_empty();
            }
            self.at += self.line().len();
        }
    }

    fn assignment(&mut self) -> Result<EnvVar, Mistake> {
        if let Some(after) = self.rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.skip_blanks();
        }
        let start = self.at;
        let line = self.line();
        let mistake = |message: &str| Mistake { message: message.to_owned(), start, end: start + line.len() };
        let (key, _) = line.split_once('=').ok_or_else(|| mistake("this line is not KEY=VALUE"))?;
        self.at += key.len() + 1;
        let key = key.trim_end();
        if key.is_empty() {
            return Err(mistake("there is no name before the `=`"));
        }
        if key.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '#')) {
            return Err(mistake("a name cannot contain white space, quotes or `#`"));
        }
        self.skip_blanks();
        let value = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.unquoted(),
        };
        EnvVar::new(key, value).map_err(|error| mistake(&error.to_string()))
    }

    fn unquoted(&mut self) -> String {
        let line = self.line();
        // After white space; also where the white space between `=` and here was stepped over already.
        let skipped = self.text[..self.at].ends_with([' ', '\t']);
        let comment = line
            .char_indices()
            .find(|&(at, c)| c == '#' && if at == 0 { skipped } else { line[..at].ends_with([' ', '\t']) });
        self.at += line.len();
        line[..comment.map_or(line.len(), |(at, _)| at)].trim_end().to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let open = self.at;
        let mut value = String::new();
        let mut chars = self.text[open + 1..].char_indices();
        let close = loop {
            match chars.next() {
                None => {
                    let message = format!("this value has no closing {quote}");
                    return Err(Mistake { message, start: open, end: open + 1 });
                }
                Some((at, c)) if c == quote => break open + 1 + at,
                Some((_, '\\')) => match (chars.clone().next().map(|(_, c)| c), quote) {
                    (Some('\''), '\'') => value.extend(chars.next().map(|_| '\'')),
                    (Some('n'), '"') => value.extend(chars.next().map(|_| '\n')),
                    (Some('r'), '"') => value.extend(chars.next().map(|_| '\r')),
                    (Some('t'), '"') => value.extend(chars.next().map(|_| '\t')),
                    (Some(same @ ('\\' | '"' | '$')), '"') => value.extend(chars.next().map(|_| same)),
                    _ => value.push('\\'),
                },
                Some((_, c)) => value.push(c),
            }
        };
        self.at = close + 1;
        let behind = self.line();
        let trimmed = behind.trim_start();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            let start = self.at + behind.len() - trimmed.len();
            let message = format!("after the closing {quote} only a comment may follow");
            return Err(Mistake { message, start, end: start + trimmed.len() });
        }
        self.at += behind.len();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        parse(text, Path::new(".env")).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_compose_reads() {
        let text = concat!(
            "\u{feff}# a comment\r\n",
            "\n",
            "PLAIN=value\r\n",
            "  SPACED = two words \n",
            "export EXPORTED=1\n",
            "export=kept\n",
            "EMPTY=\n",
            "COMMENTED=value # not this\n",
            "NOTHING= # not this\n",
            "HASH=value#kept\n",
            "LEADING=#kept\n",
            "SINGLE='a $HOME \\n \"b\" it\\'s'   # c\n",
            "DOUBLE=\"tab\\t nl\\n q\\\" d\\$ b\\\\ other\\x\"\n",
            "LINES=\"one\ntwo\"\n",
            "DOLLAR=$HOME/${X}\n",
            "EQUALS=a=b=c",
        );
        assert_eq!(
            read(text),
            [
                "PLAIN=value",
                "SPACED=two words",
                "EXPORTED=1",
                "export=kept",
                "EMPTY=",
                "COMMENTED=value",
                "NOTHING=",
                "HASH=value#kept",
                "LEADING=#kept",
                "SINGLE=a $HOME \\n \"b\" it's",
                "DOUBLE=tab\t nl\n q\" d$ b\\ other\\x",
                "LINES=one\ntwo",
                "DOLLAR=$HOME/${X}",
                "EQUALS=a=b=c",
            ]
        );
    }

    #[test]
    fn shows_the_line_of_a_mistake() {
        let show = |text: &str| {
            let error = parse(text, Path::new(".env")).unwrap_err();
            format!("{error}\n{}", error.snippet().unwrap())
        };
        assert_eq!(
            show("A=1\nexport B\n"),
            "this line is not KEY=VALUE\n --> .env:2:8\n  |\n2 | export B\n  |        ^"
        );
        assert_eq!(
            show("A=\"1\nB=2\n"),
            "this value has no closing \"\n --> .env:1:3\n  |\n1 | A=\"1\n  |   ^"
        );
        assert_eq!(
            show("A='1' 2\n"),
            "after the closing ' only a comment may follow\n --> .env:1:7\n  |\n1 | A='1' 2\n  |       ^"
        );
        assert!(show("=1").starts_with("there is no name before the `=`"));
        assert!(show("A B=1").starts_with("a name cannot contain white space"));
        assert!(show("A=\0").starts_with("the environment variable `A` contains a NUL byte"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(?s)([A-Z='\"\\\\# \n\r\t]|.)*") {
            let _ = parse(&text, Path::new(".env"));
        }

        #[test]
        fn quoted_values_read_back(value in "(?s)[^\0]*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let vars = parse(&format!("K=\"{escaped}\"\n"), Path::new(".env")).unwrap();
            prop_assert_eq!(&vars, &[EnvVar { key: "K".to_owned(), value }]);
        }
    }
}
