//! Finding the guest kernel and refusing files that are not one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::Error;

/// File name of the kernel beside the binary.
const BESIDE_BINARY: &str = "vmlinux-msb";
/// Program headers of a kernel: about five.
const MAX_PROGRAM_HEADERS: u16 = 128;
const ELF_HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: u64 = 56;
/// Offset of the boot protocol's magic in a bzImage (Linux: Documentation/arch/x86/boot.rst).
const BZIMAGE_MAGIC_OFFSET: usize = 0x202;
/// Offset of the magic in an arm64 Image (Linux: Documentation/arch/arm64/booting.rst).
#[cfg(target_arch = "aarch64")]
const ARM64_MAGIC_OFFSET: usize = 0x38;

/// An open guest kernel that looks bootable.
#[derive(Debug)]
pub struct Kernel {
    path: PathBuf,
    origin: &'static str,
    file: File,
}

/// Where to look for the kernel, most important first. A place that was named by the user must hold a kernel; the other places
/// may be empty.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// `--kernel`.
    pub flag: Option<PathBuf>,
    /// `MSB_KERNEL`; empty counts as unset.
    pub env: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// msb's data folder; the kernel is `kernel/vmlinux` in it.
    pub data_dir: Option<PathBuf>,
    /// The running binary; looked beside it (`vmlinux-msb`) and in `../share/msb/vmlinux`.
    pub exe: Option<PathBuf>,
}

/// Finds, opens and checks the guest kernel.
pub fn locate(lookup: &Lookup) -> Result<Kernel, Error> {
    let named = [
        (&lookup.flag, "the --kernel flag"),
        (&lookup.env, "MSB_KERNEL"),
        (&lookup.config, "the configuration file"),
    ];
    for (path, origin) in named {
        if let Some(path) = path.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            return Kernel::open(path, origin);
        }
    }
    let mut searched = Vec::new();
    for (path, origin) in default_places(lookup) {
        match Kernel::open(&path, origin) {
            Err(Error::KernelUnreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                searched.push(path);
            }
            result => return result,
        }
    }
    Err(Error::KernelMissing { searched })
}

fn default_places(lookup: &Lookup) -> Vec<(PathBuf, &'static str)> {
    let mut places = Vec::new();
    if let Some(data) = &lookup.data_dir {
        places.push((data.join("kernel/vmlinux"), "the data folder"));
    }
    if let Some(folder) = lookup.exe.as_deref().and_then(Path::parent) {
        places.push((folder.join(BESIDE_BINARY), "beside the binary"));
        if let Some(prefix) = folder.parent() {
            places.push((prefix.join("share/msb/vmlinux"), "beside the binary"));
        }
    }
    places
}

impl Kernel {
    /// Opens and checks the kernel at `path`; `origin` says in messages who named it.
    pub fn open(path: &Path, origin: &'static str) -> Result<Self, Error> {
        let unreadable = |source| Error::KernelUnreadable { path: path.into(), origin, source };
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            let reason = "it is not a file".into();
            return Err(Error::KernelUnusable { path: path.into(), origin, reason });
        }
        match check(&mut file, metadata.len()).map_err(unreadable)? {
            Ok(()) => Ok(Self { path: path.into(), origin, file }),
            Err(reason) => Err(Error::KernelUnusable { path: path.into(), origin, reason }),
        }
    }

    /// Where the kernel was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who named it, in words: "MSB_KERNEL", "the data folder", …
    pub fn origin(&self) -> &'static str {
        self.origin
    }

    /// The open file.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Looks at the headers of a kernel of `size` bytes: an I/O error, or what is wrong with it, or nothing.
