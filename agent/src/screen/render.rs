//! The panel's lines. Pure: what is known, the size of the screen, the time since the kernel started.

use super::{Doing, Progress, State, Trouble};

/// Below the names of what is shown.
const NAMES: usize = 10;
/// Lines of what is wrong, and of what to do.
const MAX_TROUBLE: usize = 5;

/// Exactly `height` lines of at most `width` letters, in ASCII: fonts of consoles have no more.
pub fn render(state: &State, width: usize, height: usize, uptime_s: u64) -> Vec<String> {
    let mut lines = vec![
        heading(width, uptime_s),
        "-".repeat(width),
        field("Machine", &machine(state)),
        field("Network", known(&state.network, "none yet")),
        field("Server", &server(state)),
        String::new(),
    ];
    lines.extend(doing(&state.doing, width));
    if let Some(trouble) = &state.trouble {
        lines.push(String::new());
        lines.extend(told(trouble, width));
    }
    lines.push("-".repeat(width));
    // What is above counts more than what was printed.
    lines.truncate(height);
    let room = height - lines.len();
    let skipped = state.lines.len().saturating_sub(room);
    lines.extend(state.lines.iter().skip(skipped).cloned());
    lines.resize(height, String::new());
    lines.into_iter().map(|line| cut(&line, width)).collect()
}

fn heading(width: usize, uptime_s: u64) -> String {
    let left = concat!("Farrier ", env!("CARGO_PKG_VERSION"));
    let right = format!("up {}", duration(uptime_s));
    let gap = width.saturating_sub(left.len() + right.len()).max(1);
    format!("{left}{:gap$}{right}", "")
}

fn machine(state: &State) -> String {
    let serial = match state.serial.as_str() {
        "" => String::new(),
        serial => format!("serial {serial}"),
    };
    let facts = [&state.name, &state.mac, &serial, &state.product];
    let facts: Vec<&str> = facts
        .iter()
        .map(|fact| fact.as_str())
        .filter(|fact| !fact.is_empty())
        .collect();
    facts.join("  ")
}

fn server(state: &State) -> String {
    match (state.server.as_str(), state.is_attached) {
        ("", _) => "none yet".to_owned(),
        (server, true) => format!("{server}, attached"),
        (server, false) => format!("{server}, not attached"),
    }
}

fn doing(doing: &Doing, width: usize) -> Vec<String> {
    match doing {
        Doing::Starting => vec![field("Doing", "starting")],
        Doing::WaitsFor(what) => wrapped("Waits for", what, width, 2),
        Doing::Leaves(how) => vec![field("Doing", &format!("leaving: {how}"))],
        Doing::Runs {
            place,
            action,
            image,
            progress,
        } => {
            let mut lines = vec![field("Doing", &format!("action {place} {action}: {image}"))];
            if let Some(progress) = progress {
                lines.push(field("", &how_far(progress)));
                lines.extend(bar(progress, width).map(|bar| field("", &bar)));
            }
            lines
        }
    }
}

/// `write  1.2 GiB of 4.0 GiB, 30 %, 210.0 MiB/s`; also for a serial line.
pub fn how_far(progress: &Progress) -> String {
    let mut text = format!("{}  {}", progress.stage, bytes(progress.done_bytes));
    if let Some(percent) = percent(progress) {
        text.push_str(&format!(" of {}, {percent} %", bytes(progress.total_bytes)));
    }
    if progress.bytes_per_s > 0 {
        text.push_str(&format!(", {}/s", bytes(progress.bytes_per_s)));
    }
    text
}

fn percent(progress: &Progress) -> Option<u64> {
    let done = u128::from(progress.done_bytes) * 100;
    let percent = done.checked_div(u128::from(progress.total_bytes))?;
    u64::try_from(percent.min(100)).ok()
}

fn bar(progress: &Progress, width: usize) -> Option<String> {
    let percent = usize::try_from(percent(progress)?).ok()?;
    let room = width.checked_sub(NAMES + 2).filter(|room| *room >= 10)?;
    let full = room * percent / 100;
    Some(format!("[{:-<room$}]", "#".repeat(full)))
}

fn told(trouble: &Trouble, width: usize) -> Vec<String> {
    let mut lines = wrapped("Trouble", &trouble.what, width, MAX_TROUBLE);
    if !trouble.cure.is_empty() {
        lines.extend(wrapped("To do", &trouble.cure, width, MAX_TROUBLE));
    }
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("{name:<NAMES$}{value}")
}

