//! `volumes:` and `tmpfs:`, and the flags of the same form.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use msb_guest::message::{ByteString, FILES_DIR};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::check;
use super::decode::{Text, short};
use super::size::Size;

/// Longest path of either side: `PATH_MAX` without its NUL.
const LONGEST_PATH: usize = 4095;
/// Folders of the guest that are its kernel's.
const KERNEL_FOLDERS: [&str; 2] = ["/proc", "/sys"];

/// Something of the host, or a named volume, at a place in the sandbox: `SOURCE:TARGET`, `SOURCE:TARGET:ro`.
///
/// A source with `/`, `.` or `~` in front is a folder or file of the host, another one the name of a volume. A colon in a path
/// is written `\:`, a backslash `\\`. On the command line paths need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "ByteString", try_from = "ByteString")]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// Where in the sandbox: an absolute path without `.`, `..` or empty parts.
    pub target: String,
    /// Whether the sandbox may only read it.
    pub read_only: bool,
}

/// What a [`Volume`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VolumeSource {
    /// A folder or file of the host, as written: absolute, relative to the file or folder it was written in, or below `~`.
    Host(PathBuf),
    /// A named volume.
    Named(String),
}

/// Memory as a file system in the sandbox: `TARGET`, `TARGET:size=64m`, `TARGET:size=64m,mode=700`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Tmpfs {
    /// Where in the sandbox: as in [`Volume`].
    pub target: String,
    /// The most it holds; half of the sandbox's memory when left out.
    pub size: Option<Size>,
    /// Permission bits of its root folder.
    pub mode: u32,
}

/// Why a text is not a [`Volume`] or a [`Tmpfs`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VolumeError {
    /// No target.
    #[error("`{0}` does not say where: write SOURCE:TARGET, such as ./src:/work")]
    NoTarget(String),
    /// More than source, target and options.
    #[error("`{0}` has too many colons: write SOURCE:TARGET[:ro], and `\\:` for a colon in a path")]
    TooMany(String),
    /// An option that does not exist.
    #[error("`{option}` in `{text}` is not an option: there is {known}")]
    Option {
        /// The whole text.
        text: String,
        /// The option.
        option: String,
        /// Those there are.
        known: &'static str,
    },
    /// The source is empty or cannot be told from a volume's name.
    #[error(
        "`{0}` is not the name of a volume: use letters, digits, `_`, `.` and `-`, and write ./{0} for a folder"
    )]
    Source(String),
    /// Somebody else's home folder.
    #[error("`{0}`: only one's own home folder can be written with ~, as in ~/src")]
    OtherHome(String),
    /// The target is not absolute.
    #[error("`{0}` is not an absolute path in the sandbox, such as /work")]
    Relative(String),
    /// The target cannot be a mount point.
    #[error("nothing can be mounted on `{0}` in a sandbox")]
    Target(String),
    /// A path is too long, or has a NUL byte.
    #[error("`{0}` cannot be a path")]
    Path(String),
    /// A size or mode that is none.
    #[error("`{option}` in `{text}`: {reason}")]
    Value {
        /// The whole text.
        text: String,
        /// The option with its value.
        option: String,
        /// What is wrong.
        reason: String,
    },
}

impl Volume {
    /// Reads a volume as it is written on a command line.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn parse(text: &OsStr) -> Result<Self, VolumeError> {
        let shown = || short(&text.to_string_lossy());
        let parts = split(text.as_bytes());
        let (source, target, option) = match parts.as_slice() {
            [source, target] => (source, target, None),
            [source, target, option] => (source, target, Some(option)),
            [] | [_] => return Err(VolumeError::NoTarget(shown())),
            _ => return Err(VolumeError::TooMany(shown())),
        };
        let read_only = match option.map(Vec::as_slice) {
            None | Some(b"rw") => false,
            Some(b"ro") => true,
            Some(other) => {
                let option = short(&String::from_utf8_lossy(other));
                return Err(VolumeError::Option { text: shown(), option, known: "ro and rw" });
            }
        };
        Ok(Self { source: source_of(source)?, target: target_of(target)?, read_only })
    }

    /// The text that [`Volume::parse`] reads as this.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        let mut text = match &self.source {
            VolumeSource::Host(path) => escaped(path.as_os_str().as_bytes()),
            VolumeSource::Named(name) => name.as_bytes().to_vec(),
        };
        text.push(b':');
        text.extend(escaped(self.target.as_bytes()));
        if self.read_only {
            text.extend(b":ro");
        }
        OsString::from_vec(text)
    }

    /// The same with an absolute path of the host, relative ones starting at `base`, `~` being `home`.
    ///
    /// # Errors
    /// [`VolumeError::OtherHome`] when `~` is needed and there is no home.
    pub fn resolved(mut self, base: &Path, home: Option<&Path>) -> Result<Self, VolumeError> {
        if let VolumeSource::Host(path) = &mut self.source {
            *path = match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) => home.join(rest),
                (Ok(_), None) => return Err(VolumeError::OtherHome(path.display().to_string())),
                (Err(_), _) => base.join(&*path),
            };
        }
        Ok(self)
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_os_string().display())
    }
}

impl FromStr for Volume {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        Self::parse(OsStr::new(text))
    }
}

impl From<Volume> for ByteString {
    fn from(volume: Volume) -> Self {
        volume.to_os_string().into()
    }
}

impl TryFrom<ByteString> for Volume {
    type Error = VolumeError;

