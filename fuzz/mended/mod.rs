//! Checksums put right, so that what is behind them is fuzzed too.

/// A tar archive in which every header that says what it is has the checksum it needs (POSIX ustar).
pub(crate) fn tar(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

/// An EROFS image of ours whose superblock has the checksum it needs.
pub(crate) fn erofs(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 1536 {
        bytes[1028..1032].fill(0);
        let sum = bytes[1024..1536].iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
        });
        bytes[1028..1032].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}
