//! Memory for the bytes of a connection: mapped as a whole, taken from the kernel page by page, and given back when empty.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// Two areas of `size` bytes each.
#[derive(Debug)]
pub(super) struct Buffers {
    start: NonNull<libc::c_void>,
    size: usize,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Maps memory. None of it is used yet.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(size * 2).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, which shares memory with nothing.
        let start =
            unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }?;
        Ok(Self { start, size })
    }

    /// Bytes in each of the areas.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The two areas.
    ///
    /// # Safety
    /// Neither may be used after this value is gone, and no second pair while they are.
    pub(super) unsafe fn areas(&self) -> (&'static mut [u8], &'static mut [u8]) {
        let start = self.start.as_ptr().cast::<u8>();
        // SAFETY: the mapping has twice `size` bytes, all of them initialized to zero by the kernel, and the caller vouches for
        // the lifetime and that there is one pair at a time.
        unsafe {
            (
                std::slice::from_raw_parts_mut(start, self.size),
                std::slice::from_raw_parts_mut(start.add(self.size), self.size),
            )
        }
    }

    /// Gives the memory back; what was in it is gone, and the areas are zero.
    pub(super) fn forget(&self) {
        // SAFETY: private anonymous memory stays mapped and becomes zero, which every byte may be. A kernel that refuses
        // leaves everything as it is.
        let _ = unsafe { madvise(self.start, self.size * 2, MmapAdvise::MADV_DONTNEED) };
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; whoever has the areas vouched that they are done with them.
        let _ = unsafe { munmap(self.start, self.size * 2) };
    }
}
