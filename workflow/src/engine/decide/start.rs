//! The beginning of a workflow that was to begin later.

use super::super::UnixMillis;
use super::super::command::Refusal;
use super::super::event::EventKind;
use super::create::claims;
use super::draft::Draft;

impl Draft<'_> {
    /// Moves the time at which it begins; None: now. During a pause it begins when it is resumed.
    pub(super) fn start(&mut self, at: Option<UnixMillis>, by: &str) -> Result<(), Refusal> {
        self.refuse_ended()?;
        let Some(before) = self.workflow.head.start_at else {
            return Err(self.wrong_state("it has begun already; farrier workflow pause holds it"));
        };
        if self.is_stopping() {
            return Err(self.wrong_state("it ends as soon as what is under way has stopped"));
        }
        let by = by.to_owned();
        match at {
            None if !self.is_paused() => self.begin(by),
            at => {
                let at = at.unwrap_or(self.wall);
                if at != before {
                    self.push(EventKind::StartMoved { start_at: at, by });
                }
            }
        }
        Ok(())
    }

    /// Begins it if it is time to. True: it is not time yet.
    pub(super) fn is_before_its_time(&mut self) -> bool {
        match self.workflow.head.start_at {
            Some(at) if at > self.wall => true,
            Some(_) => {
                self.begin(String::new());
                false
            }
            None => false,
        }
    }

    /// From here on it is as one that was made now.
    fn begin(&mut self, by: String) {
        self.push(EventKind::Begun { by });
        self.effects.extend(claims(&self.workflow));
    }
}
