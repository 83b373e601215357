//! What the agent tells of its machine: kept when it is another than before, within bounds that are made sure of here.

use coordinator::Error;
use coordinator::database::Batch;
use coordinator::machines::{Inventory, inventory_key};
use proto::v1::HardwareInventory;
use serde_json::{Map, Value};

use super::Session;
use crate::agents::described;
use crate::clock;
use crate::timeline::Outcome;

/// How much was told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// As in a Hello: it is kept where an agent told no more before.
    InBrief,
    Whole,
}

impl Session {
    /// Keeps an inventory, and notes on the timeline that the machine is another.
    pub(super) async fn keep_inventory(
        &self,
        mut inventory: Box<HardwareInventory>,
        told: Told,
    ) -> Result<(), Error> {
        inventory.bound();
        let detail = described(&inventory);
        let hardware = object(&inventory);
        let key = inventory_key(self.handle.mac);
        let before = self
            .control
            .inner
            .db
            .with(move |view| view.get::<Inventory>(&key));
        if let Some(before) = before.await? {
            let before = before.value.hardware;
            if before == hardware || (told == Told::InBrief && is_whole(&before)) {
                return Ok(());
            }
        }
        let row = Inventory {
            at: clock::wall(),
            hardware,
        };
        let mut batch = Batch::default();
        batch.put(inventory_key(self.handle.mac), &row);
        self.control.inner.db.commit(batch).await?;
        if told == Told::Whole {
            self.note("INVENTORY", detail, Outcome::Note);
        }
        Ok(())
    }
}

fn object(inventory: &HardwareInventory) -> Map<String, Value> {
    match serde_json::to_value(inventory) {
        Ok(Value::Object(fields)) => fields,
        // It has text keys and no numbers that are none.
        _ => Map::new(),
    }
}

/// An agent that tells more than a Hello has room for names the processor's architecture.
fn is_whole(hardware: &Map<String, Value>) -> bool {
    let architecture = hardware
        .get("processor")
        .and_then(|processor| processor.get("architecture"));
    architecture
        .and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty())
}
