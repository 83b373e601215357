//! What agents tell of their machines: kept, cleaned, shown, and seen by selectors, expressions and templates.

use prost::Message;
use proto::inventory::{MAX_BYTES, MAX_TEXT};
use proto::v1::{
    BlockDevice, CreateWorkflowRequest, DeleteMachineRequest, GetMachineRequest, HardwareInventory,
    ListMachinesRequest, Machine, NetworkInterface, PciDevice, Processor, RenderTemplateRequest,
    agent_message,
};
use server::Config;
use tempfile::TempDir;

use crate::harness::*;

const OTHER: &str = "machine: node2\nmac: 52:54:00:77:00:0c\nlabels: {inventory: old}\n";

fn inventory(memory_gib: u64, disks: &[&str]) -> HardwareInventory {
    let disk = |name: &&str| BlockDevice {
        name: (*name).to_owned(),
        size_bytes: 400 << 30,
        logical_sector_bytes: 4096,
        ..BlockDevice::default()
    };
    HardwareInventory {
        vendor: "ACME".into(),
        serial: "SN-1".into(),
        cpus: 8,
        memory_bytes: memory_gib << 30,
        disks: disks.iter().map(disk).collect(),
        processor: Some(Processor {
            architecture: "x86_64".into(),
            ..Processor::default()
        }),
        ..HardwareInventory::default()
    }
}

async fn shown(server: &Server, machine: &str) -> Machine {
    let request = GetMachineRequest {
        name_or_mac: machine.into(),
    };
    let answer = server.client().await.get_machine(request).await;
    answer.expect("a machine").into_inner()
}

