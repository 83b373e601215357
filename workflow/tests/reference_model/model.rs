//! What workflows mean, as simply as it can be said: no events, no queues, no bounded steps. Everything is looked at
//! again after each thing that happens.

use std::collections::BTreeMap;

use super::plan::{Again, Budget, Plan, When, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Cancelled,
    Failed,
    Skipped,
    Success,
    Timeout,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Failed,
    /// Failed, with the reason "Special".
    Special,
    Lost,
    Succeeded,
    TimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Running,
    Paused,
    /// It will end so when nothing is under way.
    Stopping(End),
    Over(End),
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// None: not over.
    pub(crate) end: Option<End>,
    pub(crate) active: bool,
    /// It has asked for machines, and nobody has answered.
    pub(crate) asking: bool,
    /// The machines that it was told.
    pub(crate) answer: Option<Vec<usize>>,
    pub(crate) items: Vec<Item>,
    /// Items that an earlier run did well: they stay.
    kept: Vec<usize>,
    /// More failures than are borne: no further item begins.
    stopped: bool,
    recovered: bool,
    went_back: u32,
    ended_at: u64,
}

/// A task for one item of its list, or for none.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) at: At,
    pub(crate) action: usize,
    /// Of this action.
    tries: u32,
    task_tries: u32,
    /// Something of it was handed out.
    begun: bool,
    /// The extra run of a failed action is due or under way; with what the item then fails.
    cleaning: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Approval {
        due: Option<u64>,
    },
    /// During a pause: it goes on when that is over.
    Approved,
    Ready,
    Away,
    /// The machine has left and is to come back.
    Left,
    Delayed {
        due: u64,
    },
    Waiting {
        due: u64,
    },
    Over(End),
}

impl Task {
    fn new() -> Task {
        Task {
            end: None,
            active: false,
            asking: false,
            answer: None,
            items: Vec::new(),
            kept: Vec::new(),
            stopped: false,
            recovered: false,
            went_back: 0,
            ended_at: 0,
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed | End::Timeout))
    }
}

impl Item {
    pub(crate) fn is_cleaning(&self) -> bool {
        self.cleaning.is_some()
    }

    pub(crate) fn end(&self) -> Option<End> {
        match self.at {
            At::Over(end) => Some(end),
            _ => None,
        }
    }
}

pub(crate) struct Model {
    pub(crate) plan: Plan,
    pub(crate) tasks: Vec<Task>,
    pub(crate) flow: Flow,
    /// Seconds.
    now: u64,
    /// Seconds of the global timeout that are left, and since when they run.
    budget: Option<(u64, Option<u64>)>,
    started: bool,
    /// It was to end before its tasks did.
    pub(crate) was_stopped: bool,
    /// How often each task has asked for machines.
    asked: Vec<usize>,
    /// Handed out in all: by task, item, action.
    pub(crate) attempts: BTreeMap<(usize, usize, usize), u32>,
}

impl Model {
    pub(crate) fn new(plan: &Plan) -> Model {
        let mut model = Model {
            tasks: vec![Task::new(); plan.tasks.len()],
            asked: vec![0; plan.tasks.len()],
            plan: plan.clone(),
            flow: Flow::Running,
            now: 0,
            budget: plan.global_timeout.map(|seconds| (seconds, None)),
            started: false,
            was_stopped: false,
            attempts: BTreeMap::new(),
        };
        model.look();
        model
    }

    // What can be seen of it.

    /// Items that wait for a machine, with it.
    pub(crate) fn ready(&self) -> Vec<(usize, usize, usize)> {
        if self.flow != Flow::Running {
            return Vec::new();
        }
        self.all(|at| at == At::Ready)
            .into_iter()
            .filter_map(|(task, item)| Some((self.machine(task, item)?, task, item)))
            .collect()
    }

    pub(crate) fn machine(&self, task: usize, item: usize) -> Option<usize> {
        match &self.tasks[task].answer {
            Some(machines) => machines.get(item).copied(),
            None => self.plan.machine(task, item),
        }
    }

    /// Tasks that wait to be told their machines.
    pub(crate) fn wants_machines(&self) -> Vec<usize> {
        let is_open = matches!(self.flow, Flow::Running | Flow::Paused);
        (0..self.tasks.len())
            .filter(|&task| is_open && self.tasks[task].asking)
            .collect()
    }

