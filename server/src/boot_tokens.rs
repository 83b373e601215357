//! Boot tokens: what the agent of a netboot proves itself with.
//!
//! A token is minted for one boot of one machine. The first agent that attaches with it binds it to that agent's
//! boot id; from then on it is good for no other. A token of an earlier boot stays good until a later one is bound,
//! so that somebody who merely asks for a script in a machine's name cannot lock its agent out.

use macaddr::MacAddr6;
use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;

use crate::clock;
use crate::control::ControlPlane;
use crate::random::random;
use coordinator::Error;
use coordinator::database::Batch;
use coordinator::machines::mac_text;

/// Boots whose tokens are remembered.
const MAX_BOOTS: usize = 8;
const TOKEN_BYTES: usize = 32;

/// A machine's boots, the latest last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Boots {
    pub(crate) boots: Vec<Boot>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// As whoever watches the network counts boots.
    pub(crate) id: String,
    pub(crate) token: String,
    /// The boot id of the agent that attached with the token, as its kernel has it.
    pub(crate) agent: Option<String>,
    pub(crate) at: UnixMillis,
}

/// What a token says of the agent that shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No netboot of this machine is known, and no token was shown.
    Unasked,
    /// It is the token of this boot; `bind` says that no agent has shown it before.
    Good { boot: String, bind: bool },
    /// It is not; says why.
    Bad(String),
}

impl Boots {
    /// Remembers a boot. The oldest makes room, but never the last one that an agent has attached in: whoever asks
    /// for scripts again and again would lock that agent out.
    fn add(&mut self, boot: Boot) {
        if self.boots.len() >= MAX_BOOTS {
            let held = self.boots.iter().rposition(|known| known.agent.is_some());
            self.boots.remove(usize::from(held == Some(0)));
        }
        self.boots.push(boot);
    }

    pub(crate) fn judge(&self, token: &str, agent: &str) -> Verdict {
        if token.is_empty() {
            return match self.boots.last() {
                None => Verdict::Unasked,
                Some(_) => Verdict::Bad("it shows no boot token, and this machine netbooted with one".into()),
            };
        }
        let Some(at) = self.boots.iter().position(|boot| same(&boot.token, token)) else {
            return Verdict::Bad("its boot token is not this machine's".into());
        };
        if self.boots.iter().skip(at + 1).any(|later| later.agent.is_some()) {
            return Verdict::Bad("its boot token is of an earlier boot".into());
        }
        match self.boots.get(at) {
            Some(boot) if boot.agent.as_deref().is_none_or(|bound| bound == agent) => Verdict::Good {
                boot: boot.id.clone(),
                bind: boot.agent.is_none(),
            },
            _ => Verdict::Bad("its boot token is in use by another boot".into()),
        }
    }
}

/// Compares in a time that does not depend on where they differ.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .fold(0, |differ, (one, other)| differ | (one ^ other))
            == 0
}

impl ControlPlane {
    /// The token of one boot of a machine: 64 hexadecimal digits. The same boot gets the same, also after a restart.
    pub async fn boot_token(&self, mac: MacAddr6, boot: &str) -> Result<String, Error> {
        let key = format!("boot/{}", mac_text(mac));
        loop {
            let before = self.inner.db.get::<Boots>(key.clone()).await?;
            let modified = before.as_ref().map(|before| before.modified);
            let mut boots = before.map(|before| before.value).unwrap_or_default();
            if let Some(known) = boots.boots.iter().find(|known| known.id == boot) {
                return Ok(known.token.clone());
            }
            let token = random_token()?;
            boots.add(Boot {
                id: boot.to_owned(),
                token: token.clone(),
                agent: None,
                at: clock::now(),
            });
            let mut batch = Batch::default();
            batch.expect(&key, modified);
            batch.put(&key, &boots);
            match self.inner.db.commit(batch).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| token),
            }
        }
    }

    /// Judges the token that an agent shows, and binds it when it is new. Durable when this returns.
    pub(crate) async fn judge_token(
        &self,
        mac: MacAddr6,
        token: &str,
        agent: &str,
    ) -> Result<Verdict, Error> {
        let key = format!("boot/{}", mac_text(mac));
        loop {
            let Some(mut before) = self.inner.db.get::<Boots>(key.clone()).await? else {
                return Ok(Boots::default().judge(token, agent));
            };
            let verdict = before.value.judge(token, agent);
            let Verdict::Good { boot, bind: true } = &verdict else {
                return Ok(verdict);
            };
            before
                .value
                .boots
                .iter_mut()
                .filter(|known| known.id == *boot)
                .for_each(|known| {
                    known.agent = Some(agent.to_owned());
                });
            let mut batch = Batch::default();
            batch.unchanged(&key, before.modified);
            batch.put(&key, &before.value);
            match self.inner.db.commit(batch).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|_| verdict),
            }
        }
    }

    /// The latest netboot of a machine that is known.
    pub(crate) async fn latest_boot(&self, mac: MacAddr6) -> Result<Option<String>, Error> {
        let boots = self
            .inner
            .db
            .get::<Boots>(format!("boot/{}", mac_text(mac)))
            .await?;
        Ok(boots.and_then(|boots| Some(boots.value.boots.last()?.id.clone())))
    }
}

