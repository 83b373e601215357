//! The engine against a model of the language's meaning that was written from its description alone and shares nothing
//! with it: random definitions, and random things that happen to them. After each the two have to agree on what is ready
//! for which machine, what is under way, who is asked, what is due when, how tasks and the workflow ended, and how often
//! each action was handed out. Tasks ask for machines and are answered or not; what did not succeed is retried by a person.
//!
//! Tasks may be sub-workflows, and those of these. What a workflow and its sub-workflow tell each other arrives some time
//! later, in its order: the two have to agree on what is under way, too. What the engine tells machines may come late as well;
//! the model knows nothing of that, and is compared with a machine when that has been told all.

mod choices;
mod compare;
mod definition;
mod driver;
mod model;
mod outbox;
mod plan;
mod play;
mod random;

use proptest::prelude::*;
use workflow::engine::Command;

use choices::Choice;
use driver::Driver;
use model::{End, Family, Flow, ROOT};
use plan::Plan;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_means_what_the_model_means(
        plan in random::plans(),
        late in prop::option::of(any::<u32>()),
        script in prop::collection::vec(any::<u32>(), 0..120),
        then in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..40), 0..3),
    ) {
        run(&plan, late.unwrap_or(0), &script, &then);
    }
}

/// `PROPTEST_CASES`, or enough for every day.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Plays a script, and then whatever comes first until the workflow is over; and where that did not succeed, a person has
/// it done again, with the next script.
fn run(plan: &Plan, late: u32, script: &[u32], then: &[Vec<u32>]) {
    let mut both = Both {
        family: Family::new(plan),
        driver: Driver::new(plan, late),
        history: Vec::new(),
    };
    both.compare();
    both.play_to_the_end(script);
    for script in then {
        if both.family.root().flow == Flow::Over(End::Success) {
            break;
        }
        // All of it, or one thing.
        let things = both.family.root().retriable();
        match script.first() {
            Some(&number) if number % 3 == 0 && !things.is_empty() => {
                let (task, item) = things[number as usize / 3 % things.len()];
                both.play(Choice::RetryOne(0, task, item));
            }
            _ => {
                let by = "somebody".to_owned();
                both.driver
                    .tell(ROOT, &Command::Retry { by })
                    .expect("it is tried again");
                both.family.models[0].retried();
                both.family.collect();
                both.history.push(Choice::Retry);
                both.compare();
            }
        }
        both.play_to_the_end(script);
    }
}

/// The model and the engine.
struct Both {
    family: Family,
    driver: Driver,
    history: Vec<Choice>,
}

impl Both {
    fn play_to_the_end(&mut self, script: &[u32]) {
        for &number in script {
            if self.family.root().is_over() {
                break;
            }
            let choices = self.choices(true);
            let choice = choices[number as usize % choices.len()];
            self.play(choice);
        }
        // Now everything goes well, and it has to come to an end.
        for _ in 0..2_000 {
            if self.family.root().is_over() {
                break;
            }
            let choices = self.choices(false);
            let Some(choice) = choices.first() else {
                panic!("it stands still {}", self.told());
            };
            self.play(*choice);
        }
        assert!(self.family.root().is_over(), "it does not end {}", self.told());
        // Nothing of it comes too late for the next run.
        while self.driver.is_behind_any() {
            self.play(Choice::Carry(0));
        }
        self.compare_end();
    }
}
