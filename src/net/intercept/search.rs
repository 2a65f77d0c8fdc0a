//! Placeholders in a stream of bytes, wherever its pieces end.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::net::secret::Secrets;

/// Finds the placeholders of some secrets, each known by its place among them.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: AhoCorasick,
    needles: Vec<Vec<u8>>,
    /// Whose needle each is.
    owners: Vec<usize>,
}

/// A needle in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Whose.
    pub(super) secret: usize,
    /// Where it begins.
    pub(super) start: usize,
    /// Where what follows begins.
    pub(super) end: usize,
}

impl Finder {
    /// Finds placeholders as they are.
    pub(super) fn plain(secrets: &Secrets) -> Self {
        let needles = secrets.iter().map(|held| held.placeholder.clone().into_bytes()).enumerate();
        Self::new(needles.collect())
    }

    /// Finds placeholders as they are, and within base64 at any place.
    pub(super) fn disguised(secrets: &Secrets) -> Self {
        let mut needles = Vec::new();
        for (index, held) in secrets.iter().enumerate() {
            let placeholder = held.placeholder.as_bytes();
            needles.push((index, placeholder.to_vec()));
            for before in 0..3 {
                needles.push((index, in_base64(placeholder, before)));
            }
        }
        Self::new(needles)
    }

    fn new(needles: Vec<(usize, Vec<u8>)>) -> Self {
        let (owners, needles): (Vec<usize>, Vec<Vec<u8>>) = needles.into_iter().unzip();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(&needles);
        // Fails only for more patterns than fit into memory.
        let automaton = automaton.unwrap_or_else(|error| unreachable!("a few short patterns: {error}"));
        Self { automaton, needles, owners }
    }

    /// The needles in `text`, from its beginning.
    pub(super) fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Found> + 'a {
        let found = self.automaton.find_iter(text);
        found.map(|found| Found {
            secret: self.owners[found.pattern().as_usize()],
            start: found.start(),
            end: found.end(),
        })
    }

    /// Whose needle is first in `text`.
    pub(super) fn first(&self, text: &[u8]) -> Option<usize> {
        self.all(text).next().map(|found| found.secret)
    }

    /// How many bytes at the end of `text` may be the beginning of a needle.
    fn unfinished(&self, text: &[u8]) -> usize {
        let longest = self.needles.iter().map(Vec::len).max().unwrap_or(0).saturating_sub(1).min(text.len());
        let begins = |length: &usize| {
            let end = &text[text.len() - length..];
            self.needles.iter().any(|needle| needle.len() > *length && needle.starts_with(end))
        };
        (1..=longest).rev().find(begins).unwrap_or(0)
    }
}

/// What `inner` looks like within base64, with `before` bytes of its first group of three in front of it: the characters that no
/// neighbour has a share in.
pub(super) fn in_base64(inner: &[u8], before: usize) -> Vec<u8> {
    let mut padded = vec![0; before];
    padded.extend(inner);
    let text = STANDARD_NO_PAD.encode(&padded);
    let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    text.as_bytes()[first..last].to_vec()
}

/// Watches a stream go by.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// The end of what has gone by, as far as it may be the beginning of a needle.
    tail: Vec<u8>,
}

impl Watcher {
    /// Whose needle ends in `piece`, which comes next.
    pub(super) fn watch(&mut self, finder: &Finder, piece: &[u8]) -> Option<usize> {
        // Where nothing has begun, nothing need be copied.
        let joined: Vec<u8>;
        let text = if self.tail.is_empty() {
            piece
        } else {
            joined = [&self.tail, piece].concat();
            &joined
        };
        let found = finder.first(text);
        let tail = text[text.len() - finder.unfinished(text)..].to_vec();
        self.tail = tail;
        found
    }
}

/// Rewrites a stream: what may be the beginning of a needle waits for what follows.
#[derive(Debug, Default)]
pub(super) struct Replacer {
    held: Vec<u8>,
}

