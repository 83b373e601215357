//! An action that a containerd of the machine runs: its lines are passed on, it is asked to end and made to.

use container::{Ended, Plan};
use containerd::{Containerd, Error, Image, StartError, Task};

use super::lines::Lines;
use super::process::Printed;
use super::{Failure, Feed, Halt};

/// An action that has ended, and is to be removed.
pub(super) struct Ran {
    /// `None`: it never ran, and nothing of it is left.
    task: Option<Task>,
    printed: Result<Printed, Failure>,
    status: Option<Ended>,
}

/// Runs it until its first process has ended.
pub(super) async fn start(
    containerd: &Containerd,
    image: &Image,
    plan: &Plan,
    name: &str,
    feed: &Feed,
    halt: &Halt,
) -> Ran {
    let nothing = |printed| Ran {
        task: None,
        printed,
        status: None,
    };
    if halt.is_asked() {
        return nothing(Err(Failure::stopped()));
    }
    let (task, output) = match containerd.start(image, plan, name).await {
        Ok(started) => started,
        Err(StartError::NotStarted { code, message }) => {
            return Ran {
                status: Some(Ended::NotStarted { code, message }),
                ..nothing(Ok(Printed::of(Default::default())))
            };
        }
        Err(StartError::Containerd(e)) => return nothing(Err(failed(&e))),
    };
    let mut lines = Lines::of([output.stdout, output.stderr], feed);
    let ended = {
        let ended = end(&task, plan, halt);
        tokio::pin!(ended);
        // The output may end before the action does; halting goes on then.
        tokio::select! {
            ended = &mut ended => ended,
            () = lines.pass_on() => ended.await,
        }
    };
    let printed = lines.end().await;
    let (printed, status) = match ended {
        Ok(_) if halt.is_asked() => (Err(Failure::stopped()), None),
        Ok(status) => (Ok(printed), status),
        Err(e) => (Err(failed(&e)), None),
    };
    Ran {
        task: Some(task),
        printed,
        status,
    }
}

/// Waits for its end; when halted, asks it to end and then makes it.
async fn end(task: &Task, plan: &Plan, halt: &Halt) -> Result<Option<Ended>, Error> {
    let waited = task.wait();
    tokio::pin!(waited);
    tokio::select! {
        ended = &mut waited => return ended,
        () = halt.asked() => {}
    }
    // A containerd that is away hears it when its grace is over, or the action goes with its group.
    let _ = task.signal(plan.stop_signal).await;
    tokio::select! {
        ended = &mut waited => return ended,
        () = halt.grace_over() => {}
    }
    task.force().await?;
    waited.await
}

impl Ran {
    /// Removes all of it. What it printed, and how it ended; `None` where nobody knows.
    pub(super) async fn remove(self, feed: &Feed) -> (Result<Printed, Failure>, Option<Ended>) {
        if let Some(task) = &self.task
            && let Err(e) = task.remove().await
        {
            feed.line(format!(
                "farrier: containerd keeps something of this action until this agent is started again: {e}"
            ))
            .await;
        }
        (self.printed, self.status)
    }
}

fn failed(e: &Error) -> Failure {
    let reason = match e {
        Error::Away { .. } | Error::Silent { .. } => "ContainerdAway",
        Error::Full { .. } | Error::Refused { .. } => "StartFailed",
    };
    Failure::new(reason, e.to_string())
}
