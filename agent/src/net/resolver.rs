//! `/etc/resolv.conf`, `/etc/hosts` and the host name of the in-memory system.

use std::net::Ipv4Addr;
use std::path::Path;

/// resolv.conf(5): more name servers are ignored.
const MAX_SERVERS: usize = 3;

/// Writes both files and sets the host name; a machine without them still reaches addresses, so nothing fails.
pub(super) fn write(
    etc: &Path,
    servers: &[String],
    search: &[String],
    hostname: Option<&str>,
    own: Ipv4Addr,
) {
    let hostname = hostname.filter(|name| is_name(name)).unwrap_or("farrier");
    let _ = std::fs::create_dir_all(etc);
    let _ = std::fs::write(etc.join("resolv.conf"), resolv_conf(servers, search));
    let _ = std::fs::write(
        etc.join("hosts"),
        format!("127.0.0.1 localhost\n::1 localhost\n{own} {hostname}\n"),
    );
    let _ = nix::unistd::sethostname(hostname);
}

fn resolv_conf(servers: &[String], search: &[String]) -> String {
    let mut text = String::new();
    let search: Vec<&str> = search
        .iter()
        .map(String::as_str)
        .filter(|name| is_name(name))
        .collect();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers.iter().take(MAX_SERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

/// What may stand in these files: a name from the wire must not smuggle in lines.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_wire_bring_no_lines_of_their_own() {
        let servers: Vec<String> = (1..=5).map(|n| format!("10.0.0.{n}")).collect();
        let search = ["lab.net".to_owned(), "x\nnameserver 6.6.6.6".to_owned()];
        assert_eq!(
            resolv_conf(&servers, &search),
            "search lab.net\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        );
    }
}
