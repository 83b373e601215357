//! Templates that are good: what becomes of them.

use std::collections::BTreeMap;

use serde_json::json;
use workflow::language::{Definition, Devices, check, render};

fn devices(hardware: serde_json::Value) -> Devices {
    let devices = BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]);
    Devices { devices, hardware }
}

#[track_caller]
fn definition(text: &str, hardware: serde_json::Value) -> Definition {
    match render(text, &devices(hardware)) {
        Ok(rendered) => {
            assert_eq!(rendered.warnings, []);
            rendered.definition
        }
        Err(problems) => panic!(
            "{}",
            problems.iter().map(|p| format!("{p}\n")).collect::<String>()
        ),
    }
}

/// The form of the templates that are seen in the field.
const FIELD: &str = r#"version: "0.1"
name: debian
global_timeout: 1800
tasks:
  - name: "os-installation"
    worker: "{{.device_1}}"
    volumes:
      - /dev:/dev
      - /dev/console:/dev/console
    environment:
      MIRROR: http://10.77.0.1:7080
    actions:
      - name: "stream-image"
        image: quay.io/tinkerbell/actions/image2disk:latest
        timeout: 600
        environment:
          DEST_DISK: {{ index .Hardware.Disks 0 }}
          IMG_URL: "http://10.77.0.1:7080/images/debian-12.raw.zst"
          COMPRESSED: true
      - name: "write-netplan"
        image: quay.io/tinkerbell/actions/writefile:latest
        timeout: 90
        environment:
          DEST_DISK: {{ formatPartition ( index .Hardware.Disks 0 ) 2 }}
          FS_TYPE: ext4
          DEST_PATH: /etc/network/config
          UID: 0
          MODE: 0644
          DIRMODE: 0o755
          CONTENTS: |
            mac: {{ (index .Hardware.Interfaces 0).DHCP.MAC | replace ":" "-" }}
            address: {{ (index .hardware.spec.interfaces 0).dhcp.ip.address }}/{{ netmaskToPrefixLength "255.255.255.0" }}
            {{- range $at, $server := (index .Hardware.Interfaces 0).DHCP.NameServers }}
            dns{{ $at }}: {{ $server }}
            {{- end }}
      - name: "reboot"
        image: ghcr.io/jacobweinstock/waitdaemon:0.2.1
        timeout: 90
        pid: host
        command: ["reboot", n, 0644, 1.50, yes]
        on-timeout: [echo, late]
        on-failure: [echo, failed]
        environment: {IMAGE: alpine}
        volumes: [ "/var/run/docker.sock:/var/run/docker.sock:ro" ]
"#;

fn hardware() -> serde_json::Value {
    json!({
        "metadata": {"name": "machine-1"},
        "spec": {
            "disks": [{"device": "/dev/nvme0n1"}],
            "interfaces": [{"dhcp": {
                "mac": "52:54:00:77:00:0b",
                "name_servers": ["1.1.1.1", "8.8.8.8"],
                "ip": {"address": "10.77.0.11", "netmask": "255.255.255.0"}
            }}],
        }
    })
}

#[test]
fn a_template_of_the_field_is_read_as_upstream_reads_it() {
    let definition = definition(FIELD, hardware());
    assert_eq!(
        (definition.version.as_str(), definition.name.as_str()),
        ("0.1", "debian")
    );
    assert_eq!(definition.global_timeout_s, 1800);
    let task = &definition.tasks[0];
    assert_eq!(task.worker, "52:54:00:77:00:0b");
    assert_eq!(task.volumes, ["/dev:/dev", "/dev/console:/dev/console"]);
    assert_eq!(task.environment["MIRROR"], "http://10.77.0.1:7080");
    let [stream, write, reboot] = &task.actions[..] else {
        panic!("{:?}", task.actions)
    };
    assert_eq!(stream.environment["DEST_DISK"], "/dev/nvme0n1");
    assert_eq!(stream.timeout_s, 600);
    assert_eq!(write.environment["DEST_DISK"], "/dev/nvme0n1p2");
    let contents = "mac: 52-54-00-77-00-0b\naddress: 10.77.0.11/24\ndns0: 1.1.1.1\ndns1: 8.8.8.8\n";
    assert_eq!(write.environment["CONTENTS"], contents);
    assert_eq!(reboot.on_timeout, ["echo", "late"]);
    assert_eq!(reboot.on_failure, ["echo", "failed"]);
    assert_eq!((reboot.pid.as_str(), reboot.network.as_str()), ("host", ""));
}

#[test]
fn scalars_stay_the_text_that_was_written() {
    let definition = definition(FIELD, hardware());
    let [stream, write, reboot] = &definition.tasks[0].actions[..] else {
        panic!()
    };
    assert_eq!(stream.environment["COMPRESSED"], "true");
    assert_eq!(
        (
            write.environment["UID"].as_str(),
            write.environment["MODE"].as_str()
        ),
        ("0", "0644")
    );
    assert_eq!(write.environment["DIRMODE"], "0o755");
    assert_eq!(reboot.command, ["reboot", "n", "0644", "1.50", "yes"]);
}

#[test]
fn traps_of_yaml_1_1_are_text_everywhere() {
    let text = "version: 0.1\nname: no\nid: 0x1F\ntasks: [{name: y, worker: 12:34:56, actions: [{name: 1e3, image: off, \
                environment: {y: ~, n: .inf, 1: 0b1, on: 2001-01-01, d: 1_000}}]}]\n";
    let definition = definition(text, serde_json::Value::Null);
    assert_eq!((definition.name.as_str(), definition.id.as_str()), ("no", "0x1F"));
    let task = &definition.tasks[0];
    assert_eq!((task.name.as_str(), task.worker.as_str()), ("y", "12:34:56"));
    let action = &task.actions[0];
    assert_eq!((action.name.as_str(), action.image.as_str()), ("1e3", "off"));
    let want = [
        ("1", "0b1"),
        ("d", "1_000"),
        ("n", ".inf"),
        ("on", "2001-01-01"),
        ("y", ""),
    ];
    let found: Vec<(&str, &str)> = action
        .environment
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(found, want);
}

