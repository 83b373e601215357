//! What is wrong with how tasks follow each other: `needs`, `recovers`, circles and `goto`.

use super::check_tasks;

#[test]
fn needs_and_recovers_must_name_tasks() {
    check_tasks(
        "- {name: build, wait: 1}\n- {name: test, wait: 1, needs: [bild, test, build, build]}\n- {name: x, wait: 1, needs: [zzz]}\n",
        &[
            "5, 33: task \"test\" needs \"bild\", which is no task; did you mean \"build\"?",
            "5, 39: task \"test\" needs itself: take it out",
            "5, 52: task \"test\" needs \"build\" twice: take one out",
            "6, 30: task \"x\" needs \"zzz\", which is no task: the tasks are \"build\", \"test\", \"x\"",
        ],
    );
    check_tasks(
        "- {name: a, wait: 1}\n- {name: b, wait: 1, needs: [], when: failure(), recovers: [a, b, d]}\n- {name: c, wait: 1}\n",
        &[
            "5, 61: task \"b\" recovers \"a\", but does not come after it: add it to its needs",
            "5, 64: task \"b\" recovers itself: take it out",
            "5, 67: task \"b\" recovers \"d\", which is no task; did you mean \"a\"?",
        ],
    );
    check_tasks(
        "- {name: a, wait: 1}\n- {name: b, wait: 1, recovers: a}\n- {name: c, wait: 1, when: '1 < 2', recovers: [a]}\n",
        &[
            "5, 32: task \"b\" recovers \"a\", but is skipped when that fails: write when: failure(), or always()",
            "6, 48: task \"c\" recovers \"a\", but is skipped when that fails: write when: failure(), or always()",
        ],
    );
    let many: String = (0..13)
        .map(|n| format!("- {{name: task{n:02}, wait: 1}}\n"))
        .collect();
    check_tasks(
        &format!("{many}- {{name: last, wait: 1, needs: xyz}}"),
        &["17, 32: task \"last\" needs \"xyz\", which is no task: write the name of one"],
    );
}

#[test]
fn circles_are_named() {
    check_tasks(
        "- {name: a, wait: 1, needs: [c]}\n- {name: b, wait: 1}\n- {name: c, wait: 1, needs: [b]}\n- {name: d, wait: 1, needs: [e]}\n\
         - {name: e, wait: 1}\n- {name: f, wait: 1, needs: []}\n",
        &[
            "4, 10: tasks wait for each other in a circle: \"a\" needs \"c\", \"c\" needs \"b\", \"b\" needs \"a\" (the task before it): take one of these needs out",
            "7, 10: tasks wait for each other in a circle: \"d\" needs \"e\", \"e\" needs \"d\" (the task before it): take one of these needs out",
        ],
    );
}

#[test]
fn bad_gotos() {
    let goto = |goto: &str| format!("- {{name: a, wait: 1}}\n- {{name: b, wait: 1, goto: {goto}}}\n");
    for (text, messages) in [
        (
            goto("{}"),
            vec![
                "5, 28: goto has no when: write the condition for going back",
                "5, 28: goto has no max: write how often it may go back",
                "5, 28: goto has no task: write the name of the task to go back to",
            ],
        ),
        (
            goto("{when: 'true', task: a, max: 0}"),
            vec!["5, 57: max \"0\" is no whole number from 1 to 10000"],
        ),
        (
            goto("{when: 'true', task: c, max: 1}"),
            vec!["5, 49: goto \"c\" is no task; did you mean \"a\"?"],
        ),
        (
            goto("{when: '', task: a, max: 1}"),
            vec!["5, 35: when is empty: write a CEL expression"],
        ),
    ] {
        check_tasks(&text, &messages);
    }
}

#[test]
fn goto_stays_on_its_branch() {
    let goto = "goto: {when: 'true', task: TO, max: 1}";
    for (tasks, message) in [
        // Forward, and to another branch.
        (
            "- {name: a, wait: 1, GOTO(b)}\n- {name: b, wait: 1}\n",
            "4, 49: task \"a\" cannot go to \"b\": it goes back only to a task that it needs, directly or not",
        ),
        (
            "- {name: a, wait: 1}\n- {name: b, wait: 1, needs: [], GOTO(a)}\n",
            "5, 60: task \"b\" cannot go to \"a\": it goes back only to a task that it needs, directly or not",
        ),
        // Out of a branch, to before the fork.
        (
            "- {name: fork, wait: 1}\n- {name: a, wait: 1, GOTO(fork)}\n- {name: b, wait: 1, needs: [fork]}\n",
            "5, 49: task \"a\" cannot go back to \"fork\": \"b\" needs that too, and is on another branch",
        ),
        // Into a branch, from behind the join.
        (
            "- {name: a, wait: 1}\n- {name: b, wait: 1, needs: []}\n- {name: join, wait: 1, needs: [a, b], GOTO(a)}\n",
            "6, 67: task \"join\" cannot go back to \"a\": \"join\" on the way needs \"b\", which is on another branch",
        ),
        // Into a rollout.
        (
            "- {name: a, wait: 1, forEach: '[1]'}\n- {name: b, wait: 1, GOTO(a)}\n",
            "5, 49: task \"b\" cannot go back to \"a\", which has a forEach: go back to a task before it",
        ),
    ] {
        let text = tasks.replace("GOTO(", "GOTO").replace(")}", "}");
        let text = ["fork", "a", "b"].iter().fold(text, |text, to| {
            text.replace(&format!("GOTO{to}}}"), &format!("{}}}", goto.replace("TO", to)))
        });
        check_tasks(&text, &[message]);
    }
}
