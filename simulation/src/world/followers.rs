//! Programs that follow the events of all workflows: they lose their stream in the middle, and go on with the token that came with the
//! last event that they took.
//!
//! What they do costs the world nothing: they have dice of their own and read beside it, so that a seed means the same world with
//! them and without.

use std::sync::Arc;

use coordinator::Error;
use coordinator::database::View;
use coordinator::order::trim::{Counted, Kept, trim};
use coordinator::order::{self, Page, ResumeToken};
use store::Store;

use super::World;
use crate::dice::Dice;

/// So many, each at its own pace.
const FOLLOWERS: u64 = 3;
/// Rows that they take at a time, at most.
const MOST_ROWS: u64 = 20;
/// What a server keeps in a world in which it keeps little.
const KEPT_ROWS: u64 = 60;

pub(super) struct Followers {
    dice: Dice,
    all: Vec<Follower>,
    /// The server takes away what is more than [`KEPT_ROWS`].
    trims: bool,
    counted: Counted,
}

struct Follower {
    token: ResumeToken,
    /// Events that it has taken, or was told that it has missed.
    taken: usize,
    /// It looks as often as one of so many steps.
    pace: u64,
}

impl Followers {
    pub(super) fn new(seed: u64, begin: ResumeToken) -> Followers {
        let mut dice = Dice::new(seed ^ 0x0F01_10E5);
        let one = |dice: &mut Dice| Follower {
            token: begin,
            taken: 0,
            pace: *dice.pick(&[2, 20, 200]),
        };
        let all = (0..FOLLOWERS).map(|_| one(&mut dice)).collect();
        Followers {
            all,
            trims: dice.one_in(3),
            dice,
            counted: Counted::default(),
        }
    }
}

impl World {
    /// Some of them look for what has come.
    pub(super) fn follow(&mut self) {
        let Some(mut followers) = self.followers.take() else {
            return;
        };
        for n in 0..followers.all.len() {
            if followers.dice.one_in(followers.all[n].pace) {
                let outcome = self.takes(&mut followers, n);
                self.must(outcome.map(drop));
            }
        }
        if followers.trims && followers.dice.one_in(50) {
            let outcome = self.trims(&mut followers);
            self.must(outcome);
        }
        self.followers = Some(followers);
    }

    /// At the end each has seen everything.
    pub(super) fn followers_catch_up(&mut self) -> Result<(), String> {
        let Some(mut followers) = self.followers.take() else {
            return Ok(());
        };
        for n in 0..followers.all.len() {
            while !self.takes(&mut followers, n)? {}
            let (taken, there) = (followers.all[n].taken, self.checks.order().len());
            if taken != there {
                return Err(format!("follower {n} has seen {taken} events of {there}"));
            }
        }
        Ok(())
    }

    /// A page, of which the stream may break off anywhere; true: there is nothing behind it.
    fn takes(&mut self, followers: &mut Followers, n: usize) -> Result<bool, String> {
        let dice = &mut followers.dice;
        let most = usize::try_from(dice.between(1, MOST_ROWS)).unwrap_or(1);
        let follower = &mut followers.all[n];
        let view = View::new(Arc::new(self.disk.as_it_is()));
        // As it is kept between two runs of a program.
        let text = follower.token.to_string();
        let token = text.parse().map_err(|error| format!("follower {n}: {error}"))?;
        let page = match order::page(&view, &token, most) {
            Err(Error::OutOfRange(told)) => return self.is_too_late(follower, &view, &told),
            page => page.map_err(|error| format!("follower {n} cannot read: {error}"))?,
        };
        let breaks_off = dice.one_in(4);
        let until = match breaks_off {
            true => dice.index(page.events.len() + 1),
            false => page.events.len(),
        };
        for place in &page.events[..until] {
            let seen = (place.workflow.clone(), place.number, place.kind.clone());
            let want = self.checks.order().get(follower.taken);
            if want != Some(&seen) {
                return Err(format!(
                    "follower {n} is told of {seen:?}, and what came next is {want:?}"
                ));
            }
            follower.taken += 1;
            follower.token = place.token;
        }
        if breaks_off {
            self.coverage.fault("follower: its stream breaks");
            return Ok(false);
        }
        follower.token = page.token;
        Ok(page.is_last)
    }

    /// It is told that it comes too late, and goes on from what there is.
    fn is_too_late(&mut self, follower: &mut Follower, view: &View, told: &str) -> Result<bool, String> {
        self.coverage.fault("follower: comes too late");
        let error = |error: Error| error.to_string();
        let token = order::oldest(view).map_err(error)?;
        let Page { events, .. } = order::page(view, &token, usize::MAX).map_err(error)?;
        let gone = self.checks.order().len().saturating_sub(events.len());
        if follower.taken >= gone {
            return Err(format!(
                "a follower that has seen {} events, of which {gone} are gone, is told: {told}",
                follower.taken
            ));
        }
        (follower.token, follower.taken) = (token, gone);
        Ok(false)
    }

    fn trims(&mut self, followers: &mut Followers) -> Result<(), String> {
        let error = |error: Error| error.to_string();
        let view = View::new(Arc::new(self.disk.as_it_is()));
        while followers.counted.count(&view).map_err(error)? {}
        let kept = Kept {
            for_ms: u64::MAX,
            rows: KEPT_ROWS,
        };
        let now = self.server_clock(0);
        let Some((batch, rows)) = trim(&view, &followers.counted, now, kept).map_err(error)? else {
            return Ok(());
        };
        // A disk that fails is tried again.
        if self.disk.commit(&batch.into_commit()).is_ok() {
            followers.counted.gone(rows);
        }
        Ok(())
    }
}