/// A value over several lines, broken at blanks where there are any.
fn wrapped(name: &str, value: &str, width: usize, most: usize) -> Vec<String> {
    let room = width.saturating_sub(NAMES).max(10);
    let mut lines: Vec<String> = Vec::new();
    for word in value.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(room) {
            let piece: String = piece.iter().collect();
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= room => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push_str(" ...");
        }
    }
    let name_of = |number| if number == 0 { name } else { "" };
    let lines = lines.iter().enumerate();
    lines.map(|(number, line)| field(name_of(number), line)).collect()
}

fn known<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn cut(line: &str, width: usize) -> String {
    let letters = line.chars().map(|letter| match letter {
        ' '..='~' => letter,
        '\t' => ' ',
        _ => '?',
    });
    letters.take(width).collect()
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            name: "node1".into(),
            mac: "52:54:00:77:00:0b".into(),
            serial: "SN-1".into(),
            product: "ACME Rack 1".into(),
            network: "eth0 10.77.0.11/24".into(),
            server: "10.77.0.1:42113".into(),
            is_attached: true,
            lines: (0..40).map(|number| format!("line {number}")).collect(),
            ..State::default()
        }
    }

    fn check(state: &State, width: usize, height: usize, want: &[&str]) {
        let drawn = render(state, width, height, 192);
        let drawn: Vec<&str> = drawn.iter().map(|line| line.trim_end()).collect();
        assert_eq!(drawn, want);
    }

    #[test]
    fn an_action_is_shown_with_how_far_it_is() {
        let progress = Progress {
            stage: "write".into(),
            done_bytes: 3 << 30,
            total_bytes: 10 << 30,
            bytes_per_s: 210 << 20,
        };
        let mut state = state();
        state.doing = Doing::Runs {
            place: "1/2".into(),
            action: "stream".into(),
            image: "image2disk".into(),
            progress: Some(progress),
        };
        let want = [
            "Farrier 0.1.0                                    up 3 min 12 s",
            "--------------------------------------------------------------",
            "Machine   node1  52:54:00:77:00:0b  serial SN-1  ACME Rack 1",
            "Network   eth0 10.77.0.11/24",
            "Server    10.77.0.1:42113, attached",
            "",
            "Doing     action 1/2 stream: image2disk",
            "          write  3.0 GiB of 10.0 GiB, 30 %, 210.0 MiB/s",
            "          [###############-----------------------------------]",
            "--------------------------------------------------------------",
            "line 38",
            "line 39",
        ];
        check(&state, 62, 12, &want);
    }

    #[test]
    fn what_is_wrong_stands_with_what_to_do_and_what_it_waits_for() {
        let mut state = state();
        state.is_attached = false;
        state.name = String::new();
        state.lines.clear();
        state.doing = Doing::WaitsFor("the server at 10.77.0.1:42113".into());
        let cure = "see that farrier serve runs there, and that port 42113 is open from here";
        state.trouble = Some(Trouble::new(
            "no connection to 10.77.0.1:42113: Connection refused",
            cure,
        ));
        let want = [
            "Farrier 0.1.0            up 3 min 12 s",
            "--------------------------------------",
            "Machine   52:54:00:77:00:0b  serial SN",
            "Network   eth0 10.77.0.11/24",
            "Server    10.77.0.1:42113, not attache",
            "",
            "Waits for the server at",
            "          10.77.0.1:42113",
            "",
            "Trouble   no connection to",
            "          10.77.0.1:42113: Connection",
            "          refused",
            "To do     see that farrier serve runs",
            "          there, and that port 42113",
            "          is open from here",
            "--------------------------------------",
            "",
        ];
        check(&state, 38, 17, &want);
    }

    #[test]
    fn every_size_is_filled_and_never_left() {
        let mut state = state();
        state.push_line("\u{1b}[2J red \u{9b}31m tab\tü");
        state.trouble = Some(Trouble::new("x".repeat(1000), "y ".repeat(1000)));
        state.doing = Doing::WaitsFor("z ".repeat(500));
        for (width, height) in [(0, 0), (1, 1), (5, 40), (80, 25), (80, 3), (240, 67)] {
            let drawn = render(&state, width, height, u64::MAX);
            assert_eq!(drawn.len(), height);
            let fits =
                |line: &String| line.len() <= width && line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            assert!(drawn.iter().all(fits), "{width} x {height}: {drawn:?}");
        }
    }

    #[test]
    fn how_far_says_what_is_known() {
        let progress = |done_bytes, total_bytes, bytes_per_s| Progress {
            stage: "download".into(),
            done_bytes,
            total_bytes,
            bytes_per_s,
        };
        for (progress, want) in [
            (progress(512, 0, 0), "download  512 B"),
            (progress(3 << 20, 0, 1 << 20), "download  3.0 MiB, 1.0 MiB/s"),
            (progress(u64::MAX, 1, 0), "download  16777215.9 TiB of 1 B, 100 %"),
        ] {
            assert_eq!(how_far(&progress), want);
        }
    }
}
