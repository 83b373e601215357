//! What the tests run boots against: an inventory in memory and a timeline that can be read.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boots::inventory::{BootId, Inventory, InventoryError, Lease, Machine, NextBoot};
use boots::timeline::{Entry, Timeline};
use boots::{Boots, BootsConfig, Running};
use mac::mac_text;
use macaddr::MacAddr6;
use tokio_util::sync::CancellationToken;

pub const MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b);
pub const STRANGER: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x99, 0, 0x01);

#[derive(Default)]
pub struct World {
    machines: Mutex<HashMap<MacAddr6, Machine>>,
    entries: Mutex<Vec<Entry>>,
    /// Asking for this MAC panics, as a defect would.
    pub panics_at: Mutex<Option<MacAddr6>>,
    /// Why it is not ready, if it is not.
    pub unready: Mutex<Option<String>>,
}

impl World {
    pub fn with(machine: Machine) -> Arc<Self> {
        let world = Self::default();
        world.put(machine);
        Arc::new(world)
    }

    pub fn put(&self, machine: Machine) {
        self.machines.lock().unwrap().insert(machine.mac, machine);
    }

    pub fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap().iter().map(line).collect()
    }

    pub fn raw_entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// Waits until an entry holds all of `words`.
    #[track_caller]
    pub fn wait_for(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let entries = self.entries();
            if let Some(found) = entries
                .iter()
                .find(|entry| words.iter().all(|word| entry.contains(word)))
            {
                return found.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no entry with {words:?} among {entries:#?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub async fn heard(self: &Arc<Self>, words: &'static [&'static str]) -> String {
        let world = self.clone();
        tokio::task::spawn_blocking(move || world.wait_for(words))
            .await
            .unwrap()
    }
}

fn line(entry: &Entry) -> String {
    let mac = entry.mac.map_or("-".into(), mac_text);
    format!(
        "{:?} {mac} {} | {} | {} B | {:?}",
        entry.stage, entry.what, entry.detail, entry.bytes, entry.outcome
    )
}

#[async_trait::async_trait]
impl Inventory for World {
    async fn machine(&self, mac: MacAddr6) -> Result<Option<Machine>, InventoryError> {
        let defect = *self.panics_at.lock().unwrap();
        assert_ne!(defect, Some(mac), "a defect, made for the test");
        Ok(self.machines.lock().unwrap().get(&mac).cloned())
    }

    async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, InventoryError> {
        let machines = self.machines.lock().unwrap();
        Ok(machines
            .values()
            .filter_map(|one| Some((one.mac, one.lease.as_ref()?.address)))
            .collect())
    }

    async fn ready(&self) -> Result<(), InventoryError> {
        let why = self.unready.lock().unwrap().clone();
        why.map_or(Ok(()), |why| Err(InventoryError(why)))
    }

    async fn boot_token(&self, _: MacAddr6, boot: &BootId) -> Result<String, InventoryError> {
        Ok(format!("token-of-{}", boot.0))
    }
}

impl Timeline for World {
    fn record(&self, entry: Entry) {
        self.entries
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(entry);
    }
}

pub fn machine(address: Ipv4Addr) -> Machine {
    Machine {
        name: "node1".into(),
        mac: MAC,
        lease: Some(Lease {
            hostname: Some("node1".into()),
            lease_time: Duration::from_secs(3600),
            ..Lease::new(address, Ipv4Addr::new(255, 255, 255, 0))
        }),
        next: agent(),
        kernel_params: vec![],
        vlan_id: None,
        consoles: vec![],
    }
}

pub fn agent() -> NextBoot {
    NextBoot::Agent {
        reason: "workflow 0192 is PENDING".into(),
    }
}

pub fn disk() -> NextBoot {
    NextBoot::LocalDisk {
        reason: "its last workflow succeeded".into(),
    }
}

/// On loopback, without DHCP and router advertisements.
pub async fn start(world: &Arc<World>, boot_dir: &Path, images_dir: Option<&Path>) -> (Running, Stop) {
    let mut config = BootsConfig::new("lo", Ipv4Addr::LOCALHOST, boot_dir);
    config.images_dir = images_dir.map(Into::into);
    config.http_port = 0;
    config.tftp_port = 0;
    config.dhcp = boots::DhcpMode::Off;
    config.ra = false;
    let stop = CancellationToken::new();
    let running = Boots::start(config, world.clone(), world.clone(), stop.clone())
        .await
        .unwrap();
    (running, Stop(stop.drop_guard()))
}

/// Stops the services when it goes.
pub struct Stop(pub tokio_util::sync::DropGuard);
