//! How Farrier writes and reads MAC addresses, everywhere: a machine's MAC is a key, compared as text.

#![forbid(unsafe_code)]

use macaddr::MacAddr6;

/// The MAC as it is written everywhere: lower case, with colons.
pub fn mac_text(mac: MacAddr6) -> String {
    mac.to_string().to_lowercase()
}

/// The MAC in `text`, which may use colons, dashes or dots, and blanks around it; `None`: it is none.
pub fn parse_mac(text: &str) -> Option<MacAddr6> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_written_it_is_one_text() {
        for text in [
            "52:54:00:77:00:0b",
            "52:54:00:77:00:0B",
            "52-54-00-77-00-0b",
            "5254.0077.000b",
            " 52:54:00:77:00:0b\n",
        ] {
            assert_eq!(
                parse_mac(text).map(mac_text).as_deref(),
                Some("52:54:00:77:00:0b"),
                "{text:?}"
            );
        }
        assert_eq!(parse_mac("52:54:00:77:00"), None);
    }
}
