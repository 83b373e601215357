//! Secrets that are named and not there: told before, refused, or the end of an attempt that was never begun.

use coordinator::database::Batch;
use coordinator::machines::{self, Applied, File};
use coordinator::making::{Identity, Source, make};
use coordinator::secrets::{self, Key};
use coordinator::{Answer, Error, Input, Orders, templates};
use workflow::engine::{StepState, WorkflowState};
use workflow::language::ImagePolicy;

use crate::harness::*;

const LOGIN: &str = r#"
version: "1"
name: login
tasks:
  - name: only
    worker: m1
    actions:
      - {name: login, image: cexec, environment: {PW: "${{ secrets.PW }}"}, retry: {attempts: 2}}
"#;

impl Server {
    fn commit(&self, batch: Batch) {
        self.store.commit(&batch.into_commit()).expect("commit");
    }

    fn set_secret(&self, name: &str) {
        let key = Key::new(&[1; secrets::KEY_BYTES]);
        let put = secrets::put(
            &self.view(),
            &home(),
            &key,
            (name, "value"),
            [0; secrets::NONCE_BYTES],
            "",
            1,
        );
        self.commit(put.expect("a secret").1);
    }

    fn apply(&self, record: &str) -> Result<Applied, Error> {
        let file = File {
            text: record.into(),
            source: "m.yaml".into(),
            ..File::default()
        };
        machines::apply(&self.view(), &home(), &file, &[], 1)
    }
}

fn offered() -> templates::Offered {
    templates::Offered {
        name: String::new(),
        text: LOGIN.into(),
        ..templates::Offered::default()
    }
}

const RECORD: &str = "machine: m1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

#[test]
fn a_template_that_names_no_secret_that_there_is_is_told_so_and_makes_no_workflow() {
    let server = Server::new(limits());
    let put =
        |server: &Server| templates::put(&server.view(), &home(), &offered(), "id", 1).expect("a template");
    assert_eq!(
        put(&server).warnings,
        [
            "line 8, column 56: there is no secret PW: set it with `farrier secret set PW`\n    |       - {name: login, image: cexec, \
          environment: {PW: \"${{ secrets.PW }}\"}, retry: {attempts: 2}}"
        ]
    );
    for step in server.apply(RECORD).expect("a machine").steps {
        server.commit(step);
    }
    let make = |server: &Server| {
        let source = Source {
            text: LOGIN.replace("m1", "52:54:00:77:00:0b"),
            ..Source::default()
        };
        let identity = Identity {
            id: "w".into(),
            by: String::new(),
            parent: None,
            idempotency_key: String::new(),
        };
        make(&server.view(), &home(), &ImagePolicy::default(), source, identity)
            .map(|(_, text)| text.warnings)
    };
    let Err(Error::NotFound(said)) = make(&server) else {
        panic!("a workflow was made")
    };
    assert!(
        said.starts_with("rendered line 8, column 56: there is no secret PW: set it"),
        "{said}"
    );
    server.set_secret("PW");
    assert_eq!(make(&server).expect("a workflow"), Vec::<String>::new());
    assert_eq!(put(&server).warnings, Vec::<String>::new());
}

#[test]
fn a_device_is_no_way_to_a_secret() {
    let server = Server::new(limits());
    let devices = [("device_1".to_owned(), "a ${{ secrets.PW }}".to_owned())].into();
    let source = Source {
        text: LOGIN.into(),
        devices,
        ..Source::default()
    };
    let rendered = coordinator::making::rendering(&server.view(), &home(), &ImagePolicy::default(), source);
    assert!(matches!(rendered, Err(Error::Invalid(said)) if said.contains("\"device_1\" holds ${{")));
}

#[test]
fn a_record_has_secrets_where_templates_see_them_only() {
    let server = Server::new(limits());
    let with = |more: &str| server.apply(&format!("{RECORD}{more}"));
    let applied = with("user_data: \"password: ${{ secrets.PW }}\"\n").expect("a record");
    let told: Vec<String> = applied.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "m.yaml:1:1: machine \"m1\" names the secret PW, and there is none: set it with `farrier secret set PW`"
        ]
    );
    server.set_secret("PW");
    assert!(
        with("user_data: \"password: ${{ secrets.PW }}\"\n")
            .expect("a record")
            .warnings
            .is_empty()
    );
    let said = with("labels: {password: \"${{ secrets.PW }}\"}\n")
        .unwrap_err()
        .to_string();
    assert!(said.contains("in a field that the server itself uses"), "{said}");
}

/// The agent was told nothing: the attempt is over, what comes next comes, and nothing is left of it.
#[test]
fn an_attempt_that_cannot_be_handed_out_fails_as_any_other() {
    let mut server = Server::new(limits());
    let id = server.create(LOGIN);
    let epoch = server.attach("m1", "k1").epoch;
    for (number, is_last) in [(1, false), (2, true)] {
        let attempt = server.run("m1");
        assert_eq!(attempt.attempt, number);
        let withheld = Input::Withheld {
            machine: "m1".into(),
            epoch,
            attempt: attempt.clone(),
            reason: "SecretMissing".into(),
            message: "there is no secret PW".into(),
        };
        let Answer::Machine(assignment) = server.step(withheld.clone()) else {
            panic!("no orders")
        };
        let orders = assignment.orders;
        assert_eq!(matches!(orders, Orders::Wait), is_last, "{orders:?}");
        let execution = server
            .workflow(&id)
            .executions_of(0)
            .next()
            .cloned()
            .expect("an execution");
        assert_eq!(execution.actions[0].attempts, 2);
        // Told twice it is one end.
        server.step(withheld);
        server.crash();
    }
    let workflow = server.workflow(&id);
    assert_eq!(workflow.head.tasks[0].state, StepState::Failed);
    assert_eq!(workflow.head.state, WorkflowState::Failed);
    assert_eq!(
        workflow.head.message,
        "action \"login\" of task \"only\" failed (SecretMissing): there is no secret PW"
    );
    assert!(server.machine("m1").current.is_none() && server.keys("open/").is_empty());
}

#[test]
fn a_stale_session_withholds_nothing() {
    let mut server = Server::new(limits());
    server.create(LOGIN);
    let epoch = server.attach("m1", "k1").epoch;
    let attempt = server.run("m1");
    server.attach("m1", "k1");
    let answer = server.step(Input::Withheld {
        machine: "m1".into(),
        epoch,
        attempt: attempt.clone(),
        reason: "SecretMissing".into(),
        message: String::new(),
    });
    assert!(matches!(answer, Answer::Stale), "{answer:?}");
    assert_eq!(server.run("m1"), attempt);
}
