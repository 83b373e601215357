//! A webhook's messages over time.

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;
/// In the middle: neither more nor less.
const EVEN: u64 = 200;

fn token(revision: u64) -> ResumeToken {
    revision.to_string().parse().unwrap()
}

fn wanted(number: u64, at: UnixMillis) -> Wanted {
    Wanted {
        id: format!("evt_{number}"),
        kind: "workflow.ended".into(),
        workflow: "w".into(),
        event: number,
        at,
        token: token(number),
    }
}

fn status(code: u16) -> Answer {
    Answer::Status { code, after_ms: None }
}

fn no_answer() -> Answer {
    Answer::None {
        why: "it does not answer".into(),
    }
}

#[test]
fn what_is_taken_is_sent_once_and_the_next_one_is_looked_for() {
    let mut progress = Progress::begin(token(0));
    assert_eq!(progress.next(0), Next::Look(token(0)));
    progress.passed(token(3));
    assert_eq!(progress.next(0), Next::Look(token(3)));
    let (number, pending) = progress.found(wanted(7, 10), 10);
    assert_eq!((number, pending.state), (1, DeliveryState::Pending));
    assert_eq!(progress.next(10), Next::Send);
    // The place is behind it only when it is taken.
    assert_eq!(progress.token, token(3));
    let (number, done) = progress.answered(status(204), 11, EVEN).unwrap();
    assert_eq!(
        (number, done.state, done.tries, done.status),
        (1, DeliveryState::Delivered, 1, Some(204))
    );
    assert_eq!(progress.next(11), Next::Look(token(7)));
    assert_eq!(progress.answered(status(204), 12, EVEN), None);
    assert_eq!(progress.found(wanted(9, 12), 12).0, 2);
}

#[test]
fn pauses_double_up_to_ten_minutes_and_end_with_a_success() {
    let mut progress = Progress::begin(token(0));
    let mut now = 1_000_000;
    progress.found(wanted(1, now), now);
    let mut pauses = Vec::new();
    for n in 0..13 {
        let (answer, code) = if n % 2 == 0 {
            (status(500), Some(500))
        } else {
            (no_answer(), None)
        };
        let (_, listed) = progress.answered(answer, now, EVEN).unwrap();
        assert_eq!(
            (listed.state, listed.tries, listed.status),
            (DeliveryState::Pending, n + 1, code)
        );
        assert!(!listed.message.is_empty());
        let Next::Wait(until) = progress.next(now) else {
            panic!("it does not wait");
        };
        pauses.push((until - now) / 1_000);
        assert_eq!(progress.next(until), Next::Send);
        now = until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
    let (_, done) = progress.answered(status(200), now, EVEN).unwrap();
    assert_eq!(
        (done.state, done.tries, done.message.as_str()),
        (DeliveryState::Delivered, 14, "")
    );
    progress.found(wanted(2, now), now);
    assert_eq!(progress.next(now), Next::Send);
    for (chance, want) in [
        (0, 800),
        (400, 1_200),
        (401, 800),
        (u64::MAX, pause_ms(1, u64::MAX)),
    ] {
        assert_eq!(pause_ms(1, chance), want);
        assert!((800..=1_200).contains(&want));
    }
    assert!(pause_ms(u32::MAX, 400) <= 720_000);
}

#[test]
fn a_receiver_may_ask_for_time_but_not_for_ever() {
    for (asked, want) in [(30_000, 30_000), (100, 1_000), (DAY_MS, LONGEST_ASKED_MS)] {
        let mut progress = Progress::begin(token(0));
        progress.found(wanted(1, 0), 0);
        let answer = Answer::Status {
            code: 429,
            after_ms: Some(asked),
        };
        progress.answered(answer, 0, EVEN);
        assert_eq!(progress.next(0), Next::Wait(want));
    }
}

#[test]
fn gone_is_the_end() {
    let mut progress = Progress::begin(token(0));
    progress.found(wanted(1, 0), 0);
    let (_, listed) = progress.answered(status(410), 5, EVEN).unwrap();
    assert_eq!((listed.state, listed.status), (DeliveryState::Pending, Some(410)));
    assert_eq!(progress.next(DAY_MS), Next::Stop);
    assert!(progress.stopped.unwrap().why.contains("410"));
}

#[test]
fn redirects_are_not_followed_and_it_is_said() {
    let mut progress = Progress::begin(token(0));
    progress.found(wanted(1, 0), 0);
    let (_, listed) = progress.answered(status(302), 5, EVEN).unwrap();
    assert!(
        listed.message.contains("redirects are not followed"),
        "{}",
        listed.message
    );
}

/// Dead for five days: what is older than three is given up, at once and not one every ten minutes; the rest is delivered, in its order.
#[test]
fn what_is_too_old_is_given_up_while_nothing_is_taken() {
    let mut progress = Progress::begin(token(0));
    progress.found(wanted(1, 0), 0);
    let mut now = 0;
    let mut tries = 0;
    let given_up = loop {
        tries += 1;
        let (_, listed) = progress.answered(no_answer(), now, EVEN).unwrap();
        if listed.state != DeliveryState::Pending {
            break listed;
        }
        let Next::Wait(until) = progress.next(now) else {
            panic!("it does not wait");
        };
        now = until;
    };
    assert_eq!(given_up.state, DeliveryState::GivenUp);
    assert!((3 * DAY_MS..3 * DAY_MS + 700_000).contains(&now), "{now}");
    assert!((430..450).contains(&tries), "{tries} tries");
    assert_eq!(progress.next(now), Next::Look(token(1)));
    now = 5 * DAY_MS;
    for number in 2..1_000 {
        let (_, listed) = progress.found(wanted(number, DAY_MS), now);
        assert_eq!((listed.state, listed.tries), (DeliveryState::GivenUp, 0));
        assert_eq!(progress.next(now), Next::Look(token(number)));
    }
    // Not so old; and the pause of before still counts.
    progress.due = now + 1;
    progress.found(wanted(1_000, 4 * DAY_MS), now);
    assert_eq!(progress.next(now), Next::Wait(now + 1));
    progress.answered(status(200), now + 1, EVEN);
    // Old ones are sent to a receiver that takes them.
    progress.found(wanted(1_001, 0), now);
    assert_eq!(progress.next(now), Next::Send);
}

#[test]
fn what_is_not_kept_any_more_is_listed_as_lost() {
    let mut progress = Progress::begin(token(0));
    let (number, lost) = progress.lost(token(50), 9);
    assert_eq!((number, lost.state), (1, DeliveryState::Lost));
    assert_eq!(progress.next(9), Next::Look(token(50)));
    assert_eq!(progress.found(wanted(51, 9), 9).0, 2);
}

#[test]
fn what_is_kept_is_what_it_was() {
    let mut progress = Progress::begin(token(0));
    progress.found(wanted(1, 0), 0);
    progress.answered(status(500), 0, EVEN);
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
}