#[test]
fn nulls_are_empty_as_upstream() {
    let text = "version: '0.1'\nname: w\nid:\ntasks:\n- name: t\n  worker: a\n  volumes:\n  environment:\n  actions:\n  - \
                name: x\n    image: alpine\n    timeout:\n    command: [a, ~, '']\n    environment: ~\n    pid:\n    namespaces:\n";
    let definition = definition(text, serde_json::Value::Null);
    let action = &definition.tasks[0].actions[0];
    assert_eq!(action.command, ["a", "", ""]);
    assert!(action.environment.is_empty() && action.timeout_s == 0);
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "version: '0.1'\nname: w\nx-base: &base {image: alpine, timeout: 5}\ntasks:\n- name: t\n  worker: a\n  \
                actions:\n  - name: one\n    <<: *base\n  - {<<: *base, name: two, timeout: 6}\n";
    let rendered = render(text, &Devices::default()).unwrap();
    assert_eq!(rendered.warnings.len(), 1);
    let actions = &rendered.definition.tasks[0].actions;
    assert_eq!((actions[0].image.as_str(), actions[0].timeout_s), ("alpine", 5));
    assert_eq!((actions[1].image.as_str(), actions[1].timeout_s), ("alpine", 6));
}

#[test]
fn macs_are_written_one_way_and_agent_ids_are_kept() {
    for (written, want) in [
        ("52-54-00-77-00-0B", "52:54:00:77:00:0b"),
        ("52:54:00:AB:00:0B", "52:54:00:ab:00:0b"),
        ("rack-7-Node-3", "rack-7-Node-3"),
        ("  padded  ", "padded"),
    ] {
        let text =
            format!("version: '0.1'\nname: w\ntasks: [{{name: t, worker: \"{written}\", actions: []}}]\n");
        assert_eq!(definition(&text, serde_json::Value::Null).tasks[0].worker, want);
    }
}

#[test]
fn namespaces_are_the_newer_spelling_of_pid() {
    let text = "version: '0.1'\nname: w\ntasks: [{name: t, worker: a, actions: [{name: x, image: alpine, namespaces: \
                {network: host, pid: host}}]}]\n";
    let action = definition(text, serde_json::Value::Null).tasks[0].actions[0].clone();
    assert_eq!((action.pid.as_str(), action.network.as_str()), ("host", "host"));
}

#[test]
fn the_legacy_hardware_has_go_s_names_and_zero_values() {
    let hardware = json!({"spec": {
        "userData": "#cloud-config", "vendorData": "v",
        "metadata": {"instance": {"id": "i-1", "hostname": "db1", "ips": [{"address": "10.0.0.1", "public": true}],
            "operating_system": {"slug": "debian_12"}, "storage": {"disks": [{"device": "/dev/sda"}]}}},
        "interfaces": [{"netboot": {"allowPXE": true, "ipxe": {"url": "http://x"}}}],
    }});
    let text = "version: '0.1'\nname: {{.Hardware.Metadata.Instance.ID}}-{{.Hardware.Metadata.Instance.Hostname}}\nid: \
                '{{.Hardware.UserData}} {{.Hardware.VendorData}} {{(index .Hardware.Metadata.Instance.Ips 0).Public}} \
                {{.Hardware.Metadata.Instance.OperatingSystem.Slug}} {{.Hardware.Metadata.BondingMode}} \
                {{(index .Hardware.Interfaces 0).Netboot.IPXE.URL}} {{len .Hardware.Disks}} \
                {{.Hardware.Metadata.Instance.AllowPxe}}[{{.Hardware.Metadata.State}}] {{if .Hardware.Metadata.Facility}}f{{else}}none{{end}}'\n\
                tasks: [{name: t, worker: a}]\n";
    let definition = definition(text, hardware);
    assert_eq!(definition.name, "i-1-db1");
    assert_eq!(
        definition.id,
        "#cloud-config v true debian_12 0 http://x 0 false[] none"
    );
}

#[test]
fn one_template_may_define_and_call_others() {
    let text = "{{define \"act\"}}{name: {{.}}, image: alpine}{{end}}version: '0.1'\nname: w\ntasks:\n- name: t\n  worker: \
                {{.device_1}}\n  actions: [{{template \"act\" \"one\"}}, {{template \"act\" \"two\"}}]\n";
    let definition = definition(text, serde_json::Value::Null);
    let names: Vec<&str> = definition.tasks[0]
        .actions
        .iter()
        .map(|action| action.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn the_rendered_text_is_given_back_and_reads_the_same_again() {
    let rendered = render(FIELD, &devices(hardware())).unwrap();
    assert!(rendered.yaml.contains("DEST_DISK: /dev/nvme0n1p2\n"));
    assert_eq!(
        render(&rendered.yaml, &Devices::default()).unwrap().definition,
        rendered.definition
    );
}

#[test]
fn check_takes_good_templates_without_devices() {
    assert_eq!(check(FIELD), Ok(vec![]));
    assert_eq!(
        check("version: '0.1'\nname: w\ntasks: [{name: t, worker: a}]\n"),
        Ok(vec![])
    );
}
