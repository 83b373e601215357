//! The connection to the server, for whoever speaks to it.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection; in words why there is none.
pub(crate) async fn connect(server: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))
        .map_err(|e| format!("server address {server:?} is not host:port: {}", in_words(&e)))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    endpoint
        .connect()
        .await
        .map_err(|e| format!("server {server} is not reached: {}", in_words(&e)))
}

/// The error with its causes: tonic's own text is only "transport error".
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Between half of it and all of it, so that a rack does not come back in step.
pub(crate) fn with_jitter(pause: Duration) -> Duration {
    let random = crate::entropy::number() as u32;
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all() {
        for _ in 0..100 {
            let pause = with_jitter(Duration::from_secs(4));
            assert!(
                (Duration::from_secs(2)..=Duration::from_secs(4)).contains(&pause),
                "{pause:?}"
            );
        }
    }
}
