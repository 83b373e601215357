//! Every action is released by somebody before it is handed out.

use super::{At, End, Flow, Model};
use crate::plan::Work;

impl Model {
    /// From here on somebody releases every action, or nobody does.
    pub(crate) fn steps_are(&mut self, steps: bool) {
        self.steps = steps;
        self.look();
    }

    /// Whether its next action waits for somebody. That of an action which is tried again does not, and neither does its
    /// extra run.
    pub(super) fn needs_release(&self, task: usize, item: usize) -> bool {
        let one = &self.tasks[task].items[item];
        let has_actions = matches!(self.plan.tasks[task].work, Work::Actions(..));
        let is_next = one.at == At::Ready && !one.is_cleaning() && !one.released.contains(&one.action);
        self.steps && has_actions && is_next
    }

    /// Asks for what is ready now, and no more for what is not to be asked for. What is held is left as it is.
    pub(super) fn ask(&mut self) {
        let now = self.now;
        for (task, item) in self.all(|at| at == At::Ready) {
            let is_asked = self.needs_release(task, item);
            let one = &mut self.tasks[task].items[item];
            if one.held || one.asked == is_asked {
                continue;
            }
            one.asked = is_asked;
            if is_asked {
                one.stop_clock(now);
            } else {
                one.start_clock(now);
            }
        }
    }

    pub(super) fn answered(&mut self, task: usize, item: usize, approved: bool) {
        let (now, is_running) = (self.now, self.flow == Flow::Running);
        let one = &mut self.tasks[task].items[item];
        one.asked = false;
        if !approved {
            one.at = At::Over(End::Failed);
            return;
        }
        one.released.insert(one.action);
        if is_running {
            one.start_clock(now);
        }
    }
}
