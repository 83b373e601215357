//! Compiles the .proto files with protox: a plain `cargo build` needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["farrier/v1/agent.proto", "farrier/v1/control.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        // The same request is the same bytes: `idempotency_key` goes by them.
        .btree_map(".farrier.v1.LabelWorkflowRequest")
        // They carry secrets; `lib.rs` says what is shown of them.
        .skip_debug(["farrier.v1.RunAction", "farrier.v1.SetSecretRequest"])
        .compile_fds(files)?;
    Ok(())
}
