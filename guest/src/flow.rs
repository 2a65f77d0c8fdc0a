//! Credit accounting, the same on both ends.
//!
//! A channel has one sender and one receiver. The sender holds a [`SendWindow`], the receiver a [`ReceiveWindow`]; both
//! start at [`INITIAL_WINDOW`]. The sender spends credit with each DATA frame and stops at zero. The receiver counts
//! what its consumer takes and gives credit back in lumps of a quarter of a window, so that a busy channel costs one
//! CREDIT frame per 256 KiB and an idle one none. The window is what a fast process can write while a busy host gets round
//! to taking it; with a quarter of it, throughput through a VM on a loaded two-core machine was a seventh.

/// Bytes a sender may send on a channel before the receiver said anything.
pub const INITIAL_WINDOW: u32 = 1024 * 1024;
/// Most credit a sender may ever hold. More is a protocol violation, not a wish to be cut down quietly.
pub const MAX_WINDOW: u32 = 16 * 1024 * 1024;

/// The peer broke the flow control rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FlowError {
    /// More DATA than credit was given for.
    #[error("{sent} bytes sent with a credit of {credit}")]
    Overrun {
        /// Bytes in the frame.
        sent: usize,
        /// Credit that was left.
        credit: u32,
    },
    /// CREDIT beyond [`MAX_WINDOW`], or of a wrong length.
    #[error("credit grows beyond {MAX_WINDOW}")]
    TooMuchCredit,
}

/// What a sender may still send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SendWindow {
    credit: u32,
}

impl Default for SendWindow {
    fn default() -> Self {
        SendWindow { credit: INITIAL_WINDOW }
    }
}

impl SendWindow {
    /// Bytes that may be sent now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.credit as usize
    }

    /// Takes up to `wanted` bytes of credit and says how many; 0 means wait.
    pub fn take(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.available());
        // `taken` is at most `credit`, so it fits and the subtraction cannot go below zero.
        self.credit -= taken as u32;
        taken
    }

    /// Adds credit from the receiver.
    ///
    /// # Errors
    /// [`FlowError::TooMuchCredit`] beyond [`MAX_WINDOW`].
    pub fn add(&mut self, bytes: u32) -> Result<(), FlowError> {
        match self.credit.checked_add(bytes) {
            Some(credit) if credit <= MAX_WINDOW => {
                self.credit = credit;
                Ok(())
            }
            _ => Err(FlowError::TooMuchCredit),
        }
    }
}

/// What a receiver is prepared to take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReceiveWindow {
    /// Credit the sender still holds.
    outstanding: u32,
    /// Bytes the consumer took for which no credit was given back yet.
    owed: u32,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        ReceiveWindow { outstanding: INITIAL_WINDOW, owed: 0 }
    }
}

impl ReceiveWindow {
    /// Counts a DATA frame of `bytes`.
    ///
    /// # Errors
    /// [`FlowError::Overrun`] when the sender had no credit for it.
    pub fn received(&mut self, bytes: usize) -> Result<(), FlowError> {
        match u32::try_from(bytes).ok().and_then(|n| self.outstanding.checked_sub(n)) {
            Some(left) => {
                self.outstanding = left;
                Ok(())
            }
            None => Err(FlowError::Overrun { sent: bytes, credit: self.outstanding }),
        }
    }

    /// Counts bytes the consumer took; the credit to give back now, if any.
    pub fn consumed(&mut self, bytes: usize) -> Option<u32> {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.owed < INITIAL_WINDOW / 4 {
            return None;
        }
        let credit = std::mem::take(&mut self.owed);
        self.outstanding = self.outstanding.saturating_add(credit);
        Some(credit)
    }
}

/// Payload of a CREDIT frame.
#[must_use]
pub fn credit_payload(bytes: u32) -> [u8; 4] {
    bytes.to_le_bytes()
}

/// Reads the payload of a CREDIT frame.
///
/// # Errors
/// [`FlowError::TooMuchCredit`] when it is not four bytes long.
pub fn parse_credit(payload: &[u8]) -> Result<u32, FlowError> {
    payload.try_into().map(u32::from_le_bytes).map_err(|_| FlowError::TooMuchCredit)
}