    fn try_from(text: ByteString) -> Result<Self, VolumeError> {
        Self::parse(OsStr::from_bytes(text.as_bytes()))
    }
}

impl Tmpfs {
    /// Permission bits where nothing else is asked for: everybody may write, as in `/tmp`.
    pub const DEFAULT_MODE: u32 = 0o1777;
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&escaped(self.target.as_bytes())))?;
        let size = self.size.map(|size| format!("size={size}"));
        let mode = (self.mode != Self::DEFAULT_MODE).then(|| format!("mode={:o}", self.mode));
        let options: Vec<String> = size.into_iter().chain(mode).collect();
        if options.is_empty() { Ok(()) } else { write!(f, ":{}", options.join(",")) }
    }
}

impl FromStr for Tmpfs {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let parts = split(text.as_bytes());
        let (target, options) = match parts.as_slice() {
            [target] => (target, &[][..]),
            [target, options] => (target, options.as_slice()),
            _ => return Err(VolumeError::TooMany(short(text))),
        };
        let mut tmpfs = Self { target: target_of(target)?, size: None, mode: Self::DEFAULT_MODE };
        for option in String::from_utf8_lossy(options).split(',').filter(|option| !option.is_empty()) {
            let wrong =
                |reason: String| VolumeError::Value { text: short(text), option: short(option), reason };
            match option.split_once('=') {
                Some(("size", size)) => {
                    let size: Size =
                        size.parse().map_err(|error: super::SizeError| wrong(error.to_string()))?;
                    if size.bytes() == 0 {
                        return Err(wrong("nothing fits into it".to_owned()));
                    }
                    tmpfs.size = Some(size);
                }
                Some(("mode", mode)) => {
                    let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o1777);
                    let rule = "permissions are written in octal digits, from 0 to 1777";
                    tmpfs.mode = bits.ok_or_else(|| wrong(rule.to_owned()))?;
                }
                _ => {
                    let known = "size and mode";
                    return Err(VolumeError::Option { text: short(text), option: short(option), known });
                }
            }
        }
        Ok(tmpfs)
    }
}

impl From<Tmpfs> for String {
    fn from(tmpfs: Tmpfs) -> Self {
        tmpfs.to_string()
    }
}

impl TryFrom<String> for Tmpfs {
    type Error = VolumeError;

    fn try_from(text: String) -> Result<Self, VolumeError> {
        text.parse()
    }
}

/// As texts, which the volumes of a Sandboxfile always are.
pub(super) fn serialize<S: Serializer>(volumes: &[Volume], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(volumes.iter().map(Volume::to_string))
}

/// A list of texts that are read one by one, so that a mistake is reported at its own line.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = VolumeError>,
{
    struct One<T>(T);
    impl<'de, T: FromStr<Err = VolumeError>> Deserialize<'de> for One<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let Text(text) = Text::deserialize(deserializer)?;
            text.parse().map(Self).map_err(de::Error::custom)
        }
    }
    let read: Option<Vec<One<T>>> = Option::deserialize(deserializer)?;
    Ok(read.unwrap_or_default().into_iter().map(|One(item)| item).collect())
}

/// The parts between colons, with `\:` and `\\` taken for what they stand for. Another backslash is one.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let byte = match (byte, bytes.peek()) {
            (b'\\', Some(b':' | b'\\')) => bytes.next().unwrap_or(byte),
            (b':', _) => {
                parts.push(Vec::new());
                continue;
            }
            _ => byte,
        };
        if let Some(part) = parts.last_mut() {
            part.push(byte);
        }
    }
    parts
}

fn escaped(path: &[u8]) -> Vec<u8> {
    path.iter()
        .flat_map(|byte| matches!(byte, b':' | b'\\').then_some(b'\\').into_iter().chain([*byte]))
        .collect()
}

fn source_of(bytes: &[u8]) -> Result<VolumeSource, VolumeError> {
    let shown = || short(&String::from_utf8_lossy(bytes));
    if !matches!(bytes.first(), Some(b'/' | b'.' | b'~')) {
        let name = std::str::from_utf8(bytes).ok().filter(|name| check::is_name(name));
        return name
            .map(|name| VolumeSource::Named(name.to_owned()))
            .ok_or_else(|| VolumeError::Source(shown()));
    }
    if bytes.contains(&0) || bytes.len() > LONGEST_PATH {
        return Err(VolumeError::Path(shown()));
    }
    if bytes.len() > 1 && bytes.starts_with(b"~") && bytes[1] != b'/' {
        return Err(VolumeError::OtherHome(shown()));
    }
    Ok(VolumeSource::Host(PathBuf::from(OsStr::from_bytes(bytes))))
}

/// The path of a place in a sandbox on which something can be mounted, without `.` and empty parts.
pub(super) fn target_of(bytes: &[u8]) -> Result<String, VolumeError> {
    let shown = || short(&String::from_utf8_lossy(bytes));
    let text =
        std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0') && text.len() <= LONGEST_PATH);
    let text = text.ok_or_else(|| VolumeError::Path(shown()))?;
    if !text.starts_with('/') {
        return Err(VolumeError::Relative(shown()));
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(VolumeError::Target(shown()));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let clean = format!("/{}", parts.join("/"));
    let taken = KERNEL_FOLDERS.iter().chain([&FILES_DIR]).any(|folder| Path::new(&clean).starts_with(folder));
    if taken || clean == "/" || clean == "/dev" {
        return Err(VolumeError::Target(shown()));
    }
    Ok(clean)
}

#[cfg(test)]
#[path = "volume/tests.rs"]
mod tests;
