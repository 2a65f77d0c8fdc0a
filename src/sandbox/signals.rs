//! Signal names as images write them.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// The first real-time signal of the guest's C libraries, and how many there are (signal(7)).
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// The number of `SIGTERM`, `term`, `15` or `SIGRTMIN+3`; `None` for anything else.
#[must_use]
pub fn number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let number = SIGRTMIN
            + offset.strip_prefix('+').map_or(Some(0), |offset| offset.parse::<u8>().ok().map(i32::from))?;
        return (number <= SIGRTMAX).then_some(number);
    }
    Signal::from_str(&format!("SIG{bare}")).ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_and_numbers_of_images_are_understood() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+99", None),
            ("0", None),
            ("65", None),
            ("SIGWHAT", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
