//! Builds what the binary carries inside: the guest's initramfs (our static PID 1) and the ext4 disk templates.
//!
//! Both are made here so that `cargo build` alone yields a program whose two halves always speak the same protocol.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Sizes for which a formatted disk is carried; other sizes start from the largest that fits and are grown.
const TEMPLATE_SIZES: [(&str, u64); 2] = [("small", 64 << 20), ("default", 8 << 30)];
const BLOCK: usize = 4096;

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    for watched in ["guest/Cargo.toml", "guest/src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    let init = build_guest(&out)?;
    // For tests, in which no PID 1 starts its own executable.
    println!("cargo::rustc-env=MSB_GUEST_PROGRAM={}", init.display());
    fs::write(out.join("initramfs.cpio"), initramfs(&fs::read(init)?))?;
    for (name, size) in TEMPLATE_SIZES {
        fs::write(out.join(format!("{name}.template")), disk_template(&out, size)?)?;
    }
    Ok(())
}

/// Compiles `msb-guest` as a static executable and returns its path.
fn build_guest(out: &Path) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    // OUT_DIR is <target dir>/[<triple>/]<profile>/build/<package>/out: one guest build serves every profile.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR is too short")?.join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args(["build", "--quiet", "--package", "msb-guest", "--bin", "msb-guest", "--profile", "guest"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    run(&mut cargo)?;
    Ok(target_dir.join(target).join("guest/msb-guest"))
}

/// The initramfs: `/init` and the `/dev/console` the kernel opens for it, in cpio's `newc` format
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn initramfs(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(init.len() + 1024);
    let mut entry = |name: &str, mode: u32, device: (u32, u32), data: &[u8]| {
        let fields =
            [0, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    entry("dev", 0o040_755, (0, 0), &[]);
    entry("dev/console", 0o020_600, (5, 1), &[]);
    entry("init", 0o100_755, (0, 0), init);
    entry("TRAILER!!!", 0, (0, 0), &[]);
    archive
}

/// Formats an ext4 file system of `size` bytes and returns its non-zero runs:
/// `count u64`, then per run `offset u64, length u64`, then the bytes of all runs; integers little-endian.
///
/// `meta_bg` lets the guest grow it online to any size without reserved descriptor blocks, and keeps the template
/// at a few dozen blocks. All fields that would differ between builds are fixed.
fn disk_template(out: &Path, size: u64) -> Result<Vec<u8>> {
    let image = out.join("template.ext4");
    let file = fs::File::create(&image)?;
    file.set_len(0)?;
    file.set_len(size)?;
    drop(file);
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-L", "msb"])
        .args(["-O", "meta_bg,^resize_inode", "-U", "6d736200-0000-4000-8000-000000000001"])
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0,hash_seed=6d736200-0000-4000-8000-000000000002"])
        .arg(&image)
        .env("E2FSPROGS_FAKE_TIME", "1")
        .env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()));
    run(&mut mkfs)?;
    let template = non_zero_runs(&fs::File::open(&image)?, size)?;
    fs::remove_file(&image)?;
    Ok(template)
}

fn non_zero_runs(file: &fs::File, size: u64) -> Result<Vec<u8>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; BLOCK];
    let mut offset = 0;
    // Nearly all of the file is holes; reading those takes longer than the rest of the build.
    while let Some(data) = next_data(file, offset)? {
        offset = data / BLOCK as u64 * BLOCK as u64;
        file.read_exact_at(&mut chunk, offset)?;
        if chunk.iter().any(|&byte| byte != 0) {
            match runs.last_mut() {
                Some((start, run)) if *start + *run == offset => *run += BLOCK as u64,
                _ => runs.push((offset, BLOCK as u64)),
            }
            bytes.extend_from_slice(&chunk);
        }
        offset += BLOCK as u64;
    }
    assert!(offset <= size, "the file system ends where it should");
    let mut template = Vec::new();
    template.write_all(&(runs.len() as u64).to_le_bytes())?;
    for (start, length) in runs {
        template.write_all(&start.to_le_bytes())?;
        template.write_all(&length.to_le_bytes())?;
    }
    template.write_all(&bytes)?;
    Ok(template)
}

/// Where the next data at or after `offset` are, if any.
fn next_data(file: &fs::File, offset: u64) -> Result<Option<u64>> {
    match lseek(file, i64::try_from(offset)?, Whence::SeekData) {
        Ok(data) => Ok(Some(data.try_into()?)),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("cannot run {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed: {status}").into()) }
}
