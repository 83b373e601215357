//! Names, MACs and agent ids: which there are, that none means two machines, and that values of records can work.

use coordinator::netboot::Next;
use proto::v1::{CreateWorkflowRequest, DeleteMachineRequest, GetMachineRequest};
use server::Config;
use store::{Commit, MemoryStore, Operation, Store, StoreHandle};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::*;

async fn empty() -> (Server, TempDir) {
    let dir = TempDir::new().expect("directory");
    (Server::start(&dir, Config::default()).await, dir)
}

/// The problems of one record, each without its place.
async fn refused(server: &Server, text: &str) -> Vec<String> {
    let status = server.apply(text).await.expect_err(text);
    let place = |line: &str| line.splitn(4, ':').last().unwrap_or_default().trim().to_owned();
    status.message().lines().map(place).collect()
}

async fn warned(server: &Server, text: &str) -> Vec<String> {
    server.apply(text).await.expect(text).2
}

/// The same record in both forms.
fn both(address: &str, netmask: &str, gateway: &str, more: &str) -> [String; 2] {
    let len = netmask
        .parse::<std::net::Ipv4Addr>()
        .expect("netmask")
        .to_bits()
        .count_ones();
    let short =
        format!("machine: m1\nmac: 52:54:00:77:00:0b\naddress: {address}/{len}\ngateway: {gateway}\n{more}");
    let more = more
        .replace("domain:", "domain_name:")
        .replace("dns:", "name_servers:");
    let indented = more
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect::<String>();
    let hardware = format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m1}}\nspec:\n  interfaces:\n  - dhcp:\n      \
         mac: 52:54:00:77:00:0b\n      ip: {{address: {address}, netmask: {netmask}, gateway: {gateway}}}\n{indented}"
    );
    [short, hardware]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_of_the_alphabet_and_no_mac() {
    let (server, _dir) = empty().await;
    let named = |name: &str| format!("machine: {name}\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n");
    for bad in [
        "rack1/node1",
        "\"a b\"",
        "\"a\\nb\"",
        "\"\\e[2J\"",
        "..",
        "-a",
        "ä",
        &"x".repeat(254),
    ] {
        let found = refused(&server, &named(bad)).await.remove(0);
        assert!(
            found.contains("bad machine name") && found.contains("letters a to z"),
            "{found}"
        );
    }
    // In every spelling of a MAC.
    for mac in [
        "\"52:54:00:77:00:0c\"",
        "52-54-00-77-00-0C",
        "5254.0077.000c",
        "52.54.00.77.00.0c",
    ] {
        let found = refused(&server, &named(mac)).await.remove(0);
        assert!(found.contains("bad machine name"), "{mac}: {found}");
    }
    let hardware = "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: rack1/node1}\nspec: {interfaces: \
                    [{dhcp: {mac: 52:54:00:77:00:0b}}]}\n";
    let found = refused(&server, hardware).await.remove(0);
    assert!(found.contains("bad machine name \"rack1/node1\""), "{found}");
    for good in ["node-1.lab", "Rack_7", "\"52-54-00-77-00-0b\""] {
        server.apply(&named(good)).await.expect(good);
        let asked = DeleteMachineRequest {
            name_or_mac: good.trim_matches('"').into(),
            ..DeleteMachineRequest::default()
        };
        server
            .client()
            .await
            .delete_machine(asked)
            .await
            .expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_an_agent_id_never_mean_two_machines() {
    let (server, _dir) = empty().await;
    let first = "machine: alpha\nmac: 08:00:27:00:00:01\nagent_id: beta\n";
    server.apply(first).await.expect("applied");
    let second = "machine: beta\nmac: 08:00:27:00:00:02\n";
    assert_eq!(
        refused(&server, second).await,
        [
            "bad machine name \"beta\": it is the agent id of machine \"alpha\"; use another, or give that machine another agent id"
        ]
    );
    let third = "machine: gamma\nmac: 08:00:27:00:00:03\nagent_id: alpha\n";
    assert_eq!(
        refused(&server, third).await,
        [
            "agent id \"alpha\" is the name of another machine: a worker of that name would mean both; use another one"
        ]
    );
    let within =
        "machine: one\nmac: 08:00:27:00:00:04\nagent_id: two\n---\nmachine: two\nmac: 08:00:27:00:00:05\n";
    let found = refused(&server, within).await;
    assert!(
        found[0].contains("agent id \"two\" is the name of another machine, in line 5"),
        "{found:?}"
    );
    // Its own name, and what the file itself gives up.
    server
        .apply("machine: own\nmac: 08:00:27:00:00:06\nagent_id: own\n")
        .await
        .expect("applied");
    let moved = format!("{}---\n{second}", first.replace("beta", "other"));
    server.apply(&moved).await.expect("applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_slash_means_no_machine() {
    let (server, _dir) = empty().await;
    let machine = "machine: rack1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";
    server.apply(machine).await.expect("applied");
    server.put(TWO_ACTIONS).await.expect("template");
    let status = server
        .create("two", "rack1/node1")
        .await
        .expect_err("no such machine");
    assert!(
        status
            .message()
            .contains("no machine has name or agent id rack1/node1"),
        "{status:?}"
    );
    let asked = DeleteMachineRequest {
        name_or_mac: "rack1".into(),
        ..DeleteMachineRequest::default()
    };
    server
        .client()
        .await
        .delete_machine(asked)
        .await
        .expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_templates_name_is_printable_and_no_id() {
    let (server, _dir) = empty().await;
    let named = |name: &str| TWO_ACTIONS.replacen("two", name, 1);
    for bad in [
        "a/b",
        "\"\u{7}\"",
        "0192f0c4-3b7e-7c1a-9d7e-000000000001",
        &"x".repeat(200),
    ] {
        let status = server.put(&named(bad)).await.expect_err(bad);
        assert!(status.message().contains("bad template name"), "{status:?}");
    }
    server.put(&named("Ubuntu 22.04 (jammy)")).await.expect("a name");
}

/// A task whose worker is whatever the input says.
const WHERE: &str = r#"
version: "1"
name: where
inputs:
  at: {type: string}
tasks:
  - name: go
    worker: "${{ inputs.at }}"
    actions:
      - {name: go, image: cexec}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_a_name_is_as_good_as_a_mac_and_stands_in_the_history() {
    let (server, _dir) = Server::with_machine().await;
    let literal = TWO_ACTIONS.replace("name: two", "name: literal");
    for (word, by_device) in [
        ("10.77.0.11", true),
        ("node1", true),
        ("10.77.0.11", false),
        ("node1", false),
    ] {
        let made = match by_device {
            true => server.create("two", word).await.expect("workflow"),
            false => server.create_of(&literal.replace("{{.device_1}}", word)).await,
        };
        assert_eq!(made.tasks[0].worker, MAC, "{word}");
        let created = server.history(&made.id).await.remove(0);
        let meant = format!("{word} is {MAC}");
        assert!(created.message.ends_with(&meant), "{created:?}");
        let event: serde_json::Value = serde_json::from_str(&created.json).expect("JSON");
        assert_eq!(event["resolved"][word], MAC, "{created:?}");
        server.cancel(&made.id, "").await.expect("cancelled");
    }
    // What was given as it is kept is no news.
    let made = server.create("two", MAC).await.expect("workflow");
    let created = server.history(&made.id).await.remove(0);
    assert!(!created.message.contains(" is "), "{created:?}");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&made.id), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_names_the_machine_that_is_meant() {
    let (server, _dir) = Server::with_machine().await;
    let request = CreateWorkflowRequest {
        text: TWO_ACTIONS.replace(
            "{{.device_1}}",
            "{{ (index .hardware.spec.interfaces 0).dhcp.mac }}",
        ),
        machine: "10.77.0.11".into(),
        ..CreateWorkflowRequest::default()
    };
    let made = server.make(request.clone()).await.expect("workflow");
    assert_eq!(made.tasks[0].worker, MAC);
    let unknown = CreateWorkflowRequest {
        machine: "10.77.0.99".into(),
        ..request
    };
    let status = server.make(unknown).await.expect_err("no such machine");
    let want = "no machine has address 10.77.0.99: see `farrier machine list`";
    assert_eq!((status.code(), status.message()), (Code::NotFound, want));
    let status = server
        .create("two", "10.77.0.99")
        .await
        .expect_err("no such machine");
    let want = "task \"install\": no machine has address 10.77.0.99: add it with `farrier machine apply`";
    assert_eq!((status.code(), status.message()), (Code::NotFound, want));
    let asked = GetMachineRequest {
        name_or_mac: "10.77.0.11".into(),
    };
    let shown = server.client().await.get_machine(asked).await.expect("shown");
    assert_eq!(shown.into_inner().name, "node1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_may_give_an_address_and_the_machine_keeps_it_until_the_end() {
    let (server, _dir) = Server::with_machine().await;
    let at = |word: &str| CreateWorkflowRequest {
        text: WHERE.into(),
        inputs_text: [("at".to_owned(), word.to_owned())].into(),
        ..CreateWorkflowRequest::default()
    };
    let id = server.make(at("10.77.0.11")).await.expect("workflow").id;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&id), "{run:?}");
    let moved = MACHINE.replace("10.77.0.11", "10.77.0.12");
    let status = server.apply(&moved).await.expect_err("refused");
    let want = format!(
        "machine \"node1\" has workflow {id}, which has not ended and calls it 10.77.0.11: wait for it, or cancel it with \
         `farrier workflow cancel {id}`"
    );
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, want.as_str())
    );
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;
    server.apply(&moved).await.expect("applied");

    // By name; the address is free to change meanwhile.
    let id = server.make(at("node1")).await.expect("workflow").id;
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&id), "{run:?}");
    server.apply(MACHINE).await.expect("applied");
    agent.report(&run.attempt_id, succeeded()).await;
    server.reaches(&id, "SUCCESS").await;

    // The machine with the address comes later.
    let id = server.make(at("10.77.0.12")).await.expect("workflow").id;
    server.apply(&moved).await.expect("applied");
    let mut agent = server.attach(hello("k2")).await.expect("attach");
    let run = agent.run().await;
    assert!(run.attempt_id.starts_with(&id), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_goes_by_two_words_is_kept_until_both_are_done() {
    let (server, _dir) = Server::with_machine().await;
    let both = format!(
        "{WHERE}    needs: []\n  - name: other\n    needs: []\n    worker: \"{MAC}\"\n    actions:\n      - {{name: other, image: \
         cexec}}\n"
    );
    for word in ["10.77.0.11", "node1"] {
        let request = CreateWorkflowRequest {
            text: both.clone(),
            inputs_text: [("at".to_owned(), word.to_owned())].into(),
            ..CreateWorkflowRequest::default()
        };
        let id = server.make(request).await.expect("workflow").id;
        let next = server.create("two", MAC).await.expect("workflow").id;
        let mut agent = server.attach(hello(word)).await.expect("attach");
        for _ in 0..2 {
            let run = agent.run().await;
            assert!(run.attempt_id.starts_with(&id), "{word}: {run:?}");
            agent.report(&run.attempt_id, succeeded()).await;
        }
        server.reaches(&id, "SUCCESS").await;
        let run = agent.run().await;
        assert!(run.attempt_id.starts_with(&next), "{word}: {run:?}");
        agent.report(&run.attempt_id, failed()).await;
        server.reaches(&next, "FAILED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_an_address_is_the_machines_own() {
    let (server, _dir) = empty().await;
    let text = "machine: MAC\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";
    for (text, what) in [
        (text.replace("MAC", "10.77.0.12"), "machine name"),
        (
            text.replace("MAC", "node1") + "agent_id: 10.77.0.12\n",
            "agent id",
        ),
    ] {
        let want = format!(
            "bad {what} \"10.77.0.12\": it is an address, and none of this machine's own: a worker of that name would mean the \
             machine that has it; write another"
        );
        assert_eq!(refused(&server, &text).await, [want]);
    }
    let own = text.replace("MAC", "10.77.0.11") + "agent_id: 10.77.0.11\n";
    server.apply(&own).await.expect("its own");
}

/// What an earlier version has stored can be read and deleted, and is not its neighbour's.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_machine_with_a_slash_can_be_read_and_deleted() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let server = Server::over(StoreHandle::shared(store.clone()), Config::default()).await;
    let machine = "machine: rack1-slash-node1\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n";
    server.apply(machine).await.expect("applied");
    server
        .apply("machine: rack1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n")
        .await
        .expect("applied");
    server.put(TWO_ACTIONS).await.expect("template");
    let id = server
        .create("two", "52:54:00:77:00:0c")
        .await
        .expect("workflow")
        .id;
    server.stop().await;
    let mut commit = Commit::default();
    for row in store.range(b"", b"\xff", usize::MAX).expect("rows") {
        let (key, value) = (
            String::from_utf8_lossy(&row.key),
            String::from_utf8_lossy(&row.value),
        );
        if key.contains("-slash-") || value.contains("-slash-") {
            let old = |text: &str| text.replace("-slash-", "/").into_bytes();
            commit.operations.push(Operation::Delete { key: row.key.clone() });
            commit.operations.push(Operation::Put {
                key: old(&key).into(),
                value: old(&value).into(),
            });
        }
    }
    store.commit(&commit).expect("committed");

    let server = Server::over(StoreHandle::shared(store), Config::default()).await;
    let (next, why) = server
        .control
        .boots_next(MAC.parse().expect("MAC"))
        .await
        .expect("read");
    assert_eq!(next, Next::LocalDisk, "{why}");
    let other = "52:54:00:77:00:0c".parse().expect("MAC");
    assert_eq!(
        server.control.boots_next(other).await.expect("read").0,
        Next::Agent
    );
    let mut client = server.client().await;
    let rack1 = DeleteMachineRequest {
        name_or_mac: "rack1".into(),
        ..DeleteMachineRequest::default()
    };
    client
        .delete_machine(rack1)
        .await
        .expect("its neighbour's workflow is not its own");
    let name_or_mac = "rack1/node1".to_owned();
    let asked = GetMachineRequest {
        name_or_mac: name_or_mac.clone(),
    };
    client.get_machine(asked).await.expect("shown");
    server.cancel(&id, "").await.expect("cancelled");
    client
        .delete_machine(DeleteMachineRequest {
            name_or_mac,
            ..DeleteMachineRequest::default()
        })
        .await
        .expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_no_network_takes_are_refused_in_both_forms() {
    let (server, _dir) = empty().await;
    const MASK: &str = "255.255.255.0";
    let cases = [
        (
            "10.77.0.0",
            MASK,
            "10.77.0.1",
            "",
            "bad address 10.77.0.0: it is the address of the network itself",
        ),
        (
            "10.77.0.255",
            MASK,
            "10.77.0.1",
            "",
            "bad address 10.77.0.255: it is the broadcast address in 10.77.0.0/24",
        ),
        (
            "127.0.0.5",
            MASK,
            "127.0.0.1",
            "",
            "bad address 127.0.0.5: it is a loopback address",
        ),
        (
            "224.0.0.5",
            MASK,
            "224.0.0.1",
            "",
            "bad address 224.0.0.5: it is a multicast address",
        ),
        (
            "255.255.255.255",
            MASK,
            "10.77.0.1",
            "",
            "bad address 255.255.255.255: it is a broadcast",
        ),
        (
            "0.0.0.0",
            MASK,
            "10.77.0.1",
            "",
            "bad address 0.0.0.0: it means no host",
        ),
        (
            "169.254.7.7",
            MASK,
            "169.254.7.1",
            "",
            "bad address 169.254.7.7: it is a link-local address",
        ),
        (
            "10.77.0.11",
            "0.0.0.0",
            "10.77.0.1",
            "",
            "bad netmask of 10.77.0.11",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.78.0.1",
            "",
            "bad gateway 10.78.0.1: it is outside 10.77.0.0/24",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.255",
            "",
            "bad gateway 10.77.0.255: it is the broadcast address",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.11",
            "",
            "bad gateway 10.77.0.11: it is the machine's own address",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.1",
            "lease_time: 0\n",
            "bad lease_time 0",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.1",
            "hostname: my host\n",
            "bad hostname \"my host\": ' ' stands in no name",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.1",
            "hostname: \"-web\"\n",
            "bad hostname \"-web\": its part \"-web\" begins",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.1",
            "domain: lab..example\n",
            "a part of it, between dots, is empty",
        ),
        (
            "10.77.0.11",
            MASK,
            "10.77.0.1",
            "dns: [224.0.0.1]\n",
            "224.0.0.1: it is a multicast address",
        ),
    ];
    for (address, netmask, gateway, more, want) in cases {
        for text in both(address, netmask, gateway, more) {
            let found = refused(&server, &text).await;
            assert!(found.len() == 1 && found[0].contains(want), "{text}\n{found:?}");
        }
    }
    let long = format!("hostname: {}\n", "a".repeat(64));
    for text in both("10.77.0.11", MASK, "10.77.0.1", &long) {
        let found = refused(&server, &text).await;
        assert!(found[0].contains("has 64 letters, 63 are the most"), "{found:?}");
    }
    for (mac, want) in [
        ("ff:ff:ff:ff:ff:ff", "it is all ones"),
        ("00:00:00:00:00:00", "it is all zeros"),
        ("01:00:5e:00:00:01", "it is a group's"),
    ] {
        for text in both("10.77.0.11", MASK, "10.77.0.1", "") {
            let found = refused(&server, &text.replace("52:54:00:77:00:0b", mac)).await;
            assert!(
                found[0].contains(&format!("bad MAC {mac}")) && found[0].contains(want),
                "{found:?}"
            );
        }
    }
    // A network of two addresses has no broadcast (RFC 3021).
    for text in both("10.77.0.10", "255.255.255.254", "10.77.0.11", "") {
        assert_eq!(warned(&server, &text).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_may_work_are_warned_about() {
    let dir = TempDir::new().expect("directory");
    let config = Config {
        served: vec![("10.77.0.1".parse().expect("address"), 24)],
        ..Config::default()
    };
    let server = Server::start(&dir, config).await;
    for text in both(
        "10.77.0.11",
        "255.255.255.0",
        "10.77.0.1",
        "hostname: web_1\nlease_time: 30\n",
    ) {
        let found = warned(&server, &text).await.join("\n");
        assert!(found.contains("hostname \"web_1\" has an underscore"), "{found}");
        assert!(found.contains("lease_time 30 makes the machine ask"), "{found}");
    }
    for text in both("10.9.0.11", "255.255.255.0", "10.9.0.1", "") {
        let found = warned(&server, &text).await.join("\n");
        assert!(
            found.contains("address 10.9.0.11 is outside the network that this server is on (10.77.0.1/24)"),
            "{found}"
        );
    }
    for text in both("10.77.0.1", "255.255.255.0", "10.77.0.254", "") {
        assert_eq!(
            refused(&server, &text).await,
            ["bad address 10.77.0.1: it is this server's own; write another one of its network"]
        );
    }
    // A name that no host can have is not given as one.
    let long =
        "machine: NAME\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n".replace("NAME", &"n".repeat(70));
    let found = warned(&server, &long).await.join("\n");
    assert!(
        found.contains("is no host name") && found.contains("write `hostname: NAME`"),
        "{found}"
    );
}
