//! Working in the guest of a sandbox, whether it runs or not: a stopped one is booted for it without its command.

use std::time::Duration;

use crate::agent::Connection;
use crate::sandbox::{self, ImageChange, Invocation, Program, Streams, Timings};

use super::args::MachineArgs;
use super::failure::Failure;
use super::launch::Launch;
use super::run::DiskArgs;
use super::settings::Context;
use super::target::Target;

/// Lets `act` work in the guest of `target`.
pub(super) fn with_guest<T>(
    context: &Context,
    target: &Target,
    args: &MachineArgs,
    act: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = if target.is_running()? {
        let client = target.client(context)?;
        runtime.block_on(async {
            let connection = client.join(false)?;
            act(&connection).await
        })
    } else {
        let launch = Launch::of_target(context, target.clone(), DiskArgs::kept(), Default::default())?;
        let machine = context.machine(args)?;
        let image = launch.image(context)?;
        let invocation = Invocation { program: Program::Nothing, args: Vec::new() };
        let refuse = ImageChange::Refuse;
        let plan = launch.definition.plan(image, machine, &invocation, &launch.storage, refuse)?;
        runtime.block_on(async {
            let streams = Streams { terminal: None, stdin: false };
            let running = sandbox::boot(plan, streams, &mut Timings::start()).await?;
            let result = act(running.connection()).await;
            // A guest that is gone by now says so where its end is awaited.
            let _ = running.connection().ask_to_stop(Duration::ZERO);
            running.gone(|| true).await?;
            result
        })
    };
    runtime.shutdown_background();
    result
}