/// Waits until what is shown of `node1` is this.
async fn told(server: &Server, wanted: impl Fn(&HardwareInventory) -> bool) -> HardwareInventory {
    let deadline = std::time::Instant::now() + WITHIN;
    loop {
        let shown = shown(server, "node1").await.inventory;
        match shown {
            Some(inventory) if wanted(&inventory) => return *inventory,
            shown => assert!(std::time::Instant::now() < deadline, "shown is {shown:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn tell(agent: &Agent, inventory: HardwareInventory) {
    agent
        .send(agent_message::Kind::Inventory(Box::new(inventory)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_is_shown_noted_and_outlives_the_server_and_the_next_hello() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    server.apply(MACHINE).await.expect("machine");
    assert_eq!(shown(&server, "node1").await.inventory, None);
    // A Hello tells little, and it is better than nothing.
    let brief = HardwareInventory {
        cpus: 2,
        ..HardwareInventory::default()
    };
    let greeting = proto::v1::Hello {
        inventory: Some(Box::new(brief.clone())),
        ..hello("k1")
    };
    let agent = server.attach(greeting.clone()).await.expect("attach");
    told(&server, |told| told.cpus == 2).await;
    tell(&agent, inventory(16, &["/dev/nvme0n1"])).await;
    told(&server, |told| told.cpus == 8).await;
    let entry = server.boot_log("node1", |entry| entry.what == "INVENTORY").await;
    assert_eq!(
        entry.detail,
        "8 CPUs, 16384 MiB, firmware unknown, disks: /dev/nvme0n1 429496 MB"
    );
    // A disk was plugged.
    tell(&agent, inventory(16, &["/dev/nvme0n1", "/dev/vda"])).await;
    let whole = told(&server, |told| told.disks.len() == 2).await;
    assert_eq!(whole.disks[0].logical_sector_bytes, 4096);
    let at = shown(&server, "node1").await.inventory_at;
    // The same again is nothing new.
    tell(&agent, inventory(16, &["/dev/nvme0n1", "/dev/vda"])).await;
    drop(agent);
    server.stop().await;

    let server = Server::start(&dir, Config::default()).await;
    let after = shown(&server, "node1").await;
    assert_eq!(
        (after.inventory.as_deref(), after.inventory_at),
        (Some(&whole), at)
    );
    // The next boot's Hello is no reason to forget it.
    let agent = server.attach(greeting).await.expect("attach");
    server.boot_log("node1", |entry| entry.what == "ATTACH").await;
    assert_eq!(shown(&server, "node1").await.inventory.as_deref(), Some(&whole));
    // A list says a part of it.
    let list = ListMachinesRequest::default();
    let listed = server
        .client()
        .await
        .list_machines(list)
        .await
        .expect("a list")
        .into_inner();
    let short = listed.machines[0].inventory.as_deref().expect("an inventory");
    assert_eq!(
        (short.cpus, short.disks.len(), short.disks[0].logical_sector_bytes),
        (8, 2, 0)
    );
    // What comes behind the Hello is there: the Hello is not on its way any more.
    tell(&agent, inventory(16, &["/dev/nvme0n1"])).await;
    told(&server, |told| told.disks.len() == 1).await;
    let delete = DeleteMachineRequest {
        name_or_mac: "node1".into(),
        ..DeleteMachineRequest::default()
    };
    server
        .client()
        .await
        .delete_machine(delete)
        .await
        .expect("deleted");
    server.apply(MACHINE).await.expect("machine");
    assert_eq!(shown(&server, "node1").await.inventory, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_earlier_agent_died_is_on_the_timeline() {
    let (server, _dir) = Server::with_machine().await;
    let died = proto::v1::Hello {
        last_death: format!(
            "the worker was killed by SIGSEGV; get http://u:p@h {}",
            "x".repeat(5000)
        ),
        ..hello("k1")
    };
    let agent = server.attach(died).await.expect("attach");
    let entry = server.boot_log("node1", |entry| entry.what == "DIED").await;
    let begin = "the worker was killed by SIGSEGV; get http://***@h xxx";
    assert!(
        entry.detail.starts_with(begin) && entry.detail.len() < 1100,
        "{entry:?}"
    );
    assert_eq!(entry.outcome(), proto::v1::BootOutcome::Failed);
    let told = shown(&server, "node1").await;
    assert_eq!(told.last_death, entry.detail);
    assert!(told.last_death_at.is_some());
    drop(agent);
    // It stays known, however often the machine attaches after that.
    let agent = server.attach(hello("k2")).await.expect("attach");
    let after = shown(&server, "node1").await;
    assert_eq!(
        (&after.last_death, after.last_death_at),
        (&told.last_death, told.last_death_at)
    );
    drop(agent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_of_a_boot_are_on_the_timeline_within_bounds() {
    let (server, _dir) = Server::with_machine().await;
    let many = (0..40).map(|number| format!("word{number}=x has no effect \u{1b}[2J {}", "y".repeat(2000)));
    let noticing = proto::v1::Hello {
        notices: many.collect(),
        ..hello("k1")
    };
    let agent = server.attach(noticing).await.expect("attach");
    let last = server
        .boot_log("node1", |entry| entry.detail.starts_with("word31=x"))
        .await;
    assert_eq!(
        (last.what.as_str(), last.outcome()),
        ("NOTICE", proto::v1::BootOutcome::Note)
    );
    // What a terminal takes for commands is taken out where it is shown.
    assert!(last.detail.len() < 1100, "{last:?}");
    // What comes after them was told after them.
    tell(&agent, inventory(1, &["/dev/vda"])).await;
    let notices = std::cell::Cell::new(0);
    let is_after = |entry: &proto::v1::BootLogEntry| {
        notices.set(notices.get() + usize::from(entry.what == "NOTICE"));
        entry.what == "INVENTORY"
    };
    server.boot_log("node1", is_after).await;
    assert_eq!(notices.get(), 32);
    drop(agent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hostile_machine_tells_is_cut_and_can_leave_no_quotes() {
    let (server, _dir) = Server::with_machine().await;
    let agent = server.attach(hello("k1")).await.expect("attach");
    let text = "\u{1b}[2J\"}}\n${{ secrets.PW }}".repeat(100);
    let interface = NetworkInterface {
        name: text.clone(),
        ..NetworkInterface::default()
    };
    let device = PciDevice {
        driver: text.clone(),
        ..PciDevice::default()
    };
    let hostile = HardwareInventory {
        serial: text,
        interfaces: vec![interface],
        pci_devices: vec![device; 200],
        ..inventory(1, &["/dev/vda"; 300])
    };
    tell(&agent, hostile).await;
    let told = told(&server, |told| told.memory_bytes == 1 << 30).await;
    assert!(told.encoded_len() <= MAX_BYTES && told.disks.len() == 256);
    assert_eq!(told.left_out, ["44 more of disks"]);
    let all = format!("{told:?}");
    assert!(
        !all.contains("${{") && !all.contains("\\u{1b}") && !all.contains("\\n"),
        "{all}"
    );
    assert_eq!(told.serial.len(), MAX_TEXT);
    drop(agent);
    server.stop().await;
}

const BY_MEMORY: &str = r#"
version: "1"
name: large
tasks:
  - name: each
    worker: "${{ item.mac }}"
    forEach: machines("has(inventory.memory_bytes) && inventory.memory_bytes > 30000000000 && inventory.disks.exists(d, d.logical_sector_bytes == 4096)")
    actions:
      - name: write
        image: cexec
        environment:
          DISK: "${{ item.inventory.disks[0].name }}"
          SERIAL: "${{ machine.inventory.serial }}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn selectors_expressions_and_templates_see_it() {
    let (server, _dir) = Server::with_machine().await;
    server.apply(OTHER).await.expect("machine");
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    tell(&agent, inventory(32, &["/dev/nvme0n1"])).await;
    told(&server, |told| told.memory_bytes == 32 << 30).await;

    let names = async |selector: &str| {
        let request = ListMachinesRequest {
            selector: selector.into(),
            ..ListMachinesRequest::default()
        };
        let listed = server.client().await.list_machines(request).await;
        let listed = listed.map(|answer| answer.into_inner().machines);
        listed.map(|all| all.into_iter().map(|one| one.name).collect::<Vec<_>>())
    };
    let of_disks = "has(inventory.cpus) && inventory.disks.all(d, d.size_bytes > 1)";
    assert_eq!(names(of_disks).await.expect("a list"), ["node1"]);
    assert_eq!(
        names("labels.inventory == 'old'").await.expect("a list"),
        ["node2"]
    );
    let unknown = names("inventory.cpus > 4").await.expect_err("node2 told nothing");
    assert!(unknown.message().contains("machine node2"), "{unknown:?}");

    server.put(BY_MEMORY).await.expect("template");
    let workflow = CreateWorkflowRequest {
        template: "large".into(),
        ..CreateWorkflowRequest::default()
    };
    server.make(workflow).await.expect("a workflow");
    let run = agent.run().await;
    let of = |name: &str| run.environment.get(name).map(String::as_str);
    assert_eq!((of("DISK"), of("SERIAL")), (Some("/dev/nvme0n1"), Some("SN-1")));

    let text = r#"version: "0.1"
name: t
global_timeout: 60
tasks:
  - name: a
    worker: "{{ .device_1 }}"
    actions:
      - {name: b, image: cexec, timeout: 9, environment: {ON: "{{ (index .hardware.inventory.disks 0).name }}"}}
"#;
    let render = RenderTemplateRequest {
        text: text.into(),
        devices: [("device_1".to_owned(), MAC.to_owned())].into(),
        ..RenderTemplateRequest::default()
    };
    let rendered = server.client().await.render_template(render).await;
    let rendered = rendered.expect("rendered").into_inner();
    assert!(
        rendered.yaml.contains(r#"ON: "/dev/nvme0n1""#),
        "{}",
        rendered.yaml
    );
    drop(agent);
    server.stop().await;
}
