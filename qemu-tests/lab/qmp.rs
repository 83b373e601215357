//! QEMU's control channel (QEMU Machine Protocol, docs/interop/qmp-spec.rst): commands and events as JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::lab::process::Guarded;
use crate::lab::wait::{Look, wait_until};

/// A connection in command mode.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    replies: Receiver<Value>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects to QEMU's socket, which may take an instant to appear, and leaves negotiation mode.
    ///
    /// # Errors
    /// When there is no socket within ten seconds, or something else answers.
    pub fn connect(socket: &Path, qemu: &mut Guarded) -> anyhow::Result<Qmp> {
        let stream = wait_until("QEMU's control socket", Duration::from_secs(10), || {
            match (UnixStream::connect(socket), qemu.ended()) {
                (Ok(stream), _) => Look::Done(stream),
                (Err(_), Some(status)) => Look::never(format!("QEMU ended with {status}")),
                (Err(error), None) => Look::not_yet(error),
            }
        })?;
        let mut qmp = Qmp::over(stream)?;
        let greeting = qmp.receive().context("waiting for QEMU's greeting")?;
        if greeting.get("QMP").is_none() {
            bail!("{} does not speak QMP: {greeting}", socket.display());
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn over(stream: UnixStream) -> anyhow::Result<Qmp> {
        let lines = BufReader::new(stream.try_clone()?).lines();
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            let values = lines
                .map_while(Result::ok)
                .filter_map(|line| serde_json::from_str(&line).ok());
            for value in values {
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Qmp {
            stream,
            replies,
            events: Vec::new(),
        })
    }

    /// Runs a command and gives what it returns.
    ///
    /// # Errors
    /// When QEMU refuses it, is gone, or does not answer within ten seconds.
    pub fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        writeln!(
            self.stream,
            "{}",
            json!({ "execute": command, "arguments": arguments })
        )
        .with_context(|| format!("sending {command} to QEMU"))?;
        loop {
            let mut reply = self
                .receive()
                .with_context(|| format!("waiting for the answer to {command}"))?;
            if reply.get("event").is_some() {
                self.events.push(reply);
            } else if let Some(error) = reply.get("error") {
                bail!("QEMU refused {command}: {error}");
            } else {
                return Ok(reply.get_mut("return").map(Value::take).unwrap_or_default());
            }
        }
    }

    /// The machine's run state: "running", "paused", "shutdown" …
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn status(&mut self) -> anyhow::Result<String> {
        let status = self.execute("query-status", json!({}))?;
        Ok(status
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or("unknown")
            .to_owned())
    }

    /// The names of the events since the last call: "RESET", "SHUTDOWN", "POWERDOWN" …
    pub fn events(&mut self) -> Vec<String> {
        self.events.extend(
            self.replies
                .try_iter()
                .filter(|value| value.get("event").is_some()),
        );
        self.events
            .drain(..)
            .filter_map(|event| Some(event.get("event")?.as_str()?.to_owned()))
            .collect()
    }

    fn receive(&self) -> anyhow::Result<Value> {
        self.replies
            .recv_timeout(Duration::from_secs(10))
            .context("QEMU says nothing on its control socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_between_a_command_and_its_answer_are_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut qmp = Qmp::over(ours).unwrap();
        let mut peer = theirs.try_clone().unwrap();
        peer.write_all(concat!(r#"{"event":"RESET","data":{"guest":true}}"#, "\n").as_bytes())
            .unwrap();
        peer.write_all(concat!(r#"{"return":{"status":"running","running":true}}"#, "\n").as_bytes())
            .unwrap();
        assert_eq!(qmp.status().unwrap(), "running");
        assert_eq!(qmp.events(), ["RESET"]);
        let mut sent = String::new();
        BufReader::new(theirs).read_line(&mut sent).unwrap();
        assert!(sent.contains(r#""execute":"query-status""#), "{sent}");
    }

    #[test]
    fn a_refused_command_is_an_error_with_qemus_words() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut qmp = Qmp::over(ours).unwrap();
        theirs
            .write_all(
                concat!(
                    r#"{"error":{"class":"CommandNotFound","desc":"The command foo has not been found"}}"#,
                    "\n"
                )
                .as_bytes(),
            )
            .unwrap();
        assert!(
            qmp.execute("foo", json!({}))
                .unwrap_err()
                .to_string()
                .contains("has not been found")
        );
    }
}