fn check(file: &mut (impl Read + Seek), size: u64) -> io::Result<Result<(), String>> {
    let mut start = Vec::with_capacity(1024);
    file.by_ref().take(1024).read_to_end(&mut start)?;
    if let Some(reason) = other_format(&start) {
        return Ok(Err(reason));
    }
    #[cfg(target_arch = "aarch64")]
    if start.get(ARM64_MAGIC_OFFSET..).is_some_and(|bytes| bytes.starts_with(b"ARM\x64")) {
        return Ok(Ok(()));
    }
    let header = match ElfHeader::parse(&start, size) {
        Ok(header) => header,
        Err(reason) => return Ok(Err(reason)),
    };
    file.seek(SeekFrom::Start(header.program_headers))?;
    let mut loadable = 0;
    for _ in 0..header.program_header_count {
        let mut raw = [0u8; PROGRAM_HEADER_SIZE as usize];
        match file.read_exact(&mut raw) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err("it is cut off".into()));
            }
            other => other?,
        }
        match check_segment(&raw, size) {
            Ok(counted) => loadable += usize::from(counted),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(if loadable == 0 { Err("nothing in it is to be loaded".into()) } else { Ok(()) })
}

/// Kernels in a form that cannot be booted, by name, so that the message says what the file is.
fn other_format(start: &[u8]) -> Option<String> {
    let is = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|bytes| bytes.starts_with(magic));
    let what = if is(BZIMAGE_MAGIC_OFFSET, b"HdrS") {
        "a compressed bzImage (vmlinuz); the uncompressed vmlinux is needed"
    } else if is(0, &[0x1f, 0x8b]) {
        "compressed with gzip"
    } else if is(0, &[0xfd, b'7', b'z', b'X', b'Z']) {
        "compressed with xz"
    } else if is(0, &[0x28, 0xb5, 0x2f, 0xfd]) {
        "compressed with zstd"
    } else if start.is_empty() {
        "empty"
    } else {
        return None;
    };
    Some(format!("it is {what}"))
}

struct ElfHeader {
    program_headers: u64,
    program_header_count: u16,
}

impl ElfHeader {
    /// Checks the fields of an ELF header that matter for booting ("System V ABI", chapter 4).
    fn parse(start: &[u8], size: u64) -> Result<Self, String> {
        let header = start.get(..ELF_HEADER_SIZE).filter(|header| header.starts_with(b"\x7fELF"));
        let header = header.ok_or("it is not an ELF file")?;
        if header[4] != 2 || header[5] != 1 {
            return Err("it is not a 64-bit little-endian ELF file".into());
        }
        let (kind, machine) = (u16_at(header, 16), u16_at(header, 18));
        if machine != NATIVE_MACHINE {
            return Err(format!(
                "it is for another processor (ELF machine {machine}, needed {NATIVE_MACHINE})"
            ));
        }
        if !matches!(kind, 2 | 3) {
            return Err("it is an object file or core dump, not a program".into());
        }
        let (entry, program_headers) = (u64_at(header, 24), u64_at(header, 32));
        let (entry_size, program_header_count) = (u16_at(header, 54), u16_at(header, 56));
        if entry == 0 || u64::from(entry_size) != PROGRAM_HEADER_SIZE {
            return Err("its ELF header makes no sense".into());
        }
        if program_header_count == 0 || program_header_count > MAX_PROGRAM_HEADERS {
            return Err(format!("it has {program_header_count} program headers"));
        }
        let length = PROGRAM_HEADER_SIZE * u64::from(program_header_count);
        if program_headers.checked_add(length).is_none_or(|end| end > size) {
            return Err("it is cut off".into());
        }
        Ok(Self { program_headers, program_header_count })
    }
}

/// Whether a program header describes bytes to be loaded, all of which are in the file.
fn check_segment(raw: &[u8; PROGRAM_HEADER_SIZE as usize], size: u64) -> Result<bool, String> {
    const PT_LOAD: u32 = 1;
    if u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) != PT_LOAD {
        return Ok(false);
    }
    let (offset, in_file, in_memory) = (u64_at(raw, 8), u64_at(raw, 32), u64_at(raw, 40));
    if offset.checked_add(in_file).is_none_or(|end| end > size) {
        return Err("it is cut off".into());
    }
    if in_memory < in_file {
        return Err("a segment is larger in the file than in memory".into());
    }
    Ok(true)
}

