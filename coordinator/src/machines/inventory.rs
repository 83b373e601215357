//! What a machine's agent told of what it is made of, as it was told last.
//!
//! It is kept by the MAC that the machine booted with, as what else is known of its agent: `inventory/<mac>`. Its fields are those
//! of the agent's message, which the server has cut and cleaned; here it is an object.

use macaddr::MacAddr6;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use workflow::engine::UnixMillis;

use super::{Machine, mac_text};
use crate::database::View;
use crate::error::Error;

/// Disks in the short form.
const SHORT_DISKS: usize = 8;

/// A row of `inventory/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// When it was told.
    pub at: UnixMillis,
    pub hardware: Map<String, Value>,
}

/// Where the inventory of what booted with this MAC is.
pub fn inventory_key(mac: MacAddr6) -> String {
    format!("inventory/{}", mac_text(mac))
}

impl Inventory {
    /// Of the machine: what was told last by an agent that booted from any of its cards.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn of(view: &View, machine: &Machine) -> Result<Option<Inventory>, Error> {
        let mut newest: Option<Inventory> = None;
        for interface in &machine.interfaces {
            let told = view.get::<Inventory>(&inventory_key(interface.mac))?;
            let told = told.map(|told| told.value);
            newest = newest.into_iter().chain(told).max_by_key(|told| told.at);
        }
        Ok(newest)
    }

    /// Those of its fields that are recorded with workflows, where they stand as long as these are kept, and shown in lists.
    pub fn short(&self) -> Value {
        const FIELDS: [&str; 8] = [
            "cpus",
            "firmware",
            "memory_bytes",
            "product",
            "secure_boot",
            "serial",
            "tpm",
            "vendor",
        ];
        let field = |name: &str| Some((name.to_owned(), self.hardware.get(name)?.clone()));
        let mut short: Map<String, Value> = FIELDS.iter().filter_map(|name| field(name)).collect();
        let disks = self.hardware.get("disks").and_then(Value::as_array);
        let disk = |disk: &Value| json!({"name": disk["name"], "serial": disk["serial"], "size_bytes": disk["size_bytes"]});
        let disks: Vec<Value> = disks.into_iter().flatten().take(SHORT_DISKS).map(disk).collect();
        short.insert("disks".into(), disks.into());
        Value::Object(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_a_part_of_the_whole_and_has_a_bound() {
        let disk = |number: usize| json!({"name": format!("/dev/d{number}"), "serial": "s", "size_bytes": 7, "model": "m"});
        let hardware = json!({
            "cpus": 4,
            "memory_bytes": 1 << 30,
            "pci_devices": [{}],
            "disks": (0..20).map(disk).collect::<Vec<_>>(),
        });
        let told = Inventory {
            at: 7,
            hardware: hardware.as_object().cloned().unwrap_or_default(),
        };
        let short = told.short();
        assert_eq!(
            (&short["cpus"], &short["memory_bytes"]),
            (&json!(4), &json!(1 << 30))
        );
        assert_eq!(short.get("pci_devices"), None);
        assert_eq!(short["disks"].as_array().map(Vec::len), Some(SHORT_DISKS));
        assert_eq!(
            short["disks"][7],
            json!({"name": "/dev/d7", "serial": "s", "size_bytes": 7})
        );
    }
}
