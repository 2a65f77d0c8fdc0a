//! Numbers as tar writes them.

/// A number of a header field: octal digits, blank for 0, or big-endian base 256 when the first bit is set (GNU).
/// `None` for anything else and for what does not fit.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let mut number: i128 = if negative { -1 } else { 0 };
    for (index, &byte) in bytes.iter().enumerate() {
        // The first byte's top bit only says that this is base 256.
        let byte = if index == 0 && !negative { byte & 0x7f } else { byte };
        number = number.checked_mul(256)? | i128::from(byte);
        i64::try_from(number).ok()?;
    }
    i64::try_from(number).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = text.trim_ascii();
    text.iter().try_fold(0_i64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0')).filter(|&digit| digit < 8)?;
        number.checked_mul(8)?.checked_add(digit)
    })
}

/// A decimal number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A time of an extended header, `-12.25` for instance: seconds since 1970 and nanoseconds. More digits are cut.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, index| sum * 10 + digit(index));
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}
