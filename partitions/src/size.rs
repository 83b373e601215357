//! How large a partition is to be.

use std::fmt;

/// As a template says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// At least 1; planned in whole MiB.
    Bytes(u64),
    /// Of all that the table leaves for partitions: 1 to 100.
    Percent(u8),
    /// What no other partition takes.
    Rest,
}

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("size {0:?} is none: write 512MiB, 20GiB, 1TiB, 50% (a whole number of 1 to 100), or rest")]
pub struct BadSize(pub String);

const UNITS: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl Size {
    pub(crate) fn parse(text: &str) -> Result<Size, BadSize> {
        let bad = || BadSize(text.chars().take(64).collect());
        if text == "rest" {
            return Ok(Size::Rest);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        if unit == "%" {
            let percent = u8::try_from(number)
                .ok()
                .filter(|percent| (1..=100).contains(percent));
            return percent.map(Size::Percent).ok_or_else(bad);
        }
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        match number.checked_mul(*factor) {
            Some(0) | None => Err(bad()),
            Some(bytes) => Ok(Size::Bytes(bytes)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Bytes(bytes) => f.write_str(&shown(*bytes)),
            Size::Percent(percent) => write!(f, "{percent}%"),
            Size::Rest => f.write_str("rest"),
        }
    }
}

/// Bytes in the largest unit that shows them whole: `512MiB`.
pub fn shown(bytes: u64) -> String {
    match UNITS
        .iter()
        .rev()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
    {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_they_say_and_nothing_is_guessed() {
        for (text, size) in [
            ("512MiB", Size::Bytes(512 << 20)),
            ("20GiB", Size::Bytes(20 << 30)),
            ("1TiB", Size::Bytes(1 << 40)),
            ("1KiB", Size::Bytes(1024)),
            ("50%", Size::Percent(50)),
            ("rest", Size::Rest),
        ] {
            assert_eq!(Size::parse(text), Ok(size), "{text}");
            assert_eq!(size.to_string(), text);
        }
        for wrong in [
            "",
            "512",
            "512M",
            "512MB",
            "0MiB",
            "0%",
            "101%",
            "-1GiB",
            "1.5GiB",
            "1 GiB",
            "99999999999TiB",
            "all",
            "%",
            "½%",
        ] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }
}