    /// What a task is to be told when it asks now.
    pub(crate) fn answer_for(&self, task: usize) -> Vec<usize> {
        let answers = self.plan.tasks[task]
            .each
            .as_ref()
            .and_then(|each| each.answers.as_ref());
        let answers = answers.expect("it asks for machines");
        answers[(self.asked[task] - 1) % answers.len()].clone()
    }

    pub(crate) fn away(&self) -> Vec<(usize, usize)> {
        self.all(|at| matches!(at, At::Away | At::Left))
    }

    pub(crate) fn asking(&self) -> Vec<(usize, usize)> {
        if !matches!(self.flow, Flow::Running | Flow::Paused) {
            return Vec::new();
        }
        self.all(|at| matches!(at, At::Approval { .. }))
    }

    /// When time does something next.
    pub(crate) fn next_due(&self) -> Option<u64> {
        if self.flow != Flow::Running {
            return None;
        }
        let global = self.budget.and_then(|(left, since)| Some(since? + left));
        let items = self.tasks.iter().flat_map(|task| &task.items);
        let dues = items.filter_map(|item| match item.at {
            At::Approval { due } => due,
            At::Delayed { due } | At::Waiting { due } => Some(due),
            _ => None,
        });
        dues.chain(global).min()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.flow, Flow::Over(_))
    }

    fn all(&self, which: impl Fn(At) -> bool) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            for (item, at) in task.items.iter().enumerate() {
                if task.active && which(at.at) {
                    all.push((index, item));
                }
            }
        }
        all
    }

    // What happens to it.

    pub(crate) fn handed_out(&mut self, task: usize, item: usize) {
        let one = &mut self.tasks[task].items[item];
        assert_eq!(one.at, At::Ready);
        one.at = At::Away;
        one.begun = true;
        if one.cleaning.is_none() {
            one.tries += 1;
        }
        *self.attempts.entry((task, item, one.action)).or_default() += 1;
        self.start();
    }

    /// The first attempt is handed out, or the first task that needs no machine begins.
    fn start(&mut self) {
        if !self.started {
            self.started = true;
            if let Some((_, since)) = &mut self.budget {
                *since = Some(self.now);
            }
        }
    }

    pub(crate) fn ended(&mut self, task: usize, item: usize, outcome: Outcome) {
        if matches!(self.flow, Flow::Stopping(_)) {
            self.tasks[task].items[item].at = At::Over(self.end_while_stopping(task, item, outcome));
        } else if let Some(how) = self.tasks[task].items[item].cleaning.take() {
            self.give_up(task, item, how);
        } else if outcome == Outcome::Succeeded {
            self.next_action(task, item);
        } else {
            self.failed(task, item, outcome);
        }
        self.look();
    }

    /// Whether the machine has to come back before a last action that leaves is done: it has, where something else of
    /// the workflow waits for it; it has not, where nothing can. None: that depends on what will be.
    pub(crate) fn needs_back(&self, task: usize, item: usize, machine: usize) -> Option<bool> {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions leave")
        };
        if matches!(self.flow, Flow::Stopping(_)) {
            return Some(false);
        }
        if self.tasks[task].items[item].action + 1 < doings.len() {
            return Some(true);
        }
        let waits = self.ready().iter().any(|(of, ..)| *of == machine);
        let nothing_left = self.plan.tasks.iter().enumerate().all(|(index, step)| {
            let is_this = index == task && step.each.is_none();
            step.back.is_none() && (is_this || self.tasks[index].end.is_some())
        });
        match (waits, nothing_left) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// The machine said that it leaves, as the action is to do.
    pub(crate) fn left(&mut self, task: usize, item: usize, is_done: bool) {
        if matches!(self.flow, Flow::Stopping(_)) {
            // A machine that reboots has stopped.
            self.over(task, item, End::Cancelled);
            self.look();
        } else if is_done {
            self.ended(task, item, Outcome::Succeeded);
        } else {
            self.tasks[task].items[item].at = At::Left;
        }
    }

    /// The answer; None: there is none, for an error of the selector.
    pub(crate) fn told_machines(&mut self, task: usize, machines: Option<Vec<usize>>) {
        let state = &mut self.tasks[task];
        state.asking = false;
        match machines {
            Some(machines) => {
                state.active = true;
                state.answer = Some(machines);
            }
            None => {
                state.end = Some(End::Failed);
                state.ended_at = self.now;
            }
        }
        self.look();
    }

    /// A person has it done again: what failed and all that depends on it; items that succeeded stay.
    pub(crate) fn retried(&mut self) {
        // What had not ended when the whole was stopped was cancelled with it.
        let did_not_succeed =
            |task: &Task| !task.recovered && !matches!(task.end, Some(End::Success | End::Skipped));
        let mut again: Vec<usize> = (0..self.tasks.len())
            .filter(|&task| did_not_succeed(&self.tasks[task]))
            .flat_map(|task| self.plan.after(task))
            .collect();
        again.sort_unstable();
        again.dedup();
        for task in again {
            let state = &self.tasks[task];
            let mut next = Task::new();
            let is_many = self.plan.tasks[task].each.is_some();
            if is_many && state.end != Some(End::Success) {
                let mut kept = state.kept.clone();
                kept.extend(
                    state
                        .items
                        .iter()
                        .enumerate()
                        .filter_map(|(item, one)| (one.end() == Some(End::Success)).then_some(item)),
                );
                next.kept = kept;
                // Items are those of the list that they were made from.
                next.answer = state.answer.clone();
            }
            self.tasks[task] = next;
        }
        self.make_good_again();
        self.flow = Flow::Running;
        self.was_stopped = false;
        self.started = false;
        self.budget = self.plan.global_timeout.map(|seconds| (seconds, None));
        self.look();
    }

    pub(crate) fn decided(&mut self, task: usize, item: usize, approved: bool) {
        if approved && self.flow == Flow::Paused {
            self.tasks[task].items[item].at = At::Approved;
        } else if approved {
            self.go_on(task, item);
        } else {
            self.tasks[task].items[item].at = At::Over(End::Failed);
        }
        self.look();
    }

    pub(crate) fn time_is(&mut self, now: u64) {
        self.now = now;
        if self.flow != Flow::Running {
            return;
        }
        if let Some((left, Some(since))) = self.budget
            && now >= since + left
        {
            self.stop(End::Timeout);
            self.look();
            return;
        }
        for task in 0..self.tasks.len() {
            for item in 0..self.tasks[task].items.len() {
                let one = &mut self.tasks[task].items[item];
                match one.at {
                    At::Approval { due: Some(due) } if due <= now => one.at = At::Over(End::Timeout),
                    At::Delayed { due } if due <= now => one.at = At::Ready,
                    At::Waiting { due } if due <= now => one.at = At::Over(End::Success),
                    _ => {}
                }
            }
        }
        self.look();
    }

    pub(crate) fn paused(&mut self) {
        self.flow = Flow::Paused;
        if let Some((left, since)) = &mut self.budget
            && let Some(since) = since.take()
        {
            *left -= self.now - since;
        }
    }

    pub(crate) fn unpaused(&mut self) {
        self.flow = Flow::Running;
        if let Some((_, since)) = &mut self.budget
            && self.started
        {
            *since = Some(self.now);
        }
        for (task, item) in self.all(|at| at == At::Approved) {
            if self.flow == Flow::Running {
                self.go_on(task, item);
            }
        }
        self.look();
        if self.flow == Flow::Running {
            self.time_is(self.now);
        }
    }

    pub(crate) fn cancelled(&mut self) {
        self.stop(End::Cancelled);
        self.look();
    }

    // What follows from it.

    /// Until nothing changes any more.
    fn look(&mut self) {
        loop {
            if let Flow::Stopping(end) = self.flow {
                if self.away().is_empty() {
                    self.cancel_the_rest();
                    self.flow = Flow::Over(end);
                }
                return;
            }
            if self.flow != Flow::Running {
                return;
            }
            let changed = (0..self.tasks.len()).any(|task| self.look_at(task));
            if !changed {
                break;
            }
        }
        if self.tasks.iter().all(|task| task.end.is_some()) {
            // With the first failure that nobody made good.
            let failed =
                |task: &&Task| !task.recovered && matches!(task.end, Some(End::Failed | End::Timeout));
            let first = self.tasks.iter().filter(failed).min_by_key(|task| task.ended_at);
            self.flow = Flow::Over(first.and_then(|task| task.end).unwrap_or(End::Success));
        }
    }

    /// Whether something changed.
    fn look_at(&mut self, task: usize) -> bool {
        if self.tasks[task].end.is_some() {
            return false;
        }
        if self.tasks[task].asking {
            return false;
        }
        if !self.tasks[task].active {
            let needs = &self.plan.tasks[task].needs;
            if needs.iter().any(|&need| self.tasks[need].end.is_none()) {
                return false;
            }
            self.begin(task);
            return true;
        }
        if self.perhaps_stop(task) || self.make_next(task) {
            return true;
        }
        let total = self.total(task);
        let state = &self.tasks[task];
        let all_made = state.items.len() == total || state.stopped;
        let all_over = state.items.iter().all(|item| matches!(item.at, At::Over(_)));
        if all_made && all_over {
            self.finish(task);
            return true;
        }
        false
    }

    fn begin(&mut self, task: usize) {
        let gate = match self.plan.tasks[task].when {
            When::Plain | When::PlainFalse | When::OddItems | When::Broken | When::Success => {
                self.success(task)
            }
            When::Failure => self.failure(task),
            When::Always | When::Never | When::IfFailed(_) => true,
        };
        // With a list, what `when` says besides is asked for each item.
        let has_gate_function = !matches!(
            self.plan.tasks[task].when,
            When::Plain | When::PlainFalse | When::OddItems | When::Broken
        );
        if !gate && (!has_gate_function || self.plan.tasks[task].each.is_none()) {
            self.tasks[task].end = Some(End::Skipped);
            self.tasks[task].ended_at = self.now;
            return;
        }
        let asks = self.plan.tasks[task]
            .each
            .as_ref()
            .is_some_and(|each| each.answers.is_some());
        if asks && self.tasks[task].answer.is_none() {
            self.tasks[task].asking = true;
            self.asked[task] += 1;
        } else {
            self.tasks[task].active = true;
        }
    }

    /// No task before failed without being recovered.
    fn success(&self, task: usize) -> bool {
        let mut before = self.plan.before(task).into_iter().map(|need| &self.tasks[need]);
        !before.any(|need| need.has_failed() && !need.recovered)
    }

    /// Some task before failed, recovered or not.
    fn failure(&self, task: usize) -> bool {
        self.plan
            .before(task)
            .into_iter()
            .any(|need| self.tasks[need].has_failed())
    }

    fn total(&self, task: usize) -> usize {
        match (&self.tasks[task].answer, &self.plan.tasks[task].each) {
            (Some(machines), _) => machines.len(),
            (None, Some(each)) => each.items,
            (None, None) => 1,
        }
    }

    /// More items failed than are borne: what has not begun does not begin.
    fn perhaps_stop(&mut self, task: usize) -> bool {
        let total = self.total(task);
        let each = self.plan.tasks[task].each.as_ref();
        let Some(borne) = each.and_then(|each| each.borne(total)) else {
            return false;
        };
        let state = &mut self.tasks[task];
        let ends: Vec<End> = state.items.iter().filter_map(Item::end).collect();
        if state.stopped || failures(&ends) <= borne {
            return false;
        }
        state.stopped = true;
        for item in &mut state.items {
            if item.end().is_none() && !item.begun {
                item.at = At::Over(End::Skipped);
            }
        }
        true
    }

    fn make_next(&mut self, task: usize) -> bool {
        let made = self.tasks[task].items.len();
        if made >= self.total(task) || self.tasks[task].stopped {
            return false;
        }
        if let Some(each) = &self.plan.tasks[task].each {
            let open = |item: &Item| !matches!(item.at, At::Over(_));
            let running = self.tasks[task].items.iter().filter(|item| open(item)).count();
            if each.parallel > 0 && running >= each.parallel {
                return false;
            }
            // A wave begins when the one before is over.
            if each.waves.contains(&made) && running > 0 {
                return false;
            }
        }
        self.tasks[task].items.push(Item {
            at: At::Ready,
            action: 0,
            tries: 0,
            task_tries: 1,
            begun: false,
            cleaning: None,
        });
        if self.tasks[task].kept.contains(&made) {
            self.over(task, made, End::Success);
            return true;
        }
        let when = match self.plan.tasks[task].when {
            When::Never | When::PlainFalse => Some(End::Skipped),
            When::IfFailed(other) => (self.tasks[other].end != Some(End::Failed)).then_some(End::Skipped),
            When::OddItems => made.is_multiple_of(2).then_some(End::Skipped),
            When::Broken => Some(End::Failed),
            When::Success => (!self.success(task)).then_some(End::Skipped),
            When::Failure => (!self.failure(task)).then_some(End::Skipped),
            When::Plain | When::Always => None,
        };
        if let Some(end) = when {
            if end == End::Failed && self.plan.tasks[task].each.is_some() {
                self.start();
            }
            self.over(task, made, end);
        } else if let Some(ask) = &self.plan.tasks[task].approve {
            let due = ask.timeout.map(|seconds| self.now + seconds);
            self.tasks[task].items[made].at = At::Approval { due };
        } else {
            self.go_on(task, made);
        }
        true
    }

    /// Approved, or nobody had to.
    fn go_on(&mut self, task: usize, item: usize) {
        let now = self.now;
        if !matches!(self.plan.tasks[task].work, Work::Actions(..)) {
            self.start();
        }
        let one = &mut self.tasks[task].items[item];
        match self.plan.tasks[task].work {
            Work::Actions(..) => one.at = At::Ready,
            Work::Wait(seconds) => {
                one.begun = true;
                one.at = At::Waiting { due: now + seconds };
            }
            Work::Set | Work::Nothing => one.at = At::Over(End::Success),
            Work::Succeed => {
                one.at = At::Over(End::Success);
                self.stop(End::Success);
            }
            Work::Fail => {
                one.at = At::Over(End::Failed);
                self.stop(End::Failed);
            }
        }
    }

    fn next_action(&mut self, task: usize, item: usize) {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions are handed out")
        };
        let one = &mut self.tasks[task].items[item];
        one.tries = 0;
        if one.action + 1 == doings.len() {
            one.at = At::Over(End::Success);
        } else {
            one.action += 1;
            one.at = At::Ready;
        }
    }

    fn failed(&mut self, task: usize, item: usize, how: Outcome) {
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions fail")
        };
        let one = &mut self.tasks[task].items[item];
        let doing = &doings[one.action];
        let delay = match &doing.again {
            Some(again) => again.before_try(how, one.tries + 1),
            // Lost attempts are made again by themselves: three in all.
            None => (how == Outcome::Lost && one.tries < 3).then_some(0),
        };
        if let Some(delay) = delay {
            one.at = self.now.delayed(delay);
            return;
        }
        let cleans = match how {
            Outcome::Failed | Outcome::Special => doing.on_failure,
            Outcome::TimedOut => doing.on_timeout,
            Outcome::Lost | Outcome::Succeeded => false,
        };
        // The extra run comes after the last attempt, when the task is not tried again either.
        let whole = self.plan.tasks[task].again.as_ref();
        let is_last = whole.is_none_or(|again| again.before_try(how, one.task_tries + 1).is_none());
        if cleans && is_last {
            one.cleaning = Some(how);
            one.at = At::Ready;
        } else {
            self.give_up(task, item, how);
        }
    }

    /// The action has failed for good: perhaps the whole task is tried again.
    fn give_up(&mut self, task: usize, item: usize, how: Outcome) {
        let one = &mut self.tasks[task].items[item];
        let again = self.plan.tasks[task].again.as_ref();
        if let Some(delay) = again.and_then(|again| again.before_try(how, one.task_tries + 1)) {
            one.task_tries += 1;
            one.action = 0;
            one.tries = 0;
            one.at = self.now.delayed(delay);
            return;
        }
        let end = if how == Outcome::TimedOut {
            End::Timeout
        } else {
            End::Failed
        };
        self.over(task, item, end);
    }

    fn over(&mut self, task: usize, item: usize, end: End) {
        self.tasks[task].items[item].at = At::Over(end);
    }

    /// Of a task whose items are all over.
    fn end_of(&self, task: usize) -> End {
        let ends: Vec<End> = self.tasks[task].items.iter().filter_map(Item::end).collect();
        match &self.plan.tasks[task].each {
            None => ends[0],
            Some(each) => {
                let failed = failures(&ends);
                match each.borne(self.total(task)) {
                    Some(borne) if failed <= borne => End::Success,
                    _ if failed > 0 => End::Failed,
                    _ => End::Success,
                }
            }
        }
    }

    fn finish(&mut self, task: usize) {
        let end = self.end_of(task);
        let state = &mut self.tasks[task];
        state.end = Some(end);
        state.ended_at = self.now;
        state.active = false;
        if end == End::Success {
            for &recovered in &self.plan.tasks[task].recovers {
                self.tasks[recovered].recovered = true;
            }
        }
        self.perhaps_back(task, end);
    }

    fn perhaps_back(&mut self, task: usize, end: End) {
        let Some(back) = self.plan.tasks[task].back.clone() else {
            return;
        };
        let wanted = end != End::Skipped && (back.always || end == End::Failed);
        if !wanted || self.tasks[task].went_back >= back.max {
            return;
        }
        let went_back = self.tasks[task].went_back + 1;
        let before = self.plan.before(task);
        let mut looped = self.plan.after(back.to);
        // What comes behind this task has not begun; and how often it went back itself still counts.
        looped.retain(|other| *other == task || before.contains(other));
        for again in looped {
            self.tasks[again] = Task {
                went_back: if again == task { went_back } else { 0 },
                ..Task::new()
            };
        }
        self.make_good_again();
    }

    /// What tasks that are to run again had made good is to be made good again.
    fn make_good_again(&mut self) {
        for task in 0..self.tasks.len() {
            self.tasks[task].recovered = self
                .plan
                .tasks
                .iter()
                .zip(&self.tasks)
                .any(|(step, state)| state.end == Some(End::Success) && step.recovers.contains(&task));
        }
    }

    /// What was done before it was asked to stop is done; an extra run changes nothing of how its action ended.
    fn end_while_stopping(&self, task: usize, item: usize, outcome: Outcome) -> End {
        let one = &self.tasks[task].items[item];
        let Work::Actions(_, doings) = &self.plan.tasks[task].work else {
            unreachable!("only actions end")
        };
        match (one.cleaning, outcome) {
            (Some(Outcome::TimedOut), _) => End::Timeout,
            (Some(_), _) => End::Failed,
            (None, Outcome::Succeeded) if one.action + 1 == doings.len() => End::Success,
            (None, _) => End::Cancelled,
        }
    }

    /// What has not ended was stopped, or had not begun, when the whole was.
    fn cancel_the_rest(&mut self) {
        for task in 0..self.tasks.len() {
            let total = self.total(task);
            let state = &mut self.tasks[task];
            let is_whole = state.active && state.items.len() == total;
            for item in &mut state.items {
                // One of which only the extra run was left had failed before.
                let end = item.end().unwrap_or(match item.cleaning {
                    None => End::Cancelled,
                    Some(Outcome::TimedOut) => End::Timeout,
                    Some(_) => End::Failed,
                });
                item.at = At::Over(end);
            }
            let ends: Vec<End> = state.items.iter().filter_map(Item::end).collect();
            let is_done = is_whole && !ends.contains(&End::Cancelled);
            if self.tasks[task].end.is_none() {
                let end = if is_done {
                    self.end_of(task)
                } else {
                    End::Cancelled
                };
                self.tasks[task].end = Some(end);
                if end == End::Success {
                    for &recovered in &self.plan.tasks[task].recovers {
                        self.tasks[recovered].recovered = true;
                    }
                }
            }
            let state = &mut self.tasks[task];
            state.active = false;
            state.asking = false;
        }
    }

    fn stop(&mut self, end: End) {
        self.flow = Flow::Stopping(end);
        self.was_stopped = true;
        // A machine that has left runs nothing that could be stopped.
        for item in self.tasks.iter_mut().flat_map(|task| &mut task.items) {
            if item.at == At::Left {
                item.at = At::Over(End::Cancelled);
            }
        }
    }
}

