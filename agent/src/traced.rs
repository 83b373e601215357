//! What our libraries trace goes onto the console, as all that the agent says: a mirror that does not answer, a transfer that is resumed,
//! a disk without direct I/O. Without a subscriber `tracing` drops it.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::console::say;

/// The crates whose words are for people; those of other people's crates are for their authors.
const OURS: [&str; 6] = ["farrier_agent", "containerd", "container", "disk", "oci", "reach"];

/// From now on what is traced at INFO and above is said.
pub(crate) fn onto_the_console() {
    // There is one already in a test that has its own.
    let _ = tracing::subscriber::set_global_default(Console(say));
}

struct Console<S>(S);

impl<S: Fn(&str) + 'static> Subscriber for Console<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked once for each place, so that the rest costs nothing.
        match is_for_people(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_for_people(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0(&format!("{}{}", line.message, line.fields));
    }

    // Spans are not shown.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn is_for_people(metadata: &Metadata<'_>) -> bool {
    let of = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_event() && *metadata.level() <= Level::INFO && OURS.contains(&of)
}

/// `message key=value key=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_is_ours_and_for_people_is_said_in_one_line() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let console = Console(move |line: &str| lines.lock().expect("lines").push(line.to_owned()));
        tracing::subscriber::with_default(console, || {
            tracing::warn!(target: "oci::pull", reference = "a/b:1", tries = 3, "a mirror does not give it: {}", "404");
            tracing::info!(target: "disk::image::http", url = %"http://x/", "transfer resumed");
            tracing::debug!(target: "disk::image", "zeros are written");
            tracing::warn!(target: "h2::client", "not ours");
            let _span = tracing::info_span!(target: "disk", "a span").entered();
        });
        assert_eq!(
            *said.lock().expect("lines"),
            [
                "a mirror does not give it: 404 reference=a/b:1 tries=3",
                "transfer resumed url=http://x/",
            ]
        );
    }
}
