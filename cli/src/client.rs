//! The connection to a server.

use std::time::Duration;

use proto::v1::control_service_client::ControlServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::failure::{Failure, chain};

/// Of a server that was not told another.
const PORT: u16 = 42113;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A server that answered.
pub(crate) struct Client {
    pub(crate) server: String,
    pub(crate) control: ControlServiceClient<Channel>,
}

impl Client {
    pub(crate) async fn connect(server: &str) -> Result<Self, Failure> {
        let server = with_port(server);
        let url = if server.contains("://") {
            server.clone()
        } else {
            format!("http://{server}")
        };
        let endpoint = Endpoint::from_shared(url).map_err(|_| {
            Failure::Usage(format!(
                "bad --server {server:?}: expected HOST:PORT such as 10.77.0.1:42113"
            ))
        })?;
        let channel = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(20))
            .connect()
            .await
            .map_err(|error| Failure::Unreachable {
                why: in_words(&chain(&error)),
                server: server.clone(),
            })?;
        let control = ControlServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { server, control })
    }

    /// The answer, or the refusal in words.
    pub(crate) fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer
            .map(Response::into_inner)
            .map_err(|status| self.failure(&status))
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        Failure::from_status(&self.server, status)
    }

    /// The next of a stream of answers.
    pub(crate) async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        stream.message().await.map_err(|status| self.failure(&status))
    }
}

/// The usual port where none is named.
fn with_port(server: &str) -> String {
    let after_host = server.rsplit_once(']').map_or(server, |(_, rest)| rest);
    if server.is_empty() || server.contains("://") || after_host.contains(':') {
        server.to_owned()
    } else {
        format!("{server}:{PORT}")
    }
}

/// Without the layers of the libraries.
fn in_words(why: &str) -> String {
    let why = why.strip_prefix("transport error: ").unwrap_or(why);
    let why = why.strip_prefix("tcp connect error: ").unwrap_or(why);
    why.strip_prefix("dns error: ").unwrap_or(why).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_port_has_the_usual_one() {
        for (given, want) in [
            ("10.77.0.1", "10.77.0.1:42113"),
            ("10.77.0.1:1", "10.77.0.1:1"),
            ("[::1]", "[::1]:42113"),
            ("[::1]:1", "[::1]:1"),
            ("http://a", "http://a"),
        ] {
            assert_eq!(with_port(given), want);
        }
    }
}
