//! Who may attach: a machine that is known, with a credential that is good.

use std::net::SocketAddr;
use std::time::SystemTime;

use macaddr::MacAddr6;
use proto::v1::Hello;
use tonic::Status;

use super::credential::{Credential, Known, NotGood};
use super::described;
use super::registry::{Held, Registered};
use crate::control::ControlPlane;
use crate::grpc::status;
use crate::timeline::{Entry, Outcome, Stage};
use coordinator::machines::{Machine, mac_text, parse_mac};

/// Boot ids and versions are short; more is no agent of ours.
const MAX_FIELD_BYTES: usize = 256;

/// An agent that may stay.
pub(super) struct Admitted {
    pub(super) registered: Registered,
    /// The netboot that its token is of.
    pub(super) boot: Option<String>,
    pub(super) peer: String,
}

impl ControlPlane {
    /// Judges a Hello. What is refused is on the boot timeline, with the address that it came from.
    pub(super) async fn admit(&self, hello: &Hello, peer: Option<SocketAddr>) -> Result<Admitted, Status> {
        let peer = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        let Some(mac) = parse_mac(&hello.mac) else {
            return Err(Status::invalid_argument(format!(
                "Hello has a bad MAC {:?}",
                hello.mac
            )));
        };
        if hello.boot_id.is_empty() || hello.boot_id.len().max(hello.agent_version.len()) > MAX_FIELD_BYTES {
            return Err(Status::invalid_argument(
                "Hello has no boot id, or one that is too long",
            ));
        }
        let text = mac_text(mac);
        let Some(machine) = self.machine_with_mac(mac).await.map_err(status)? else {
            self.refused(mac, None, format!("from {peer}: no machine has this MAC"));
            return Err(Status::not_found(format!(
                "no machine has MAC {text}: add it with `farrier machine apply`"
            )));
        };
        let shown = Credential::of(&hello.boot_token);
        let judged = self.judge(shown, (&machine, mac), &hello.boot_id).await;
        let boot = match judged.map_err(status)? {
            Ok(Known::ByMac) => None,
            Ok(Known::ByBoot(boot)) => Some(boot),
            Err(NotGood::Missing) => {
                let why = "it shows no boot token, and this machine gets one when it netboots: if it never does, say \
                           `netboot: never` in its record (`netboot: {allowPXE: false}` in a Hardware's interface)";
                return Err(self.turned_away(&machine, mac, None, &peer, why));
            }
            Err(NotGood::Wrong(why)) => {
                let boot = self.latest_boot(mac).await.map_err(status)?;
                return Err(self.turned_away(&machine, mac, boot, &peer, &why));
            }
        };
        match self
            .inner
            .agents
            .register(&machine.name, mac, &hello.boot_id, boot.is_some())
        {
            Ok(registered) => {
                registered.handle().says(&hello.runtimes);
                tracing::info!(machine = machine.name, mac = text, peer, "agent attached");
                self.record(Entry {
                    at: SystemTime::now(),
                    mac: Some(mac),
                    boot: boot.clone(),
                    stage: Stage::Agent,
                    what: "ATTACH".into(),
                    detail: format!(
                        "from {peer}, farrier-agent {}{}",
                        hello.agent_version,
                        hello
                            .inventory
                            .as_deref()
                            .map(|inventory| format!("; {}", described(inventory)))
                            .unwrap_or_default()
                    ),
                    bytes: 0,
                    outcome: Outcome::Answered,
                });
                Ok(Admitted {
                    registered,
                    boot,
                    peer,
                })
            }
            Err(Held) => {
                let why = "another live session holds this MAC, and this one shows no boot token";
                Err(self.turned_away(&machine, mac, None, &peer, why))
            }
        }
    }

    fn turned_away(
        &self,
        machine: &Machine,
        mac: MacAddr6,
        boot: Option<String>,
        peer: &str,
        why: &str,
    ) -> Status {
        self.refused(mac, boot, format!("from {peer}: {why}"));
        Status::permission_denied(format!(
            "agent refused for machine {:?} ({}): {why}",
            machine.name,
            mac_text(mac)
        ))
    }

    fn refused(&self, mac: MacAddr6, boot: Option<String>, detail: String) {
        tracing::warn!(mac = mac_text(mac), detail, "agent refused");
        self.record(Entry {
            at: SystemTime::now(),
            mac: Some(mac),
            boot,
            stage: Stage::Agent,
            what: "ATTACH".into(),
            detail,
            bytes: 0,
            outcome: Outcome::Refused,
        });
    }
}
