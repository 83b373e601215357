//! Machines from YAML: what is taken, and what is refused with which words.

use coordinator::machines::Script;
use coordinator::netboot::Next;
use proto::v1::{ApplyMachinesRequest, DeleteMachineRequest, GetMachineRequest, RenderTemplateRequest};
use server::Config;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::*;

async fn empty() -> (Server, TempDir) {
    let dir = TempDir::new().expect("directory");
    (Server::start(&dir, Config::default()).await, dir)
}

#[track_caller]
fn check(status: &tonic::Status, want: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(status.message().lines().collect::<Vec<_>>(), want);
}

const HARDWARE: &str = r#"
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: sm01
  labels: {rack: r7}
spec:
  agentID: sm01-agent
  colour: red
  disks:
    - device: /dev/sda
  metadata:
    instance: {id: i-1, hostname: web1}
  interfaces:
    - dhcp:
        mac: 08:00:27:00:00:01
        hostname: sm01
        domain_name: lab.example
        lease_time: 3600
        name_servers: [10.0.0.53, 10.0.1.53]
        vlan_id: "77"
        ip: {address: 10.0.0.9, netmask: 255.255.255.0, gateway: 10.0.0.1}
        classless_static_routes:
          - {destination_descriptor: 10.9.0.0/16, router: 10.0.0.254}
      netboot:
        allowPXE: true
        osie: {kernelParams: [quiet]}
        ipxe: {url: "http://10.0.0.1/own.ipxe"}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn takes_tinkerbells_hardware_and_warns_of_what_it_does_not_know() {
    let (server, _dir) = empty().await;
    let (created, updated, warnings) = server.apply(HARDWARE).await.expect("applied");
    assert_eq!((created, updated), (vec!["sm01".to_owned()], vec![]));
    assert_eq!(
        warnings,
        ["machines.yaml:9:3: \"colour\" is no field of spec and has no effect"]
    );
    let netboot = server
        .control
        .netboot("08:00:27:00:00:01".parse().expect("MAC"))
        .await
        .expect("read");
    let netboot = netboot.expect("known");
    let lease = netboot.interface.lease.expect("a lease");
    assert_eq!(
        (lease.address.to_string(), lease.netmask.to_string()),
        ("10.0.0.9".into(), "255.255.255.0".into())
    );
    assert_eq!(
        (lease.hostname.as_deref(), lease.domain.as_deref()),
        (Some("sm01"), Some("lab.example"))
    );
    assert_eq!(
        (
            lease.lease_time_s,
            lease.name_servers.len(),
            lease.routes[0].prefix_len
        ),
        (3600, 2, 16)
    );
    assert_eq!(
        (netboot.interface.vlan_id, netboot.machine.kernel_params),
        (Some(77), vec!["quiet".to_owned()])
    );
    assert_eq!(
        netboot.next,
        Next::Script(Script::Url("http://10.0.0.1/own.ipxe".into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hardware_is_there_for_templates_whichever_form_it_was_written_in() {
    let (server, _dir) = empty().await;
    server.apply(HARDWARE).await.expect("applied");
    let short = "machine: n2\nmac: 08-00-27-00-00-02\naddress: 10.0.0.10/24\ndisks: /dev/vdb\n\
                 metadata: {instance: {id: 0644}}\n";
    server.apply(short).await.expect("applied");
    let text = r#"
version: "0.1"
name: shown
tasks:
  - name: t
    worker: "{{.device_1}}"
    actions:
      - name: a
        image: cexec
        environment:
          ID: "{{.hardware.spec.metadata.instance.id}}"
          DISK: "{{(index .hardware.spec.disks 0).device}}"
"#;
    for (device, id, disk) in [
        ("08:00:27:00:00:01", "i-1", "/dev/sda"),
        ("08:00:27:00:00:02", "0644", "/dev/vdb"),
    ] {
        let request = RenderTemplateRequest {
            text: text.into(),
            devices: [("device_1".to_owned(), device.to_owned())].into(),
            ..RenderTemplateRequest::default()
        };
        let yaml = server
            .client()
            .await
            .render_template(request)
            .await
            .expect("rendered")
            .into_inner()
            .yaml;
        assert!(
            yaml.contains(&format!("ID: \"{id}\"")) && yaml.contains(&format!("DISK: \"{disk}\"")),
            "{yaml}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn says_everything_that_is_wrong_at_once_with_line_and_column() {
    let (server, _dir) = empty().await;
    let text = "\
machine: a
mac: 52:54:00:zz:00:0b
address: 10.77.0.300/24
---
machine: b
mac: 52:54:00:77:00:0b
address: 10.77.0.11/24
netboot: disk
gatway: 10.77.0.1
---
mac: [52:54:00:77:00:0B]
address: 10.77.0.11/33
---
machine: d
address: 10.77.0.11/24
vlan: 4096
";
    let status = server.apply(text).await.expect_err("refused");
    check(
        &status,
        &[
            "machines.yaml:2:6: bad MAC \"52:54:00:zz:00:0b\": expected six hexadecimal pairs such as 52:54:00:77:00:0b",
            "machines.yaml:3:10: bad address \"10.77.0.300/24\": expected address/length such as 10.77.0.11/24",
            "machines.yaml:8:10: bad netboot \"disk\": expected agent, local, ignore or never",
            "machines.yaml:9:1: \"gatway\" is no field of a machine; did you mean \"gateway\"?",
            "machines.yaml:11:1: the machine has no name: write `machine: NAME`",
            "machines.yaml:11:7: MAC 52:54:00:77:00:0b is given twice: first in line 6 for machine \"b\"",
            "machines.yaml:12:10: bad address \"10.77.0.11/33\": expected address/length such as 10.77.0.11/24",
            "machines.yaml:14:1: the machine has no MAC: write `mac: 52:54:00:77:00:0b`",
            "machines.yaml:16:7: bad vlan \"4096\": expected a VLAN id from 1 to 4094",
        ],
    );
    assert!(
        server
            .client()
            .await
            .list_machines(proto::v1::ListMachinesRequest::default())
            .await
            .expect("list")
            .into_inner()
            .machines
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_machine_that_has_a_mac_or_an_address_already() {
    let (server, _dir) = empty().await;
    server.apply(MACHINE).await.expect("applied");
    let other = "machine: node2\nmac: 52:54:00:77:00:0B\naddress: 10.77.0.11/24\n";
    check(
        &server.apply(other).await.expect_err("refused"),
        &[
            "machines.yaml:2:6: MAC 52:54:00:77:00:0b belongs to machine \"node1\" already: use another, or delete that machine",
            "machines.yaml:3:10: address 10.77.0.11 belongs to machine \"node1\" already: use another, or delete that machine",
        ],
    );
    // Both may change hands within one file; and the same file twice is an update.
    let moved = "machine: node1\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n---\n".to_owned() + other;
    let (created, updated, _) = server.apply(&moved).await.expect("applied");
    assert_eq!(
        (created, updated),
        (vec!["node2".to_owned()], vec!["node1".to_owned()])
    );
    server.apply(&moved).await.expect("applied");
    let owner = server
        .control
        .machine_with_mac(MAC.parse().expect("MAC"))
        .await
        .expect("read");
    assert_eq!(owner.expect("known").name, "node2");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_is_no_machine() {
    let (server, _dir) = empty().await;
    let cases = [
        ("", "machines.yaml:1:1: the file holds no machine"),
        (
            "- a\n",
            "machines.yaml:1:3: a machine must be a map (key: value), not \"a\"",
        ),
        (
            "apiVersion: v1\nkind: Pod\n",
            "machines.yaml:1:1: the file holds no machine, only Pod",
        ),
        (
            "kind: List\napiVersion: v1\nitems: []\n",
            "machines.yaml:1:1: the file holds no machine",
        ),
        (
            "apiVersion: tinkerbell.org/v1alpha2\nkind: Hardware\nmetadata: {name: x}\n",
            "machines.yaml:1:1: a document of kind \"Hardware\" and apiVersion \"tinkerbell.org/v1alpha2\" is not known: expected \
             Hardware of tinkerbell.org/v1alpha1, or the short form that begins with `machine: NAME`",
        ),
        (
            "machine: a\nmac: \"52:54:00:77:00:0c\nlabels: {a: b}\n",
            "machines.yaml:2:6: bad YAML: this \" is not closed: write a \" where its text ends",
        ),
        (
            "machine: a\nmac: 52:54:00:77:00:0c\nlabels: &a {b: *a}\n",
            "machines.yaml:3:16: this alias stands for something around itself",
        ),
    ];
    for (text, want) in cases {
        let status = server.apply(text).await.expect_err("refused");
        assert_eq!(status.message().lines().next(), Some(want));
    }
    let bad = HARDWARE
        .replace("255.255.255.0", "255.0.255.0")
        .replace("08:00:27:00:00:01", "08:00:27");
    let status = server.apply(&bad).await.expect_err("refused");
    let want = [
        "machines.yaml:16:14: bad MAC \"08:00:27\": expected six hexadecimal pairs such as 52:54:00:77:00:0b",
    ];
    check(&status, &want);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_a_machine_unless_it_has_work() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let mut client = server.client().await;
    let asked = || DeleteMachineRequest {
        name_or_mac: "node1".into(),
        ..DeleteMachineRequest::default()
    };
    let status = client.delete_machine(asked()).await.expect_err("refused");
    let want = format!(
        "machine \"node1\" has workflow {id}, which has not ended: wait for it, or cancel it with \
         `farrier workflow cancel {id}`"
    );
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, want.as_str())
    );
    server.cancel(&id, "").await.expect("cancelled");
    client.delete_machine(asked()).await.expect("deleted");
    let gone = client
        .get_machine(GetMachineRequest {
            name_or_mac: MAC.into(),
        })
        .await
        .expect_err("gone");
    assert_eq!(
        gone.message(),
        "no machine has MAC 52:54:00:77:00:0b: see `farrier machine list`"
    );
}

/// Tasks name machines by it: two with the same would run each other's actions.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_id_is_one_machines_only() {
    let (server, _dir) = empty().await;
    let own = "machine: n1\nmac: 08:00:27:00:00:01\nagent_id: 08-00-27-00-00-01\n---\n\
               machine: n2\nmac: 08:00:27:00:00:02\nagent_id: rack7\n";
    server.apply(own).await.expect("applied");
    let bad = "machine: n3\nmac: 08:00:27:00:00:03\nagent_id: rack7\n---\n\
               machine: n4\nmac: 08:00:27:00:00:04\nagent_id: 08:00:27:00:00:01\n---\n\
               machine: n5\nmac: 08:00:27:00:00:05\nagent_id: a/b\n---\n\
               machine: n6\nmac: 08:00:27:00:00:06\nagent_id: a/b\n";
    let status = server.apply(bad).await.expect_err("refused");
    let want = "machines.yaml:3:11: agent id \"rack7\" belongs to machine \"n2\" already: use another, or delete \
                that machine\n\
                machines.yaml:7:11: bad agent id \"08:00:27:00:00:01\": it is the MAC of another machine; write one \
                of this machine's own, or a name\n\
                machines.yaml:11:11: bad agent id \"a/b\": RULE\n\
                machines.yaml:15:11: bad agent id \"a/b\": RULE\n\
                machines.yaml:15:11: agent id a/b is given twice: first in line 11 for machine \"n5\"";
    let rule = "expected 1 to 253 of the letters a to z and A to Z, digits, `.`, `_` and `-`, beginning with a letter or digit, \
                or one of this machine's MACs";
    assert_eq!(status.message(), want.replace("RULE", rule));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mac_is_not_taken_from_a_machine_that_has_work() {
    let (server, _dir) = Server::with_machine().await;
    let id = server.create("two", MAC).await.expect("workflow").id;
    let other = MACHINE.replace(MAC, "52:54:00:77:00:99");
    let status = server.apply(&other).await.expect_err("refused");
    let want = format!(
        "machine \"node1\" has workflow {id}, which has not ended, and would not be {MAC} any more: wait for it, or \
         cancel it with `farrier workflow cancel {id}`"
    );
    assert_eq!(status.message(), want);
    server.cancel(&id, "").await.expect("cancelled");
    server.apply(&other).await.expect("applied");
}

fn of_interfaces(name: &str, block: usize, count: usize) -> String {
    let interfaces: String = (0..count)
        .map(|n| {
            format!(
                "    - dhcp: {{mac: \"02:00:00:00:{block:02x}:{n:02x}\", ip: {{address: 10.1.{block}.{}, netmask: 255.0.0.0}}}}\n",
                n + 1
            )
        })
        .collect();
    format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: {name}}}\nspec:\n  interfaces:\n{interfaces}"
    )
}

/// A commit has 128 operations, and each interface takes several.
#[tokio::test(flavor = "multi_thread")]
async fn machines_of_many_interfaces_are_written_changed_and_deleted() {
    let (server, _dir) = empty().await;
    let status = server.apply(&of_interfaces("m1", 1, 49)).await.unwrap_err();
    check(
        &status,
        &[
            "machines.yaml:1:1: machine \"m1\" has 49 network interfaces, 48 are the most: leave out those that never netboot",
        ],
    );
    server.apply(&of_interfaces("m1", 1, 48)).await.expect("made");
    // All are given up for others.
    server.apply(&of_interfaces("m1", 2, 48)).await.expect("changed");
    let mut client = server.client().await;
    let name_or_mac = "m1".to_owned();
    client
        .delete_machine(DeleteMachineRequest {
            name_or_mac: name_or_mac.clone(),
            ..DeleteMachineRequest::default()
        })
        .await
        .expect("deleted");
    let gone = client
        .get_machine(GetMachineRequest { name_or_mac })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    server
        .apply(&of_interfaces("m1", 2, 48))
        .await
        .expect("made again");

    // A file in which many machines give up what they have.
    let many = |block| -> String {
        let one = |n: usize| of_interfaces(&format!("r{n}"), block + n, 2);
        (0..80).map(one).collect::<Vec<_>>().join("---\n")
    };
    server.apply(&many(10)).await.expect("made");
    server.apply(&many(100)).await.expect("changed");
}

/// A record of Tinkerbell's, as an item of a list.
fn hardware(name: &str, number: u8) -> String {
    format!(
        "- apiVersion: tinkerbell.org/v1alpha1\n  kind: Hardware\n  metadata: {{name: {name}, resourceVersion: \"17\"}}\n  spec:\n    \
         interfaces:\n    - dhcp: {{mac: \"08:00:27:00:01:{number:02x}\"}}\n  status: {{}}\n"
    )
}

const MIXED: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: tink
---
apiVersion: v1
kind: Secret
metadata: {name: bmc-1}
data: {password: c2VjcmV0}
---
apiVersion: bmc.tinkerbell.org/v1alpha1
kind: Machine
metadata: {name: bmc-1}
spec: {connection: {host: 10.0.0.1}}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: mixed-1}
spec:
  interfaces:
  - dhcp: {mac: \"08:00:27:00:01:20\"}
---
machine: mixed-2
mac: 08:00:27:00:01:21
---
";

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_hardware_are_applied() {
    let (server, _dir) = empty().await;
    for (begin, first) in [
        // kubectl get hardware -o yaml
        (
            "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\nitems:\n",
            1,
        ),
        (
            "apiVersion: tinkerbell.org/v1alpha1\nkind: HardwareList\nitems:\n",
            3,
        ),
        // Upstream's file backend.
        ("", 5),
    ] {
        let (one, two) = (format!("listed-{first}"), format!("listed-{}", first + 1));
        let text = format!("{begin}{}{}", hardware(&one, first), hardware(&two, first + 1));
        let (created, updated, warnings) = server.apply(&text).await.expect("applied");
        assert_eq!((created, updated, warnings), (vec![one, two], vec![], vec![]));
    }
    // A place within a list is one in the file.
    let bad = format!("{}{}", hardware("a", 7), hardware("b", 8)).replace(":08\"", ":zz\"");
    let status = server.apply(&bad).await.expect_err("refused");
    let want = "machines.yaml:13:19: bad MAC \"08:00:27:00:01:zz\": expected six hexadecimal pairs such as 52:54:00:77:00:0b";
    assert_eq!(status.message(), want);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_machine_is_named_and_passed_over_unless_one_is_strict() {
    let (server, _dir) = empty().await;
    let (created, _, warnings) = server.apply(MIXED).await.expect("applied");
    assert_eq!(created, ["mixed-1", "mixed-2"]);
    assert_eq!(
        warnings,
        [
            "machines.yaml:1:1: Namespace \"tink\" is no machine, and is passed over",
            "machines.yaml:6:1: Secret \"bmc-1\" is no machine, and is passed over",
            "machines.yaml:11:1: Machine \"bmc-1\" is no machine, and is passed over",
        ]
    );
    // What is wrong with a machine is told alone.
    let status = server
        .apply(&MIXED.replace(":21", ":zz"))
        .await
        .expect_err("refused");
    assert_eq!(status.message().lines().count(), 1, "{}", status.message());
    let request = ApplyMachinesRequest {
        yaml: MIXED.into(),
        source: "rack.yaml".into(),
        strict: true,
        ..ApplyMachinesRequest::default()
    };
    let status = server
        .client()
        .await
        .apply_machines(request)
        .await
        .expect_err("refused");
    let said: Vec<&str> = status.message().lines().collect();
    assert_eq!(
        said,
        [
            "rack.yaml:1:1: Namespace \"tink\" is no machine, and nothing is passed over with --strict",
            "rack.yaml:6:1: Secret \"bmc-1\" is no machine, and nothing is passed over with --strict",
            "rack.yaml:11:1: Machine \"bmc-1\" is no machine, and nothing is passed over with --strict",
        ]
    );
}
