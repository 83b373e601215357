//! Which mirror of Debian to use: the one that was named, else the host's own, else the public one.

use std::fs;
use std::path::Path;

/// Where the packages and the security updates of a Debian release are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// URL of the archive, such as `http://ftp.debian.org/debian`.
    pub archive: String,
    /// URL of the security archive.
    pub security: String,
}

impl Mirror {
    /// Returns the mirror to use: `named` (see [`Mirror::parse`]), else what the host's apt uses if it is Debian,
    /// else the public default.
    pub fn choose(named: Option<&str>) -> Self {
        named
            .and_then(Mirror::parse)
            .or_else(|| Mirror::of_host(Path::new("/etc/apt")))
            .unwrap_or_default()
    }

    /// Reads `URL` or `URL SECURITY-URL`, separated by a space or a comma; `None` for blank text.
    ///
    /// With one URL the security archive is the public one, except below a path `…/debian` of a mirror that is not
    /// `ftp.debian.org`: there it is its sibling `…/debian-security`, as every full mirror and proxy has it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut urls = text
            .split([' ', ','])
            .filter(|url| !url.is_empty())
            .map(|url| url.trim_end_matches('/'));
        let archive = urls.next()?.to_string();
        let security = match urls.next() {
            Some(security) => security.to_string(),
            None => security_beside(&archive),
        };
        Some(Self { archive, security })
    }

    /// Returns the mirror in the apt configuration directory `etc_apt`, if that is a Debian's.
    fn of_host(etc_apt: &Path) -> Option<Self> {
        let mut sources = vec![etc_apt.join("sources.list")];
        let parts = fs::read_dir(etc_apt.join("sources.list.d"))
            .into_iter()
            .flatten()
            .flatten();
        let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
        parts.sort();
        sources.extend(parts);
        let mut urls = Vec::new();
        for file in sources {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => urls.extend(urls_of_lines(&text)),
                Some("sources") => urls.extend(urls_of_stanzas(&text)),
                _ => {}
            }
        }
        Mirror::of_urls(&urls)
    }

    /// A Debian archive is known by the last part of its path, which all mirrors keep.
    fn of_urls(urls: &[String]) -> Option<Self> {
        let ending = |name| {
            urls.iter()
                .find(|url| url.rsplit('/').next() == Some(name))
                .cloned()
        };
        let archive = ending("debian")?;
        let security = ending("debian-security").unwrap_or_else(|| security_beside(&archive));
        Some(Self { archive, security })
    }
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            archive: PUBLIC_ARCHIVE.to_string(),
            security: PUBLIC_SECURITY.to_string(),
        }
    }
}

fn security_beside(archive: &str) -> String {
    match archive.strip_suffix("/debian") {
        Some(parent) if archive != PUBLIC_ARCHIVE => format!("{parent}/debian-security"),
        _ => PUBLIC_SECURITY.to_string(),
    }
}

/// URLs of one-line sources: `deb [options] URL suite component...`
fn urls_of_lines(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let url = |line: &str| {
        let rest = line
            .trim_start()
            .strip_prefix("deb")?
            .strip_prefix([' ', '\t'])?
            .trim_start();
        let rest = if rest.starts_with('[') {
            rest.split_once(']')?.1
        } else {
            rest
        };
        usable(rest.split_whitespace().next()?)
    };
    lines.filter_map(url).collect()
}

/// URLs of deb822 sources: stanzas of `Key: value` lines, values continued on indented lines.
fn urls_of_stanzas(text: &str) -> Vec<String> {
    let mut urls = Vec::new();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    for stanza in text.split("\n\n") {
        let fields = fields_of(stanza);
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let binary = field("Types").split_whitespace().any(|kind| kind == "deb");
        if binary && !field("Enabled").trim().eq_ignore_ascii_case("no") {
            urls.extend(field("URIs").split_whitespace().filter_map(usable));
        }
    }
    urls
}

fn fields_of(stanza: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines() {
        match (
            line.starts_with([' ', '\t']),
            fields.last_mut(),
            line.split_once(':'),
        ) {
            (true, Some((_, value)), _) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (false, _, Some((key, value))) => fields.push((key.trim().to_string(), value.trim().to_string())),
            _ => {}
        }
    }
    fields
}

/// Media and mirror lists are of no use elsewhere than where they were written for.
fn usable(url: &str) -> Option<String> {
    let fetched = ["http://", "https://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    fetched.then(|| url.trim_end_matches('/').to_string())
}

const PUBLIC_ARCHIVE: &str = "http://ftp.debian.org/debian";
const PUBLIC_SECURITY: &str = "http://security.debian.org/debian-security";

#[cfg(test)]
mod tests {
    use super::*;

    fn host_with(files: &[(&str, &str)]) -> Option<Mirror> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Mirror::of_host(directory.path())
    }

    #[test]
    fn one_line_sources_of_a_debian_are_used() {
        let text = "# deb http://commented.example/debian bookworm main\n\
                    deb cdrom:[Debian GNU/Linux 12]/ bookworm main\n\
                    deb-src http://source.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ trixie main # near\n\
                    deb http://mirror.example/debian-security trixie-security main\n";
        let mirror = host_with(&[("sources.list", text)]).unwrap();
        assert_eq!(mirror.archive, "http://mirror.example/debian");
        assert_eq!(mirror.security, "http://mirror.example/debian-security");
    }

    #[test]
    fn deb822_sources_of_a_debian_are_used() {
        let text = "Types: deb deb-src\n# a comment\nURIs: https://a.example/pub/debian\n  https://b.example/debian\n\
                    Suites: bookworm\nComponents: main\n\nTypes: deb\nEnabled: no\nURIs: http://c.example/debian-security\n";
        let mirror = host_with(&[("sources.list.d/debian.sources", text)]).unwrap();
        assert_eq!(mirror.archive, "https://a.example/pub/debian");
        assert_eq!(mirror.security, "https://a.example/pub/debian-security");
    }

    #[test]
    fn sources_of_another_distribution_are_not_used() {
        let text =
            "deb http://archive.ubuntu.com/ubuntu noble main\ndeb https://tools.example/apt stable main\n";
        assert_eq!(
            host_with(&[
                ("sources.list", text),
                ("sources.list.d/x.save", "deb http://a/debian b c")
            ]),
            None
        );
        assert_eq!(host_with(&[]), None);
    }

    #[test]
    fn a_named_mirror_may_name_its_security_archive() {
        let two = Mirror::parse("http://m.example/debian/, http://s.example/sec").unwrap();
        assert_eq!(
            (two.archive.as_str(), two.security.as_str()),
            ("http://m.example/debian", "http://s.example/sec")
        );
        assert_eq!(
            Mirror::parse("http://m.example/debian").unwrap().security,
            "http://m.example/debian-security"
        );
        assert_eq!(Mirror::parse(PUBLIC_ARCHIVE), Some(Mirror::default()));
        assert_eq!(
            Mirror::parse("http://m.example/bookworm").unwrap().security,
            PUBLIC_SECURITY
        );
        assert_eq!(Mirror::parse(" "), None);
    }
}