fn random_token() -> Result<String, Error> {
    let bytes = random::<TOKEN_BYTES>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boots(given: &[(&str, &str, Option<&str>)]) -> Boots {
        let boot = |(id, token, agent): &(&str, &str, Option<&str>)| Boot {
            id: (*id).into(),
            token: (*token).into(),
            agent: agent.map(str::to_owned),
            at: 0,
        };
        Boots {
            boots: given.iter().map(boot).collect(),
        }
    }

    #[test]
    fn first_agent_binds_and_only_it_returns() {
        let fresh = boots(&[("b1", "t1", None)]);
        assert_eq!(
            fresh.judge("t1", "k1"),
            Verdict::Good {
                boot: "b1".into(),
                bind: true
            }
        );
        let bound = boots(&[("b1", "t1", Some("k1"))]);
        assert_eq!(
            bound.judge("t1", "k1"),
            Verdict::Good {
                boot: "b1".into(),
                bind: false
            }
        );
        assert!(matches!(bound.judge("t1", "k2"), Verdict::Bad(why) if why.contains("another boot")));
    }

    #[test]
    fn a_minted_token_locks_nobody_out_but_a_bound_one_does() {
        let asked = boots(&[("b1", "t1", Some("k1")), ("b2", "t2", None)]);
        assert_eq!(
            asked.judge("t1", "k1"),
            Verdict::Good {
                boot: "b1".into(),
                bind: false
            }
        );
        let booted = boots(&[("b1", "t1", Some("k1")), ("b2", "t2", Some("k2"))]);
        assert!(matches!(booted.judge("t1", "k1"), Verdict::Bad(why) if why.contains("earlier")));
    }

    #[test]
    fn boots_that_come_to_nothing_do_not_push_out_the_one_that_an_agent_is_in() {
        let mut asked = boots(&[("b1", "t1", Some("k1"))]);
        for number in 0..3 * MAX_BOOTS {
            let more = boots(&[(&format!("more{number}"), &format!("m{number}"), None)]);
            more.boots.into_iter().for_each(|boot| asked.add(boot));
        }
        assert_eq!(asked.boots.len(), MAX_BOOTS);
        let good = |boot: &str, bind| Verdict::Good {
            boot: boot.into(),
            bind,
        };
        assert_eq!(asked.judge("t1", "k1"), good("b1", false));
        let last = 3 * MAX_BOOTS - 1;
        assert_eq!(
            asked.judge(&format!("m{last}"), "k2"),
            good(&format!("more{last}"), true)
        );
    }

    #[test]
    fn no_token_is_good_only_where_none_was_minted() {
        assert_eq!(boots(&[]).judge("", "k1"), Verdict::Unasked);
        assert!(matches!(
            boots(&[("b1", "t1", None)]).judge("", "k1"),
            Verdict::Bad(_)
        ));
        assert!(matches!(boots(&[]).judge("t1", "k1"), Verdict::Bad(_)));
    }
}