#[cfg(target_arch = "x86_64")]
const NATIVE_MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const NATIVE_MACHINE: u16 = 183;

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut raw = [0u8; 8];
    raw.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// The smallest file that passes: a header, one program header, 16 bytes to load.
    fn minimal() -> Vec<u8> {
        let mut elf = vec![0u8; ELF_HEADER_SIZE + PROGRAM_HEADER_SIZE as usize + 16];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[16] = 2;
        elf[18..20].copy_from_slice(&NATIVE_MACHINE.to_le_bytes());
        elf[24] = 1;
        elf[32] = ELF_HEADER_SIZE as u8;
        elf[54] = PROGRAM_HEADER_SIZE as u8;
        elf[56] = 1;
        let segment = ELF_HEADER_SIZE;
        elf[segment] = 1;
        elf[segment + 8] = (ELF_HEADER_SIZE + PROGRAM_HEADER_SIZE as usize) as u8;
        elf[segment + 32] = 16;
        elf[segment + 40] = 16;
        elf
    }

    fn verdict(bytes: &[u8]) -> Result<(), String> {
        check(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn a_minimal_kernel_passes_and_damaged_ones_say_what_they_are() {
        assert_eq!(verdict(&minimal()), Ok(()));
        let mut bzimage = vec![0u8; 1024];
        bzimage[BZIMAGE_MAGIC_OFFSET..BZIMAGE_MAGIC_OFFSET + 4].copy_from_slice(b"HdrS");
        assert!(verdict(&bzimage).unwrap_err().contains("bzImage"));
        assert_eq!(verdict(&[]).unwrap_err(), "it is empty");
        assert_eq!(verdict(b"#!/bin/sh\n").unwrap_err(), "it is not an ELF file");
        assert_eq!(verdict(&[0x1f, 0x8b, 8, 0]).unwrap_err(), "it is compressed with gzip");
        let mut other_machine = minimal();
        other_machine[18] = 8;
        assert!(verdict(&other_machine).unwrap_err().contains("another processor"));
        let whole = minimal();
        assert_eq!(verdict(&whole[..whole.len() - 1]).unwrap_err(), "it is cut off");
    }

    #[test]
    fn a_named_kernel_must_exist_and_default_places_may_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no-such-file");
        let flag = Lookup { flag: Some(missing.clone()), ..Lookup::default() };
        assert!(matches!(locate(&flag), Err(Error::KernelUnreadable { path, .. }) if path == missing));
        let empty = Lookup { data_dir: Some(folder.path().into()), ..Lookup::default() };
        let error = locate(&empty).unwrap_err();
        assert!(matches!(&error, Error::KernelMissing { searched } if searched.len() == 1));
        assert!(error.hint().unwrap().contains("make kernel"));
        std::fs::create_dir(folder.path().join("kernel")).unwrap();
        std::fs::write(folder.path().join("kernel/vmlinux"), minimal()).unwrap();
        assert_eq!(locate(&empty).unwrap().origin(), "the data folder");
        let exe = folder.path().join("bin/msb");
        let beside = Lookup { exe: Some(exe), ..Lookup::default() };
        std::fs::create_dir_all(folder.path().join("share/msb")).unwrap();
        std::fs::write(folder.path().join("share/msb/vmlinux"), minimal()).unwrap();
        assert_eq!(locate(&beside).unwrap().origin(), "beside the binary");
        let ignored = Lookup { env: Some(PathBuf::new()), ..beside };
        assert_eq!(locate(&ignored).unwrap().origin(), "beside the binary");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = verdict(&bytes);
        }

        #[test]
        fn a_damaged_header_never_panics(at in 0usize..136, value: u8, cut in 0usize..136) {
            let mut elf = minimal();
            elf[at] = value;
            let _ = verdict(&elf);
            let _ = verdict(&elf[..cut]);
        }
    }
}
