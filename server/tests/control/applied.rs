//! What applying comes to: several files as one, what is unchanged, what would change, and what somebody else changed meanwhile.

use proto::v1::{
    ApplyMachinesRequest, ApplyMachinesResponse, GetMachineRequest, GetTemplateRequest, Machine, MachineFile,
    PutTemplateRequest,
};
use server::Config;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::*;

async fn empty() -> (Server, TempDir) {
    let dir = TempDir::new().expect("directory");
    (Server::start(&dir, Config::default()).await, dir)
}

fn files(files: &[(&str, &str)]) -> ApplyMachinesRequest {
    let file = |(source, yaml): &(&str, &str)| MachineFile {
        yaml: (*yaml).to_owned(),
        source: (*source).to_owned(),
    };
    ApplyMachinesRequest {
        files: files.iter().map(file).collect(),
        ..ApplyMachinesRequest::default()
    }
}

async fn apply(server: &Server, request: ApplyMachinesRequest) -> Result<ApplyMachinesResponse, Status> {
    let answer = server.client().await.apply_machines(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn machine(server: &Server, name: &str) -> Result<Machine, Status> {
    let request = GetMachineRequest {
        name_or_mac: name.into(),
    };
    let answer = server.client().await.get_machine(request).await;
    answer.map(tonic::Response::into_inner)
}

const A: &str = "machine: a\nmac: 52:54:00:77:00:0a\nlabels: {rack: r7}\n";
const B: &str = "machine: b\nmac: 52:54:00:77:00:0b\n";

#[tokio::test(flavor = "multi_thread")]
async fn files_are_applied_together_or_not_at_all() {
    let (server, _dir) = empty().await;
    let bad = B.replace("00:0b", "00:zz");
    let again = format!("# first\n{}", A.replace("machine: a", "machine: c"));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: tink}\n";
    for (given, want) in [
        (
            [("a.yaml", A), ("b.yaml", bad.as_str())],
            "b.yaml:2:6: bad MAC \"52:54:00:77:00:zz\"",
        ),
        // What must be once is looked for in all of them.
        (
            [("a.yaml", A), ("c.yaml", again.as_str())],
            "c.yaml:3:6: MAC 52:54:00:77:00:0a is given twice: first in a.yaml, line 2 for machine \"a\"",
        ),
        (
            [("a.yaml", A), ("d.yaml", "# nothing\n")],
            "d.yaml:1:1: the file holds no machine",
        ),
        (
            [("n.yaml", namespace), ("m.yaml", namespace)],
            "n.yaml:1:1: the files hold no machine, only Namespace \"tink\", Namespace \"tink\"",
        ),
    ] {
        let status = apply(&server, files(&given)).await.expect_err(want);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(want), "{}", status.message());
        assert_eq!(status.message().lines().count(), 1, "{}", status.message());
        assert_eq!(
            machine(&server, "a").await.expect_err("none").code(),
            Code::NotFound
        );
    }
    // What is no machine may be a file of its own.
    let applied = apply(
        &server,
        files(&[("n.yaml", namespace), ("b.yaml", B), ("a.yaml", A)]),
    )
    .await;
    let applied = applied.expect("applied");
    assert_eq!(applied.created, ["b", "a"]);
    assert_eq!(
        applied.warnings,
        ["n.yaml:1:1: Namespace \"tink\" is no machine, and is passed over"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_so_already_is_unchanged_and_nothing_is_written() {
    let (server, _dir) = empty().await;
    apply(&server, files(&[("a", A), ("b", B)]))
        .await
        .expect("applied");
    let before = machine(&server, "a").await.expect("there").version;
    assert!(before > 0);
    let other = B.replace("machine: b", "machine: b\nnetboot: agent");
    let applied = apply(&server, files(&[("a", A), ("b", &other)]))
        .await
        .expect("applied");
    assert_eq!(
        (applied.created, applied.updated, applied.unchanged),
        (vec![], vec!["b".to_owned()], vec!["a".to_owned()])
    );
    assert_eq!(machine(&server, "a").await.expect("there").version, before);
    assert_ne!(machine(&server, "b").await.expect("there").version, before);
    // The order of fields is no change.
    let turned = "labels: {rack: r7}\nmac: 52:54:00:77:00:0a\nmachine: a\n";
    let applied = apply(&server, files(&[("a", turned)])).await.expect("applied");
    assert_eq!(applied.unchanged, ["a"]);

    let put = |text: &str, dry_run: bool| PutTemplateRequest {
        text: text.into(),
        dry_run,
        ..PutTemplateRequest::default()
    };
    let mut client = server.client().await;
    let text = "version: '1'\nname: t\ntasks: [{name: go, succeed: {}}]\n";
    let again = text.replace("go", "stop");
    for (request, change, version, previous) in [
        (put(text, true), "created", 1, ""),
        (put(text, false), "created", 1, ""),
        (put(text, false), "unchanged", 1, ""),
        (put(&again, true), "updated", 2, text),
        (put(&again, false), "updated", 2, ""),
        (put(&again, true), "unchanged", 2, again.as_str()),
    ] {
        let stored = client.put_template(request).await.expect("stored").into_inner();
        assert_eq!(
            (
                stored.change.as_str(),
                stored.version,
                stored.previous_text.as_str()
            ),
            (change, version, previous)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_change_and_writes_nothing() {
    let (server, _dir) = empty().await;
    let dry = |given: &[(&str, &str)]| ApplyMachinesRequest {
        dry_run: true,
        ..files(given)
    };
    apply(&server, files(&[("a", A)])).await.expect("applied");
    let other = A.replace("r7", "r8");
    let tried = apply(&server, dry(&[("a", &other), ("b", B)]))
        .await
        .expect("tried");
    assert_eq!(
        (tried.created, tried.updated),
        (vec!["b".to_owned()], vec!["a".to_owned()])
    );
    let told: Vec<(&str, &str, bool, bool)> = tried
        .changes
        .iter()
        .map(|change| {
            let before = change.before_yaml.contains("rack: r7");
            (
                change.name.as_str(),
                change.change.as_str(),
                before,
                change.after_yaml.contains("rack: r8"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("a", "updated", true, true), ("b", "created", false, false)]
    );
    assert!(tried.changes[1].before_yaml.is_empty());
    // Nothing of it was done.
    assert_eq!(
        machine(&server, "b").await.expect_err("none").code(),
        Code::NotFound
    );
    assert_eq!(machine(&server, "a").await.expect("there").labels["rack"], "r7");
    // What would be refused is refused.
    let taken = B.replace("0b", "0a");
    let status = apply(&server, dry(&[("b.yaml", &taken)]))
        .await
        .expect_err("taken");
    assert_eq!(
        status.message(),
        "b.yaml:2:6: MAC 52:54:00:77:00:0a belongs to machine \"a\" already: use another, or delete that machine"
    );
    let request = GetTemplateRequest {
        name_or_id: "t".into(),
        ..GetTemplateRequest::default()
    };
    let put = PutTemplateRequest {
        text: "version: '1'\nname: t\ntasks: [{name: go, succeed: {}}]\n".into(),
        dry_run: true,
        ..PutTemplateRequest::default()
    };
    let mut client = server.client().await;
    client.put_template(put).await.expect("tried");
    assert_eq!(
        client.get_template(request).await.expect_err("none").code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_changed_is_not_overwritten() {
    let (server, _dir) = empty().await;
    apply(&server, files(&[("a", A)])).await.expect("applied");
    let read = machine(&server, "a").await.expect("there").version;
    let of_version = |yaml: &str| ApplyMachinesRequest {
        versions: [("a".to_owned(), read)].into(),
        ..files(&[("a", yaml)])
    };
    let mine = A.replace("r7", "mine");
    apply(&server, files(&[("a", &A.replace("r7", "theirs"))]))
        .await
        .expect("applied");
    let status = apply(&server, of_version(&mine)).await.expect_err("changed");
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "machine \"a\" was changed by somebody else meanwhile, and nothing was written: look at it with `farrier machine get a`, \
         and do it again"
    );
    assert_eq!(
        machine(&server, "a").await.expect("there").labels["rack"],
        "theirs"
    );
    let now = machine(&server, "a").await.expect("there").version;
    let request = ApplyMachinesRequest {
        versions: [("a".to_owned(), now)].into(),
        ..files(&[("a", &mine)])
    };
    assert_eq!(apply(&server, request).await.expect("applied").updated, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_is_taken_back_with_the_credentials_that_were_hidden() {
    let (server, _dir) = empty().await;
    server.namespace("blue").await;
    let record = "machine: a\nmac: 52:54:00:77:00:0a\nmetadata: {from: 'http://ann:horse@h/x', to: [y, 'ftp://b:c@h/']}\n";
    let in_blue = ApplyMachinesRequest {
        namespace: "blue".into(),
        ..files(&[("a", record)])
    };
    apply(&server, in_blue).await.expect("applied");
    // As `farrier machine get -o yaml` shows it; the record itself names no namespace.
    let shown = "name: a\nnamespace: blue\nattached: false\ndocument:\n  machine: a\n  mac: 52:54:00:77:00:0a\n  \
                 metadata: {from: 'http://***@h/x', to: [y, 'ftp://***@h/']}\n";
    let applied = apply(&server, files(&[("shown.yaml", shown)]))
        .await
        .expect("applied");
    assert_eq!(
        (applied.unchanged, applied.warnings),
        (vec!["a".to_owned()], vec![])
    );
    // What is changed beside it is all that changes.
    let applied = apply(
        &server,
        files(&[("shown.yaml", &shown.replace("to: [y", "to: [z"))]),
    )
    .await
    .expect("applied");
    assert_eq!(applied.updated, ["a"]);
    let stored = machine(&server, "a").await.expect("there").spec_yaml;
    assert!(
        stored.contains("http://ann:horse@h/x") && stored.contains("ftp://b:c@h/"),
        "{stored}"
    );
    // A mark that stands for nothing is told of.
    let elsewhere = shown.replace("from: 'http://***@h/x'", "from: 'http://***@other/x'");
    let applied = apply(&server, files(&[("shown.yaml", &elsewhere)]))
        .await
        .expect("applied");
    assert_eq!(
        applied.warnings,
        ["shown.yaml:7:20: *** stands where a credential was hidden when this was shown: write it anew"]
    );
}
