//! Landlock: files by what they are, not by where they lie.

use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, CompatLevel, Compatible,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::{Error, Plan};

/// The newest interface whose rights are known here. Older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// Restricts this process to the files, devices and system folders of `plan`. `false` when the kernel has no Landlock.
pub(super) fn restrict(plan: &Plan<'_>, tree: Option<&OwnedFd>) -> Result<bool, Error> {
    let failed = |error: RulesetError| Error::Landlock(error.to_string());
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let read = AccessFs::ReadFile.into();
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    for (fd, written) in &plan.files {
        if is_in_a_file_tree(*fd) {
            match allow(&mut ruleset, *fd, if *written { write } else { read }) {
                Err(error) if is_of_the_kernel(&error) => {}
                allowed => allowed.map_err(failed)?,
            }
        }
    }
    for device in plan.devices {
        if let Ok(file) = PathFd::new(device) {
            allow(&mut ruleset, &file, write | AccessFs::IoctlDev).map_err(failed)?;
        }
    }
    for path in &plan.system {
        if let Ok(file) = PathFd::new(path) {
            let rights = read | AccessFs::ReadDir | AccessFs::Execute;
            allow(&mut ruleset, &file, rights).map_err(failed)?;
        }
    }
    if let Some(tree) = tree {
        allow(&mut ruleset, tree, AccessFs::ReadDir.into()).map_err(failed)?;
    }
    for (fd, read_only) in plan.shares.iter().flat_map(|shares| &shares.entries) {
        let folder = nix::sys::stat::fstat(fd).is_ok_and(|stat| super::shares::is_folder(&stat));
        allow(&mut ruleset, fd, share_rights(folder, *read_only)).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(failed)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// What a guest may have done in a share: everything but executing files on the host and making devices.
fn share_rights(folder: bool, read_only: bool) -> BitFlags<AccessFs> {
    let file = AccessFs::WriteFile | AccessFs::Truncate;
    let inside = AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeSym
        | AccessFs::Refer;
    match (folder, read_only) {
        (true, true) => AccessFs::ReadFile | AccessFs::ReadDir,
        (true, false) => AccessFs::ReadFile | AccessFs::ReadDir | file | inside,
        (false, true) => AccessFs::ReadFile.into(),
        (false, false) => file | AccessFs::ReadFile,
    }
}

fn allow(
    ruleset: &mut RulesetCreated,
    fd: impl std::os::fd::AsFd,
    rights: BitFlags<AccessFs>,
) -> Result<(), RulesetError> {
    ruleset.add_rule(PathBeneath::new(fd, rights)).map(drop)
}

/// Pipes and sockets have no place in a file tree: Landlock does not restrict them and refuses rules about them.
fn is_in_a_file_tree(fd: BorrowedFd<'_>) -> bool {
    use nix::sys::stat::{SFlag, fstat};
    let Ok(stat) = fstat(fd) else { return false };
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    matches!(kind, SFlag::S_IFREG | SFlag::S_IFBLK | SFlag::S_IFCHR)
}

/// Whether a rule was refused because its file lives on a mount of the kernel's own, as a memfd does, which Landlock leaves alone. That
/// answer is the only thing that tells it from a file on a tmpfs.
fn is_of_the_kernel(error: &RulesetError) -> bool {
    let RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })) = error else {
        return false;
    };
    source.raw_os_error() == Some(libc::EBADFD)
}
