//! What tools are started with.

use super::launch::Program;
use crate::message::Tool;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The executable that has the tools, and what they work on that has no path in the guest.
#[derive(Debug)]
pub struct Toolbox {
    /// The program, open.
    pub program: OwnedFd,
    /// The layers of the root, for telling what changed.
    pub layers: Option<Layers>,
}

/// The root folders of the two layers of the root file system, open.
#[derive(Debug)]
pub struct Layers {
    /// The writable one.
    pub upper: OwnedFd,
    /// The image.
    pub lower: OwnedFd,
}

impl Toolbox {
    /// The tools of the running program itself.
    ///
    /// # Errors
    /// When `/proc` does not lead to it.
    pub fn own(layers: Option<Layers>) -> io::Result<Toolbox> {
        let program = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/proc/self/exe")?;
        Ok(Toolbox { program: program.into(), layers })
    }

    /// What to execute for `tool`, or why there is no such tool.
    pub(super) fn program(&self, tool: &Tool) -> Result<Program, String> {
        let layers = match (tool, &self.layers) {
            (Tool::Unknown, _) => return Err("this guest has no such tool".into()),
            (Tool::Diff, None) => return Err("the root of this guest has no layers to compare".into()),
            (Tool::Diff, Some(layers)) => vec![layers.upper.as_raw_fd(), layers.lower.as_raw_fd()],
            _ => Vec::new(),
        };
        let json = serde_json::to_string(tool).map_err(|e| e.to_string())?;
        let words = ["msb-guest".to_owned(), json].into_iter().chain(layers.iter().map(ToString::to_string));
        let argv =
            words.map(|word| CString::new(word).map_err(|e| e.to_string())).collect::<Result<_, _>>()?;
        Ok(Program { files: Vec::new(), open: Some(self.program.as_raw_fd()), inherited: layers, argv })
    }
}
