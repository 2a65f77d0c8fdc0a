//! Work that talks to registries, on a thread of its own.

use std::path::Path;

use tokio::runtime::Runtime;

use super::error::Error;

/// Does `work` with a runtime for downloads and uploads. It may be called from any thread: a runtime can neither run nor
/// be dropped on a thread of another runtime, so it gets its own thread. `place` is for messages.
pub(super) fn online<T: Send>(
    place: &Path,
    work: impl FnOnce(&Runtime) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let on_own_thread = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::at("start threads for", place))?;
        let outcome = work(&runtime);
        // A transfer nobody waits for any more must not hold up the answer.
        runtime.shutdown_background();
        outcome
    };
    let done = std::thread::scope(|scope| scope.spawn(on_own_thread).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