pub(crate) fn failures(ends: &[End]) -> usize {
    let failed = |end: &&End| matches!(end, End::Failed | End::Timeout);
    ends.iter().filter(failed).count()
}

trait Clock {
    fn delayed(self, delay: u64) -> At;
}

impl Clock for u64 {
    fn delayed(self, delay: u64) -> At {
        match delay {
            0 => At::Ready,
            delay => At::Delayed { due: self + delay },
        }
    }
}

impl super::plan::Each {
    /// Failed items that are borne.
    pub(crate) fn borne(&self, items: usize) -> Option<usize> {
        self.budget.map(|budget| match budget {
            Budget::Count(count) => count as usize,
            Budget::Percent(percent) => (items * percent as usize).div_ceil(100),
        })
    }
}

impl Again {
    /// The delay before a try, if there is to be one after this failure.
    fn before_try(&self, how: Outcome, number: u32) -> Option<u64> {
        let names: &[&str] = match how {
            Outcome::Failed => &["failed", "Other"],
            Outcome::Special => &["failed", "Special"],
            Outcome::Lost => &["lost"],
            Outcome::TimedOut => &["timeout"],
            Outcome::Succeeded => &[],
        };
        let wanted = self.on.is_empty() || self.on.iter().any(|on| names.contains(on));
        if !wanted || number > self.attempts {
            return None;
        }
        let mut delay = self.delay;
        for _ in 2..number {
            delay = if self.doubles { delay * 2 } else { delay };
        }
        Some(if self.longest > 0 {
            delay.min(self.longest)
        } else {
            delay
        })
    }
}
