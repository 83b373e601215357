//! Compiles the .proto files with protox: a plain `cargo build` needs no protoc.

/// What is kept of machines, and shown to programs, has the names of these messages' fields.
const STORED: [&str; 14] = [
    "BlockDevice",
    "Bmc",
    "Board",
    "BondPort",
    "Chassis",
    "FirmwareRelease",
    "HardwareInventory",
    "ImageStore",
    "LldpNeighbour",
    "MemoryModule",
    "NetworkInterface",
    "Partition",
    "PciDevice",
    "Processor",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["farrier/v1/agent.proto", "farrier/v1/control.proto"], ["proto"])?;
    let mut generate = tonic_prost_build::configure();
    for message in STORED {
        let message = format!(".farrier.v1.{message}");
        // A row of an earlier version has fewer fields.
        generate = generate.message_attribute(
            message,
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        );
    }
    generate
        .codec_path("crate::codec::Codec")
        // The same request is the same bytes: `idempotency_key` goes by them.
        .btree_map(".farrier.v1.LabelWorkflowRequest")
        // A message has room for the largest of its parts.
        .boxed(".farrier.v1.AgentMessage.kind.inventory")
        .boxed(".farrier.v1.Hello.inventory")
        .boxed(".farrier.v1.Machine.inventory")
        .field_attribute(
            ".farrier.v1.HardwareInventory.images",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        .field_attribute(
            ".farrier.v1.NetworkInterface.neighbour",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        .field_attribute(
            ".farrier.v1.NetworkInterface.bond",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        // They carry secrets; `lib.rs` says what is shown of them.
        .skip_debug([
            "farrier.v1.GetPullSettingsRequest",
            "farrier.v1.PullSettings",
            "farrier.v1.RunAction",
            "farrier.v1.SetSecretRequest",
        ])
        .compile_fds(files)?;
    Ok(())
}