impl Replacer {
    /// What `piece`, which comes next, becomes; `with` says what takes the place of a secret's needle.
    ///
    /// # Errors
    /// What `with` fails with.
    pub(super) fn replace<E>(
        &mut self,
        finder: &Finder,
        piece: &[u8],
        with: impl FnMut(usize) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Zeroizing<Vec<u8>>, E> {
        self.held.extend_from_slice(piece);
        let text = std::mem::take(&mut self.held);
        let (mut out, rest) = replaced(finder, &text, with)?;
        let rest = &text[rest..];
        let (ready, held) = rest.split_at(rest.len() - finder.unfinished(rest));
        out.extend_from_slice(ready);
        self.held = held.to_vec();
        Ok(out)
    }

    /// Whether nothing is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What was waiting, when nothing follows.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// `text` up to its last needle, with the needles replaced, and where what follows them begins.
fn replaced<E>(
    finder: &Finder,
    text: &[u8],
    mut with: impl FnMut(usize) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<(Zeroizing<Vec<u8>>, usize), E> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = 0;
    for found in finder.all(text) {
        out.extend_from_slice(&text[rest..found.start]);
        out.extend_from_slice(&with(found.secret)?);
        rest = found.end;
    }
    Ok((out, rest))
}

/// The whole of `text` with its needles replaced; `None` if there are none.
///
/// # Errors
/// What `with` fails with.
pub(super) fn replace_all<E>(
    finder: &Finder,
    text: &[u8],
    with: impl FnMut(usize) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<Option<Zeroizing<Vec<u8>>>, E> {
    if finder.first(text).is_none() {
        return Ok(None);
    }
    let (mut out, rest) = replaced(finder, text, with)?;
    out.extend_from_slice(&text[rest..]);
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::net::secret::Secret;

    fn secrets() -> Secrets {
        let (one, two): (Secret, Secret) = ("A@a.example".parse().unwrap(), "B@b.example".parse().unwrap());
        Secrets::of(&[(&one, "first value"), (&two, "2")])
    }

    /// A text of both placeholders, pieces of them and other bytes, and what it is to become.
    fn texts(secrets: &Secrets, parts: &[(u8, usize, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
        let (mut text, mut wanted) = (Vec::new(), Vec::new());
        for (kind, cut, other) in parts {
            let held = secrets.get(usize::from(kind % 2)).unwrap();
            let placeholder = held.placeholder.as_bytes();
            match kind / 2 {
                0 => {
                    text.extend_from_slice(placeholder);
                    wanted.extend_from_slice(held.value());
                }
                1 => {
                    // So much is missing that what follows does not complete it by chance.
                    let piece = &placeholder[..cut % (placeholder.len() - 10)];
                    text.extend_from_slice(piece);
                    wanted.extend_from_slice(piece);
                }
                _ => {
                    text.extend_from_slice(other);
                    wanted.extend_from_slice(other);
                }
            }
        }
        (text, wanted)
    }

    proptest! {
        #[test]
        fn a_stream_is_rewritten_wherever_its_pieces_end(
            parts in prop::collection::vec((0_u8..6, any::<usize>(), prop::collection::vec(any::<u8>(), 0..20)), 0..12),
            cuts in prop::collection::vec(1_usize..50, 1..60),
        ) {
            let secrets = secrets();
            let finder = Finder::plain(&secrets);
            let (text, wanted) = texts(&secrets, &parts);
            let value = |index: usize| Ok::<_, Infallible>(Zeroizing::new(secrets.get(index).unwrap().value().to_vec()));
            let (mut replacer, mut watcher) = (Replacer::default(), Watcher::default());
            let (mut out, mut seen, mut rest) = (Vec::new(), false, text.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                out.extend_from_slice(&replacer.replace(&finder, piece, value).unwrap());
                seen |= watcher.watch(&finder, piece).is_some();
                rest = behind;
            }
            out.extend(replacer.finish());
            prop_assert_eq!(&out, &wanted);
            prop_assert_eq!(seen, finder.first(&text).is_some());
            let whole = replace_all(&finder, &text, value).unwrap();
            prop_assert_eq!(whole.map_or(text, |whole| whole.to_vec()), wanted);
        }

        #[test]
        fn base64_hides_no_placeholder(before in prop::collection::vec(any::<u8>(), 0..9), after in prop::collection::vec(any::<u8>(), 0..9)) {
            let secrets = secrets();
            let placeholder = secrets.get(1).unwrap().placeholder.as_bytes();
            let text = base64::engine::general_purpose::STANDARD.encode([&before, placeholder, &after].concat());
            prop_assert_eq!(Finder::disguised(&secrets).first(text.as_bytes()), Some(1));
        }
    }

    #[test]
    fn what_is_surely_no_beginning_does_not_wait() {
        let secrets = secrets();
        let finder = Finder::plain(&secrets);
        let mut replacer = Replacer::default();
        let mut push = |piece: &[u8]| {
            replacer.replace(&finder, piece, |_| Ok::<_, Infallible>(Zeroizing::default())).unwrap().to_vec()
        };
        assert_eq!(push(b"hello mm"), b"hello m");
        assert_eq!(push(b"x"), b"mx");
    }
}
