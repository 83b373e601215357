//! What an agent shows so that it is told from anybody else who knows its MAC: the same on its stream and beside it.
//!
//! A certificate of the machine, or a quote of its TPM, is one more [`Credential`].

use macaddr::MacAddr6;

use crate::boot_tokens::Verdict;
use crate::control::ControlPlane;
use coordinator::Error;
use coordinator::machines::Machine;

/// What an agent shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// Its MAC alone.
    Nothing,
    /// The token of the boot that it is in.
    BootToken(&'a str),
}

/// How an agent is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// By its MAC: no boot script of ours hands this machine a token.
    ByMac,
    /// As the one of this netboot.
    ByBoot(String),
}

/// Why a credential is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotGood {
    /// There is none, and this machine gets one.
    Missing,
    /// In words.
    Wrong(String),
}

impl<'a> Credential<'a> {
    /// What stands in a message's `boot_token`.
    pub(super) fn of(boot_token: &'a str) -> Self {
        match boot_token {
            "" => Self::Nothing,
            token => Self::BootToken(token),
        }
    }
}

impl ControlPlane {
    /// Judges what is shown for a machine by an agent in the boot `boot_id`, as its kernel has it. A token that is new is bound to
    /// that boot, and durably so when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn judge(
        &self,
        credential: Credential<'_>,
        (machine, mac): (&Machine, MacAddr6),
        boot_id: &str,
    ) -> Result<Result<Known, NotGood>, Error> {
        let token = match credential {
            Credential::Nothing if !machine.gets_token(mac) => return Ok(Ok(Known::ByMac)),
            Credential::Nothing => "",
            Credential::BootToken(token) => token,
        };
        Ok(match self.judge_token(mac, token, boot_id).await? {
            Verdict::Good { boot, .. } => Ok(Known::ByBoot(boot)),
            Verdict::Unasked => Err(NotGood::Missing),
            Verdict::Bad(why) => Err(NotGood::Wrong(why)),
        })
    }
}
