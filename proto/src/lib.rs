//! Wire contracts of Farrier, and nothing else.
//!
//! Generated at build time from `proto/farrier/v1/*.proto`; agent and server meet only here.

#![forbid(unsafe_code)]

use std::fmt;

pub mod codec;
pub mod inventory;
mod words;

/// Version 1 of Farrier's own API: [`agent_service`](v1::agent_service_server) for agents,
/// [`control_service`](v1::control_service_server) for the command line.
pub mod v1 {
    #![allow(missing_docs, clippy::all, unreachable_pub)]
    tonic::include_proto!("farrier.v1");
}

/// Names what it is, and shows neither command, environment nor input: secrets stand in them.
impl fmt::Debug for v1::RunAction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RunAction")
            .field("attempt_id", &self.attempt_id)
            .field("task", &self.task)
            .field("action", &self.action)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::SetSecretRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SetSecretRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::GetPullSettingsRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.access.as_ref().map(|access| &access.attempt_id);
        out.debug_struct("GetPullSettingsRequest")
            .field("attempt_id", &attempt)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::PullSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PullSettings")
            .field("mirrors", &self.mirrors)
            .field("plain_http", &self.plain_http)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl v1::report::Outcome {
    /// Whether the agent says that an attempt, which did not end well, changed no disk.
    pub fn left_disks_untouched(&self) -> bool {
        match self {
            Self::Failed(failed) => failed.disks_untouched,
            Self::TimedOut(late) => late.disks_untouched,
            Self::Stopped(stopped) => stopped.disks_untouched,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn what_carries_secrets_prints_none() {
        let run = v1::RunAction {
            action: "login".into(),
            command: vec!["hunter22".into()],
            environment: [("PW".to_owned(), "hunter22".to_owned())].into(),
            input_json: r#"{"pw":"hunter22"}"#.into(),
            secrets: vec!["hunter22".into()],
            ..v1::RunAction::default()
        };
        let message = v1::ServerMessage {
            kind: Some(v1::server_message::Kind::Run(run)),
        };
        let set = v1::SetSecretRequest {
            name: "PW".into(),
            value: b"hunter22".to_vec(),
            ..v1::SetSecretRequest::default()
        };
        let pull = v1::PullSettings {
            user: "ali".into(),
            password: "hunter22".into(),
            ..v1::PullSettings::default()
        };
        let ask = v1::GetPullSettingsRequest {
            nonce: b"hunter22".to_vec(),
            ..v1::GetPullSettingsRequest::default()
        };
        let shown = format!("{message:?} {message:#?} {set:?} {pull:?} {ask:?}");
        assert!(shown.contains("login") && shown.contains("PW"), "{shown}");
        assert!(shown.contains("ali"), "{shown}");
        // Bytes are shown as numbers.
        assert!(!shown.contains("hunter22") && !shown.contains("104"), "{shown}");
    }
}
