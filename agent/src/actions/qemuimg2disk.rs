//! `qemuimg2disk`: a disk image of QEMU's onto a disk, under upstream's variables. The writer is [`image2disk`]'s, and takes
//! qcow2 and raw, whichever of the two names an action has; no program of QEMU's runs.

use proto::v1;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use super::{Done, Failure, Feed, Place, image2disk};

pub(super) const VARIABLES: [&str; 19] = [
    "ALL_PROXY",
    "CA_CERTIFICATES",
    "CHECKSUM",
    "DEST_DISK",
    "EXTRA_ARGS",
    "FORMAT",
    "GROW_ROOT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IMG_URL",
    "NO_PROXY",
    "PROGRESS_INTERVAL_SECONDS",
    "RAW",
    "RESUME",
    "RETRY_DURATION_MINUTES",
    "RETRY_ENABLED",
    "SHA256",
    "STOP_USERS",
    "VERIFY",
];

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: CancellationToken,
) -> Result<Done, Failure> {
    // A template with constants was refused when it was made; expressions are known here.
    let wrong = |what: String| Err(Failure::new("BadVariable", what));
    if let Some(args) = env.optional("EXTRA_ARGS") {
        return wrong(format!(
            "environment variable EXTRA_ARGS={args} is for qemu-img, which is not run: leave it out"
        ));
    }
    match env.optional("FORMAT") {
        None | Some("host_device" | "raw") => {}
        Some(other) => {
            return wrong(format!(
                "environment variable FORMAT={other}: what is written to a disk is raw; leave it out"
            ));
        }
    }
    image2disk::run(action, env, place, feed, halt).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::tests::{feed, place};
    use super::*;

    #[tokio::test]
    async fn what_is_meant_for_qemu_img_is_refused_and_the_default_is_not() {
        for (name, value, word) in [
            ("EXTRA_ARGS", "-W -m 8", "leave it out"),
            ("FORMAT", "qcow2", "raw"),
            ("FORMAT", "host_device", "IMG_URL"),
            ("EXTRA_ARGS", "", "IMG_URL"),
        ] {
            let variables = HashMap::from([(name.to_owned(), value.to_owned())]);
            let env = Environment::of(&variables);
            let failure = run(
                &v1::RunAction::default(),
                &env,
                &place(),
                &feed().0,
                CancellationToken::new(),
            )
            .await
            .unwrap_err();
            assert!(
                failure.message.contains(word),
                "{name}={value}: {}",
                failure.message
            );
        }
    }
}
