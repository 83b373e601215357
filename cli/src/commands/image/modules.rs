//! `farrier image modules`.

use std::path::PathBuf;
use std::process::ExitCode;

use image::{Carried, Driver, PciId};

use super::{directory, parsed};
use crate::failure::{Failure, chain};
use crate::terminal::Out;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier image modules --boot-dir boot
  farrier image modules --boot-dir boot --pci 8086:1572
  farrier image modules --boot-dir boot --pci 144d:a80a/010802

Reads the archives that machines get. IN says which: base is every machine's
initramfs, fetched is what the agent fetches over HTTP when it is needed, any
other name is that of an overlay, for machines that boot from such a card. Ids are those of lspci -nn; with the class
after a slash, drivers that go by class are found too (NVMe, AHCI). Exits with 1
when the image has no driver for the card.")]
pub(crate) struct ModulesArgs {
    /// Directory of the boot image
    #[arg(
        long,
        value_name = "DIR",
        env = "FARRIER_BOOT_DIR",
        hide_env_values = true,
        value_parser = directory
    )]
    boot_dir: PathBuf,
    /// Only the drivers of this card
    #[arg(long, value_name = "VENDOR:DEVICE[/CLASS]", value_parser = parsed::<PciId>)]
    pci: Option<PciId>,
}

pub(super) fn run(args: &ModulesArgs) -> Result<ExitCode, Failure> {
    let carried = Carried::read(&args.boot_dir).map_err(|error| Failure::Failed(chain(&error)))?;
    let drivers: Vec<Driver> = match &args.pci {
        Some(id) => carried.drivers_of(id),
        None => carried.modules().cloned().collect(),
    };
    if let (Some(id), true) = (&args.pci, drivers.is_empty()) {
        let class = if id.class.is_none() {
            format!(", nor one that goes by class, which {id}/CLASS would find")
        } else {
            String::new()
        };
        return Err(Failure::Failed(format!(
            "{} has no driver for {id}{class}: build it with --profile server, with a newer kernel (--suite, --kernel-package), or \
             with one of your own (--kernel, --modules)",
            args.boot_dir.display()
        )));
    }
    let rows = drivers.into_iter().map(|driver| {
        let from = driver.path.unwrap_or_else(|| "built in".to_owned());
        let missing = driver
            .firmware_missing
            .iter()
            .map(|name| format!("{name} (missing)"));
        let firmware: Vec<String> = driver.firmware.iter().cloned().chain(missing).collect();
        let needs = driver.needs.join(" ");
        vec![
            driver.name,
            driver.places.join(" "),
            driver.bytes.to_string(),
            from,
            needs,
            firmware.join(", "),
        ]
    });
    let head = ["MODULE", "IN", "BYTES", "FROM", "NEEDS", "FIRMWARE"];
    crate::output::table(&mut Out::stdout(), &head, rows)?;
    Ok(ExitCode::SUCCESS)
}
