//! What those may take who come from outside. `docs/reference/limits.md` has all of it, with what is said when it is met.

use std::time::Duration;

use connections::Bounds;
use ephemeral::{MAX_BYTES, MAX_FILES};

/// Bounds of the two gRPC services. The defaults are for real use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of agents: one for its stream, one for each piece of data that it hands over.
    pub agents: Bounds,
    /// Connections of people: one for each command that runs.
    pub people: Bounds,
    /// Streams of one address that have not said Hello.
    pub unspoken_per_peer: usize,
    /// As [`Limits::unspoken_per_peer`], of an address of this host itself.
    pub unspoken_per_loopback: usize,
    /// Streams that have not said Hello.
    pub unspoken: usize,
    /// A stream has said Hello by then.
    pub hello_within: Duration,
    /// Bytes that may be brought for one attempt before its report, tries that broke off counted.
    pub data_bytes: u64,
    /// Files that may be brought for one attempt before its report.
    pub data_files: usize,
    /// Calls that bring or fetch data at the same time: each may have one whole content in memory.
    pub data_at_once: usize,
    /// All that an agent brings in one call has come by then.
    pub data_within: Duration,
    /// Streams of events that one token follows.
    pub followers_per_token: usize,
    /// Streams of events.
    pub followers: usize,
    /// Who follows events is told so often that there is nothing new, and looked at whether its token is still good.
    pub follower_heartbeat: Duration,
    /// A stream of events of which nothing is taken for so long is ended.
    pub follower_takes_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let bounds = Bounds {
            per_peer: 64,
            // `farrier bench` and agents behind a tunnel.
            per_loopback: 16_384,
            in_all: 16_384,
            speaks_within: Duration::from_secs(10),
            reads_within: Duration::from_secs(120),
        };
        Self {
            agents: bounds,
            people: Bounds {
                per_peer: 128,
                per_loopback: 1_024,
                in_all: 1_024,
                ..bounds
            },
            unspoken_per_peer: 16,
            unspoken_per_loopback: 4_096,
            unspoken: 4_096,
            hello_within: Duration::from_secs(20),
            // As much as a workflow may keep, sent anew after a connection broke, several times.
            data_bytes: 8 * MAX_BYTES,
            data_files: 8 * MAX_FILES,
            data_at_once: 32,
            data_within: Duration::from_secs(120),
            followers_per_token: 64,
            followers: 512,
            follower_heartbeat: Duration::from_secs(15),
            follower_takes_within: Duration::from_secs(60),
        }
    }
}
