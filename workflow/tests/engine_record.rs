//! What is recorded of a workflow beside its state: who meddled and why, what it was made from, its stamps.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, two_tasks};
use workflow::engine::{self, Command, Creation, MadeFrom, Now, Stamp, decide_within};

fn recorded(script: &Script) -> [String; 3] {
    let head = &script.state().head;
    [&head.paused, &head.resumed, &head.cancelled].map(|asked| match asked {
        Some(asked) => format!("{} at {}: {}", asked.by, asked.at, asked.reason),
        None => String::new(),
    })
}

fn cancel(by: &str) -> Command {
    Command::Cancel {
        by: by.into(),
        reason: "wrong image".into(),
    }
}

#[test]
fn who_paused_resumed_and_cancelled_it_and_why_is_of_the_run() {
    let mut script = Script::new(two_tasks());
    assert_eq!(recorded(&script), ["", "", ""]);
    script.run("pause");
    assert_eq!(recorded(&script), ["ann at 2000: lunch", "", ""]);
    script.now = 3_000;
    script.run("unpause");
    assert_eq!(recorded(&script), ["ann at 2000: lunch", "ann at 3000: ", ""]);
    assert_eq!(script.state().head.paused_at, None);
    script.now = 4_000;
    script.decide(&cancel("bob")).unwrap();
    assert_eq!(recorded(&script)[2], "bob at 4000: wrong image");
    script.run("retry");
    assert_eq!(recorded(&script), ["", "", ""]);
    // Of a parent's wish nobody is named.
    script.decide(&cancel("")).unwrap();
    assert_eq!(recorded(&script), ["", "", ""]);
    assert_eq!(script.state().head.message, "wrong image");
}

#[test]
fn what_it_was_made_from_stays() {
    let made_from = MadeFrom {
        id: "id-1".into(),
        version: 3,
        sha256: "abc".into(),
    };
    let mut script = Script::made(Creation {
        made_from: Some(made_from.clone()),
        ..creation(two_tasks())
    });
    script.run("cancel; retry");
    assert_eq!(script.state().head.made_from.as_deref(), Some(&made_from));
    assert_eq!(
        engine::replay(&script.events).unwrap().head.made_from.as_deref(),
        Some(&made_from)
    );
}

#[test]
fn stamps_are_above_what_was_read_whatever_the_clock_says() {
    let read = Stamp { at: 9_000, tick: 7 };
    let now = |at| Now {
        after: Some(read),
        ..Now::from(at)
    };
    let stamps = |decision: engine::Decision| {
        let all: Vec<(u64, u32)> = decision
            .events
            .iter()
            .map(|event| (event.at, event.tick))
            .collect();
        assert_eq!(
            decision.workflow.head.stamp(),
            decision.events.last().unwrap().stamp()
        );
        all
    };
    let create = Command::Create(Box::new(creation(two_tasks())));
    let made = decide_within(None, &create, now(1_000), 96).unwrap();
    assert_eq!(stamps(made), [(9_000, 8), (9_000, 9), (9_000, 10)]);
    let made = decide_within(None, &create, now(9_001), 96).unwrap();
    assert_eq!(stamps(made), [(9_001, 0), (9_001, 1), (9_001, 2)]);
    let script = Script::new(two_tasks());
    let cancelled = decide_within(Some(script.state()), &cancel("bob"), now(2_000), 96).unwrap();
    assert_eq!(stamps(cancelled)[0], (9_000, 8));
}
