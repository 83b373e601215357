//! What a workflow would do to which disk, before there is one.

use std::collections::BTreeMap;

use coordinator::Error;
use coordinator::disk_writes::{DiskWrite, Told, disk_writes, filled};
use coordinator::machines::{self, Inventory};
use coordinator::templates;
use serde_json::{Map, Value};
use workflow::engine::UnixMillis;
use workflow::language::Definition;

use super::{Creation, new_workflow, start};
use crate::clock;
use crate::control::ControlPlane;

/// A workflow that was not made.
pub(crate) struct Preview {
    pub(crate) name: String,
    pub(crate) warnings: Vec<String>,
    /// In the order of the template; of each, when its machine told of its disks.
    pub(crate) writes: Vec<(DiskWrite, Option<UnixMillis>)>,
    definition: Definition,
}

impl ControlPlane {
    /// What a workflow would do to which disk, if it were made; checks what making it checks, and makes nothing.
    ///
    /// # Errors
    /// As [`ControlPlane::create_workflow`], but for what only committing finds.
    pub(crate) async fn preview_workflow(&self, mut asked: Creation) -> Result<Preview, Error> {
        if asked.template.is_empty() {
            let object = templates::namespace_of(&asked.text, &asked.name, &asked.file)?;
            asked.within = asked.within.narrowed(&object)?;
        }
        if let Some(at) = asked.start_at {
            start::check(at, clock::wall())?;
        }
        asked.idempotency_key.clear();
        let images = self.inner.config.image_policy.clone();
        let preview = self.inner.db.with(move |view| {
            let scope = asked.within.scope(view)?;
            let (new, warnings) = new_workflow(view, &images, asked.clone())?;
            let creation = new.creation;
            // What cannot be read of a machine must not be taken for what it has not told.
            let mut told = BTreeMap::new();
            for task in &creation.definition.tasks {
                let worker = filled(&task.worker, &creation.inputs);
                if !worker.is_empty()
                    && let Some(machine) = machines::meant(view, scope.only(), &worker)?
                {
                    let inventory = Inventory::of(view, &machine)?;
                    told.insert(worker, (machine.name, inventory));
                }
            }
            let writes = disk_writes(&creation.definition, &creation.inputs, |worker| {
                let (name, inventory) = told.get(worker)?;
                Some(Told {
                    name: name.clone(),
                    disks: inventory.as_ref().map(disks_of),
                })
            });
            let at = |write: &DiskWrite| {
                let mut told = told.values();
                let of = told.find(|(name, _)| *name == write.machine)?;
                Some(of.1.as_ref()?.at)
            };
            Ok(Preview {
                name: creation.name,
                warnings,
                writes: writes
                    .into_iter()
                    .map(|write| {
                        let at = at(&write);
                        (write, at)
                    })
                    .collect(),
                definition: creation.definition,
            })
        });
        let mut preview = preview.await?;
        preview
            .warnings
            .extend(self.without_containerd(&preview.definition));
        Ok(preview)
    }
}

fn disks_of(inventory: &Inventory) -> Vec<Map<String, Value>> {
    let disks = inventory.hardware.get("disks").and_then(Value::as_array);
    let disks = disks.into_iter().flatten().filter_map(Value::as_object);
    disks.cloned().collect()
}
